"""What S3 refused, as an error that names the permission or setting to change."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_modelslab.api.errors import LandingError
from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["code_of", "s3_failure", "status_of"]

_PERMISSIONS = {"HeadObject": "s3:GetObject", "GetObject": "s3:GetObject", "HeadBucket": "s3:ListBucket"}


def s3_failure(error: ClientError | BotoCoreError, target: S3Uri) -> LandingError:
    """What went wrong at S3, and which permission or setting to change. No download cures it."""
    if not isinstance(error, ClientError):
        return LandingError(
            f"S3 could not be reached for {target}: {error}. The result is paid for; run the task again to land it"
        )
    code = code_of(error)
    text = str(error.response.get("Error", {}).get("Message", "")).strip()
    if code == "NoSuchBucket":
        advice = (
            f"the bucket {target.bucket!r} does not exist at this endpoint and region; create it or correct the name"
        )
    elif code in {"AccessDenied", "403", "AllAccessDisabled"}:
        permission = _PERMISSIONS.get(error.operation_name, "s3:PutObject")
        advice = f"grant {permission} on arn:aws:s3:::{target.bucket}/* to the credentials of the AWS connection"
    elif code in {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}:
        advice = "check the credentials of the AWS connection"
    else:
        advice = "see the store's message"
    return LandingError(
        f"S3 refused {error.operation_name} of {target} in bucket {target.bucket!r} ({code} {text}): {advice}. "
        "The result is paid for; run the task again to land it",
        http_status=status_of(error),
    )


def status_of(error: ClientError) -> int | None:
    """The HTTP status of a refusal."""
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def code_of(error: ClientError) -> str:
    """S3's word for a refusal, such as ``NoSuchBucket``; empty where the store gave none."""
    return str(error.response.get("Error", {}).get("Code", ""))
