"""Storing a result in a bucket that a caller named, on a host that is no more trusted than the caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import requests
import urllib3
from botocore import exceptions
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from airflow_provider_modelslab.api.errors import LandingError
from airflow_provider_modelslab.endpoint.outbound import problem_of
from airflow_provider_modelslab.endpoint.results.s3_details import S3Details
from airflow_provider_modelslab.net.addresses import AddressError, UnknownHostError, checked_call
from airflow_provider_modelslab.net.call_limit import CallLimit, LimitedSession
from airflow_provider_modelslab.storage.redirects import stop_redirect_loops
from airflow_provider_modelslab.storage.s3_errors import S3ErrorKind, code_of, kind_of

__all__ = ["upload"]

_CONNECT_S, _READ_S = 10.0, 60.0
_TOTAL_S = 300.0  # for all attempts together, however slowly the service reads and answers
_MAX_ANSWER_BYTES = 1 << 20

_ERRORS: tuple[tuple[type[Exception], type[exceptions.BotoCoreError]], ...] = (
    (requests.exceptions.SSLError, exceptions.SSLError),
    (requests.ConnectTimeout, exceptions.ConnectTimeoutError),
    (requests.ReadTimeout, exceptions.ReadTimeoutError),
    (requests.ConnectionError, exceptions.EndpointConnectionError),
    (UnknownHostError, exceptions.EndpointConnectionError),
)


def upload(details: S3Details, name: str, clip: Path, media_type: str, *, allow_private_addresses: bool) -> None:
    """Put a file in the bucket, to be read by everybody.

    :param name: of the file in the image directory.
    :param allow_private_addresses: connect to any host, through the proxies of the environment. Otherwise each request
        goes to an address that was checked just now, and past the proxies.
    :raises LandingError: when it did not get there.
    """
    limit = CallLimit(_TOTAL_S, max_bytes=_MAX_ANSWER_BYTES)
    client = boto3.client(
        "s3",
        region_name=details.region_name,
        endpoint_url=details.endpoint,
        aws_access_key_id=details.aws_access_key_id,
        aws_secret_access_key=details.aws_secret_access_key,
        config=Config(
            signature_version="s3v4",
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            # Several S3-compatible services refuse the checksums that boto3 would add by itself.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "virtual" if details.virtual_host else "path"},
        ),
    )

    def send(request: AWSPreparedRequest, **_: Any) -> Any:  # boto's types know of no handler that answers
        return _send(request, limit, details.bucket, allow_private_addresses)

    client.meta.events.register("before-send.s3", send)
    stop_redirect_loops(client)
    try:
        with clip.open("rb") as stream:
            client.put_object(
                Bucket=details.bucket,
                Key=details.object_key(name),
                Body=stream,
                ACL="public-read",
                ContentType=media_type,
            )
    except exceptions.ClientError as error:
        denied = kind_of(error) in {S3ErrorKind.ACCESS_DENIED, S3ErrorKind.NO_ACLS}
        needs = "; it needs s3:PutObject and s3:PutObjectAcl, and a bucket that allows public ACLs" if denied else ""
        raise LandingError(
            f"the upload to bucket {details.bucket!r} was refused ({code_of(error) or kind_of(error)}){needs}"
        ) from None
    except AddressError as error:
        raise LandingError(f"the upload to bucket {details.bucket!r} was not started: {problem_of(error)}") from None
    except exceptions.BotoCoreError as error:
        raise LandingError(f"the upload to bucket {details.bucket!r} failed: {type(error).__name__}") from None
    finally:
        client.close()


def _send(request: AWSPreparedRequest, limit: CallLimit, bucket: str, allow_private: bool) -> AWSResponse:
    """Send what boto has signed, in its place; it takes an answer from here as one of its own connection.

    Errors are boto's own, since it repeats by their class; one that is not ends the upload.
    """
    headers = {
        _text(key): _text(value)
        for key, value in request.headers.items()
        # Not signed; without it the body is sent at once.
        if _text(key).lower() != "expect"
    }
    ca_bundle = botocore.session.get_session().get_config_variable("ca_bundle")
    try:
        with _called(request, headers, limit, ca_bundle, allow_private) as response:
            raw: Any = response.raw
            answer = AWSResponse(request.url, response.status_code, raw.headers, raw)
            len(answer.content)  # read now, and kept: the connection ends here
            return answer
    except (UnknownHostError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if limit.problem is not None:
            raise LandingError(f"the upload to bucket {bucket!r} failed: {limit.problem}") from None
        kinds = (kind for theirs, kind in _ERRORS if isinstance(error, theirs))
        raise next(kinds, exceptions.HTTPClientError)(endpoint_url=request.url, error=error) from None


def _called(
    request: AWSPreparedRequest, headers: Mapping[str, str], limit: CallLimit, ca_bundle: Any, allow_private: bool
) -> AbstractContextManager[requests.Response]:
    if allow_private:
        return _any_call(request, headers, limit, ca_bundle)
    return checked_call(
        request.method,
        request.url,
        allow_private=False,
        limit=limit,
        timeout=(_CONNECT_S, _READ_S),
        headers=headers,
        data=request.body,
        ca_bundle=ca_bundle,
    )


@contextmanager
def _any_call(
    request: AWSPreparedRequest, headers: Mapping[str, str], limit: CallLimit, ca_bundle: Any
) -> Iterator[requests.Response]:
    body: Any = request.body
    with (
        LimitedSession() as session,
        limit.applied(),
        session.request(
            request.method,
            request.url,
            headers={"Accept-Encoding": "identity", **headers},
            data=body,
            allow_redirects=False,
            stream=True,
            timeout=limit.timeouts(_CONNECT_S, _READ_S),
            verify=ca_bundle or True,
        ) as response,
    ):
        yield response


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
