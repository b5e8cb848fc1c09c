"""Can this bucket do what is asked of it? Found out before anything is paid for, with the setting to change."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.storage.links import LinkFailure, credential_free_session, open_link, read_start
from airflow_provider_modelslab.storage.profile import S3Profile
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, S3ErrorKind, kind_of, storage_error
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

__all__ = ["check_public_bucket", "require_bucket"]

_TIMEOUT = (10.0, 30.0)


def require_bucket(s3: S3Client, bucket: str) -> None:
    """Make sure the bucket exists and the credentials may use it.

    :raises StorageConfigurationError: when it does not exist, may not be used, or lies in another region.
    :raises StorageUnavailableError: when S3 cannot be reached.
    """
    try:
        region = s3.head_bucket(Bucket=bucket).get("BucketRegion")
    except S3_ERRORS as error:
        raise storage_error(error, S3Uri(bucket)) from error
    # boto follows AWS to the right region silently. Presigned links and ModelsLab's server do not.
    if region and region != s3.meta.region_name and "amazonaws.com" in s3.meta.endpoint_url:
        raise StorageConfigurationError(
            f"The bucket {bucket!r} lies in region {region}, and the client works in {s3.meta.region_name}: set region "
            f"to {region}"
        )


def check_public_bucket(s3: S3Client, profile: S3Profile, session: requests.Session | None = None) -> list[str]:
    """Do once what ModelsLab's own server will do: put a file, make it public, and let anyone read it.

    :param profile: with ``bucket``; the file goes to its directory and is removed in any case.
    :return: the steps taken, for the log.
    :raises StorageConfigurationError: naming the permission or the setting to change.
    """
    place = profile.uri() if profile.prefix else profile.uri(f"{profile.directory}/")
    target = place.child(f"modelslab-check-{secrets.token_hex(8)}.txt")
    where: dict[str, Any] = {"Bucket": target.bucket, "Key": target.key}
    public_url = profile.public_base() + target.key.rpartition("/")[2]
    content = secrets.token_hex(16).encode()
    require_bucket(s3, target.bucket)
    steps = [f"the bucket {target.bucket} exists"]
    _call(target, lambda: s3.put_object(**where, Body=content, ContentType="text/plain"))
    try:
        steps.append(f"put {target}")
        steps.append(_make_public(s3, target))
        _read_anonymously(public_url, content, session)
        steps.append(f"read {public_url} without credentials")
    except BaseException:
        try:
            s3.delete_object(**where)
        except S3_ERRORS as error:
            log.warning("Could not delete the probe %s: %s", target, error)
        raise
    _call(target, lambda: s3.delete_object(**where))
    steps.append(f"deleted {target}")
    return steps


def _make_public(s3: S3Client, target: S3Uri) -> str:
    try:
        s3.put_object_acl(Bucket=target.bucket, Key=target.key, ACL="public-read")
    except S3_ERRORS as error:
        if kind_of(error) is S3ErrorKind.NOT_IMPLEMENTED:
            # R2 and others have no ACL per object and leave the public read to the bucket; the read tells.
            return "the store has no ACLs for objects, so the bucket itself must be public"
        raise storage_error(error, target) from error
    return "made it public with PutObjectAcl"


def _read_anonymously(url: str, content: bytes, session: requests.Session | None) -> None:
    own_session = session or credential_free_session()
    failure: LinkFailure | None = None
    read = b""
    try:
        with open_link(own_session, url, timeout=_TIMEOUT) as response:
            read = read_start(response, len(content) + 1)
    except LinkFailure as error:
        failure = error
    finally:
        if session is None:
            own_session.close()
    if failure:
        advice = (
            "let anyone read it: switch off Block Public Access (IgnorePublicAcls, RestrictPublicBuckets), or allow "
            "s3:GetObject for everyone in the bucket policy"
            if failure.status in {401, 403}
            else "correct public_url: it must lead to the directory that ModelsLab's server writes to"
        )
        raise StorageConfigurationError(
            f"{url} cannot be read without credentials ({failure.reason}): {advice}", http_status=failure.status
        )
    if read != content:
        raise StorageConfigurationError(
            f"{url} gives something else than was put there: correct public_url, which must lead to the directory that "
            "ModelsLab's server writes to, without a cache or a page in between"
        )


def _call(target: S3Uri, call: Callable[[], object]) -> None:
    try:
        call()
    except S3_ERRORS as error:
        raise storage_error(error, target) from error
