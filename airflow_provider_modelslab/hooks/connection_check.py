"""The connection test: checks the endpoint, then the bucket, and says what to do about a problem.

It costs nothing at the endpoint, writes nothing to S3, and ends within about a minute even if a host does not answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_modelslab.api.errors import (
    AuthenticationError,
    InvalidRequestError,
    ModelsLabError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    StorageConfigurationError,
    TransportError,
)
from airflow_provider_modelslab.client.config import Timeouts, is_vendor
from airflow_provider_modelslab.compat import has_one_connection

if TYPE_CHECKING:
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

__all__ = ["check_connection", "s3_problem"]

_TIMEOUTS = Timeouts(connect=5.0, read=20.0, total=30.0)
_KEYS_PAGE = "https://modelslab.com/dashboard/api-keys"


def check_connection(hook: ModelsLabHook) -> tuple[bool, str]:
    """Read the server's state, and check the bucket that the connection names.

    :return: whether tasks can use the connection as it is, and a message without secrets for the user.
    """
    works, endpoint = _endpoint(hook)
    if not works:
        return False, endpoint
    usable, bucket = _bucket(hook)
    return usable, f"{endpoint} {bucket}"


def _endpoint(hook: ModelsLabHook) -> tuple[bool, str]:
    if not (hook.connection.password or "").strip():
        where = f"yours is on {_KEYS_PAGE}" if _at_vendor(hook) else "the one with which your endpoint was started"
        return False, f"The connection has no API key. Put it in the field API key (the password): {where}"
    hook.timeouts = _TIMEOUTS
    try:
        details = hook.system_details()
    except InvalidRequestError as error:
        problem = "; ".join(text for texts in error.fields.values() for text in texts)
        return False, f"The base URL (host) {problem or error.message}"
    except ModelsLabError as error:
        return False, f"{_sentence(error.message)} {_advice(hook, error)}"
    models, queue = details.get("model_count", "?"), details.get("queue_time", "?")
    return True, f"The video server at {hook.base_url} answers: {models} models, queue time {queue} s."


def _advice(hook: ModelsLabHook, error: ModelsLabError) -> str:
    """Advice for an error of the endpoint."""
    if isinstance(error, AuthenticationError):
        where = f"on {_KEYS_PAGE}" if _at_vendor(hook) else f"with which {hook.base_url} was started"
        return f"Compare it with the one {where}."
    if isinstance(error, PermissionDeniedError):
        return "The key is valid, but its plan does not include this server: video to video needs the Enterprise plan."
    if isinstance(error, PaymentRequiredError):
        return "The key is valid, but its account has no credits: top it up, or renew the plan."
    if isinstance(error, RateLimitError):
        return "The key is valid, but its rate limit is exceeded now: test again in a minute."
    if isinstance(error, TransportError) and error.http_status is not None:
        return (
            f"The server at {hook.base_url} is not the video API. Correct the base URL (host). Leave it empty "
            "for ModelsLab."
        )
    return (
        f"{hook.base_url} cannot be reached from this machine. Check the base URL (host; leave it empty for "
        "ModelsLab), the server, and firewalls and proxies."
    )


def _bucket(hook: ModelsLabHook) -> tuple[bool, str]:
    from airflow_provider_modelslab.storage.checks import require_listing

    try:
        profile = hook.s3_profile
    except StorageConfigurationError as error:
        return False, f"The S3 settings cannot work: {_sentence(error.message)}"
    if profile.bucket is None:
        return True, "The connection has no S3 bucket, so each task needs its own destination."
    credentials, missing = _credentials(hook)
    if missing and has_one_connection():
        return True, (
            f"The bucket {profile.bucket} was not checked: a test on a worker cannot read the AWS connection "
            f"{profile.aws_conn_id}. Test it at the API server, or with `airflow connections test`."
        )
    try:
        s3 = hook.new_s3_client(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1})
        require_listing(s3, profile.uri("_modelslab/"))
    except Exception as error:  # noqa: BLE001 - see s3_problem
        return False, s3_problem(hook, error)
    return True, f"The bucket {profile.bucket} can be reached with {credentials}; writing was not tried."


def s3_problem(hook: ModelsLabHook, error: Exception) -> str:
    """The message for an S3 client that cannot be made with the connection.

    :param error: of this package, or of the Amazon provider about its connection: a role, a profile...
    """
    credentials, missing = _credentials(hook)
    if isinstance(error, ModelsLabError):
        named = repr(hook.s3_profile.aws_conn_id) in error.message
        return f"{_sentence(error.message)} {'' if named else missing}".rstrip()
    why = _sentence(f"{type(error).__name__}: {error}")
    return f"No S3 client can be made from {credentials}: {why} {missing}".rstrip()


def _credentials(hook: ModelsLabHook) -> tuple[str, str]:
    """The source of the S3 credentials, and advice if their connection is missing."""
    aws_conn_id = hook.s3_profile.aws_conn_id
    try:
        hook.get_connection(aws_conn_id)
    except AirflowNotFoundException:
        advice = f"There is no AWS connection {aws_conn_id!r}: create it, or correct the field AWS connection."
        return "boto's default credentials", advice
    return f"the AWS connection {aws_conn_id}", ""


def _at_vendor(hook: ModelsLabHook) -> bool:
    try:
        return is_vendor(hook.base_url)
    except InvalidRequestError:
        return False


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
