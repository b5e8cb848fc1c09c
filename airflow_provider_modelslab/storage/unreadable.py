"""A clip in S3 that cannot be read, as the error that says whose trouble that is and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from airflow_provider_modelslab.api.errors import (
    InputRefusedError,
    RequestValidationError,
    StorageConfigurationError,
    TransportError,
)
from airflow_provider_modelslab.storage.failures import code_of, status_of
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["invalid", "unreadable"]

_OF_CREDENTIALS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}


def unreadable(
    s3: S3Client, uri: S3Uri, error: ClientError
) -> RequestValidationError | StorageConfigurationError | TransportError:
    """Why S3 does not give an object: it is not there, it is this object's own trouble, or everybody's.

    Not every store's 404 has a code that tells whether the key or the bucket is missing.
    """
    status, code = status_of(error), code_of(error)
    if status == 404:
        try:
            s3.head_bucket(Bucket=uri.bucket)
        except ClientError as bucket_error:
            if status_of(bucket_error) == 404:
                return invalid(f"the bucket {uri.bucket!r} of {uri} does not exist", status)
        return invalid(f"there is no object {uri}", status)
    if code == "InvalidObjectState":
        kind = error.response.get("StorageClass") or error.response["Error"].get("StorageClass")
        return invalid(f"{uri} is archived ({kind or code}), and S3 gives no archived object; restore it first", status)
    refused = f"init_video: S3 refused {error.operation_name} of {uri} (HTTP {status}, {code})"
    if status is None or status >= 500 or status in {408, 429}:
        return TransportError(f"{refused}; nothing was sent. Try again later", http_status=status)
    if code in _OF_CREDENTIALS:
        return StorageConfigurationError(f"{refused}. Check the credentials of the AWS connection", http_status=status)
    if "kms" in f"{code} {error.response['Error'].get('Message')}".lower():
        return InputRefusedError(
            f"{refused}. Grant kms:Decrypt on the key that it is encrypted with", http_status=status
        )
    return InputRefusedError(
        f"{refused}. Grant s3:GetObject on it, and s3:ListBucket, without which a missing key looks the same",
        http_status=status,
    )


def invalid(problem: str, status: int | None = None) -> RequestValidationError:
    """What is wrong with ``init_video``."""
    error = RequestValidationError.of("init_video", problem)
    error.http_status = status
    return error
