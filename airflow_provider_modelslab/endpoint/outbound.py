"""Where callers may make the endpoint connect to, told when they ask for it.

What is connected to later is checked again at that moment, since a name can change its address: a webhook and an upload
by :func:`~airflow_provider_modelslab.net.addresses.checked_call`, ``init_video`` by the engine. What that will not
read fails the job.
"""

from __future__ import annotations

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.redaction import strip_path, strip_query
from airflow_provider_modelslab.endpoint.results.s3_details import S3Details
from airflow_provider_modelslab.net.addresses import (
    AddressError,
    PrivateAddressError,
    check_host,
    check_written_host,
)

__all__ = ["check_s3_host", "check_webhook_host", "problem_of"]


def check_webhook_host(webhook: str) -> None:
    """Refuse a webhook on an address, or on localhost, that will not be called.

    Nothing is looked up: a submit does not wait for DNS. A name is checked when the call is due; by then the job has
    ended, so a refusal is in the log alone.

    :raises InvalidRequestError: for ``webhook``, without its path, which is a secret.
    """
    try:
        check_written_host(webhook)
    except AddressError as error:
        raise _refusal("webhook", error, strip_path(webhook)) from None


def check_s3_host(details: S3Details) -> None:
    """Refuse S3 details whose host is unknown, or has an address that is not of the public internet.

    :raises InvalidRequestError: for ``endpoint_url``.
    """
    try:
        check_host(details.endpoint_url, allow_private=False)
    except AddressError as error:
        raise _refusal("endpoint_url", error, strip_query(details.endpoint_url)) from None


def problem_of(error: AddressError) -> str:
    """What is wrong with a host, and who can change that."""
    if isinstance(error, PrivateAddressError):
        return f"{error} (to allow private addresses, start the endpoint with --allow-private-addresses)"
    return str(error)


def _refusal(name: str, error: AddressError, given: str) -> InvalidRequestError:
    return InvalidRequestError.of(
        name, f"must have a host on the public internet: {problem_of(error)}; got {given[:200]!r}"
    )
