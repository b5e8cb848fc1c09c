"""S3 errors: one classification by HTTP status and S3 code, and one translation to this package's exceptions.

:func:`kind_of` classifies an error, :func:`describe` explains it and names the permission or setting to change. The
exception depends on what S3 was used for:

- :func:`storage_error`: anything but the two below (buckets, ledgers, manifests, listings)
- :func:`landing_error`: a result that is paid for and is being written
- :func:`input_error`: the clip that a request names
"""

from __future__ import annotations

import ssl
from enum import StrEnum
from typing import TYPE_CHECKING

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_modelslab.api.errors import (
    InputRefusedError,
    InvalidRequestError,
    LandingError,
    StorageConfigurationError,
    StorageUnavailableError,
    TransportError,
)
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = [
    "NO_CONDITIONS",
    "S3_ERRORS",
    "S3Error",
    "S3ErrorKind",
    "code_of",
    "describe",
    "input_error",
    "invalid_input",
    "is_missing",
    "kind_of",
    "landing_error",
    "storage_error",
]

S3Error = ClientError | BotoCoreError

S3_ERRORS = (ClientError, BotoCoreError)
"""What boto raises, for ``except``: error responses, and calls without a response."""


class S3ErrorKind(StrEnum):
    """What happened, independent of the store's own error codes."""

    NO_OBJECT = "no_object"
    NO_BUCKET = "no_bucket"
    ACCESS_DENIED = "access_denied"
    CREDENTIALS = "credentials"
    KMS = "kms"
    ARCHIVED = "archived"
    NO_ACLS = "no_acls"
    WRONG_REGION = "wrong_region"
    PRECONDITION_FAILED = "precondition_failed"
    CONFLICT = "conflict"
    NOT_MODIFIED = "not_modified"
    INVALID_RANGE = "invalid_range"
    INVALID_REQUEST = "invalid_request"
    NOT_IMPLEMENTED = "not_implemented"
    UNAVAILABLE = "unavailable"
    SETTINGS = "settings"
    OTHER = "other"


NO_CONDITIONS = frozenset({S3ErrorKind.INVALID_REQUEST, S3ErrorKind.NOT_IMPLEMENTED})
"""Possible responses of a store that does not support ``If-None-Match`` or ``If-Match``."""

_PASSES = frozenset({S3ErrorKind.CONFLICT, S3ErrorKind.UNAVAILABLE})

_BY_CODE = {
    "AccessDenied": S3ErrorKind.ACCESS_DENIED,
    "AllAccessDisabled": S3ErrorKind.ACCESS_DENIED,
    "AccessControlListNotSupported": S3ErrorKind.NO_ACLS,
    "AuthorizationHeaderMalformed": S3ErrorKind.WRONG_REGION,
    "IllegalLocationConstraintException": S3ErrorKind.WRONG_REGION,
    "PermanentRedirect": S3ErrorKind.WRONG_REGION,
    "TemporaryRedirect": S3ErrorKind.WRONG_REGION,
    "ExpiredToken": S3ErrorKind.CREDENTIALS,
    "ExpiredTokenException": S3ErrorKind.CREDENTIALS,
    "InvalidAccessKeyId": S3ErrorKind.CREDENTIALS,
    "InvalidClientTokenId": S3ErrorKind.CREDENTIALS,
    "InvalidSecurity": S3ErrorKind.CREDENTIALS,
    "InvalidToken": S3ErrorKind.CREDENTIALS,
    "NotSignedUp": S3ErrorKind.CREDENTIALS,
    "RequestTimeTooSkewed": S3ErrorKind.CREDENTIALS,
    "SignatureDoesNotMatch": S3ErrorKind.CREDENTIALS,
    "TokenRefreshRequired": S3ErrorKind.CREDENTIALS,
    "UnrecognizedClientException": S3ErrorKind.CREDENTIALS,
    "InvalidObjectState": S3ErrorKind.ARCHIVED,
    "ObjectNotInActiveTierError": S3ErrorKind.ARCHIVED,
    "InvalidRange": S3ErrorKind.INVALID_RANGE,
    "NoSuchBucket": S3ErrorKind.NO_BUCKET,
    "NoSuchUpload": S3ErrorKind.OTHER,  # also a 404
    "NotImplemented": S3ErrorKind.NOT_IMPLEMENTED,
    "PreconditionFailed": S3ErrorKind.PRECONDITION_FAILED,
    # Busy stores: some of these come with HTTP 400 or 403, and one with 501.
    "BandwidthLimitExceeded": S3ErrorKind.UNAVAILABLE,
    "InternalError": S3ErrorKind.UNAVAILABLE,
    "LimitExceededException": S3ErrorKind.UNAVAILABLE,
    "ProvisionedThroughputExceededException": S3ErrorKind.UNAVAILABLE,
    "RequestLimitExceeded": S3ErrorKind.UNAVAILABLE,
    "RequestThrottled": S3ErrorKind.UNAVAILABLE,
    "RequestThrottledException": S3ErrorKind.UNAVAILABLE,
    "RequestTimeout": S3ErrorKind.UNAVAILABLE,
    "RequestTimeoutException": S3ErrorKind.UNAVAILABLE,
    "ServiceUnavailable": S3ErrorKind.UNAVAILABLE,
    "SlowDown": S3ErrorKind.UNAVAILABLE,
    "SlowDownRead": S3ErrorKind.UNAVAILABLE,
    "SlowDownWrite": S3ErrorKind.UNAVAILABLE,
    "ThrottledException": S3ErrorKind.UNAVAILABLE,
    "Throttling": S3ErrorKind.UNAVAILABLE,
    "ThrottlingException": S3ErrorKind.UNAVAILABLE,
    "TooManyRequests": S3ErrorKind.UNAVAILABLE,
    "TooManyRequestsException": S3ErrorKind.UNAVAILABLE,
}

_BY_STATUS = {
    301: S3ErrorKind.WRONG_REGION,
    302: S3ErrorKind.WRONG_REGION,
    304: S3ErrorKind.NOT_MODIFIED,
    307: S3ErrorKind.WRONG_REGION,
    308: S3ErrorKind.WRONG_REGION,
    400: S3ErrorKind.INVALID_REQUEST,
    401: S3ErrorKind.CREDENTIALS,
    403: S3ErrorKind.ACCESS_DENIED,
    404: S3ErrorKind.NO_OBJECT,
    405: S3ErrorKind.NOT_IMPLEMENTED,
    408: S3ErrorKind.UNAVAILABLE,
    409: S3ErrorKind.CONFLICT,
    412: S3ErrorKind.PRECONDITION_FAILED,
    416: S3ErrorKind.INVALID_RANGE,
    429: S3ErrorKind.UNAVAILABLE,
    501: S3ErrorKind.NOT_IMPLEMENTED,
}

_BUCKET_OPERATIONS = frozenset(
    {"CreateMultipartUpload", "DeleteObjects", "HeadBucket", "ListMultipartUploads", "ListObjectsV2"}
)
"""Those whose 404 can only be about the bucket."""

_TOKEN_OPERATIONS = frozenset(
    {"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "GetRoleCredentials", "GetSessionToken"}
)
"""Calls to other services by which boto gets credentials."""

_CREDENTIAL_ERRORS = tuple(
    getattr(exceptions, name)
    for name in (
        "CredentialRetrievalError",
        "LoginError",
        "MetadataRetrievalError",
        "NoAuthTokenError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "RefreshWithMFAUnsupportedError",
        "SSOError",
        "TokenRetrievalError",
        "UnknownCredentialError",
        "UnknownTokenProviderError",
    )
    if hasattr(exceptions, name)  # not every supported botocore has all of them
)

_CONNECTION_ERRORS = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,
    exceptions.IncompleteReadError,
    exceptions.ChecksumError,
    exceptions.FlexibleChecksumError,
)

_LOST_HANDSHAKES = (ssl.SSLEOFError, ssl.SSLZeroReturnError)

_PERMISSIONS = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
    "GetObject": "s3:GetObject",
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
    "PutObjectAcl": "s3:PutObjectAcl",
}
"""The permission for each operation; all others need ``s3:PutObject``."""

_MORE_PERMISSIONS = {
    "CopyObject": ", and s3:GetObject on the object that is copied",
    "GetObject": ", and s3:ListBucket on the bucket; without it, S3 answers the same for a missing object",
    "HeadBucket": ", or correct the bucket's name: it may belong to somebody else",
    "HeadObject": ", and s3:ListBucket on the bucket; without it, S3 answers the same for a missing object",
    "PutObjectAcl": ", and switch off BlockPublicAcls in the bucket's Block Public Access",
}

_ADVICE = {
    S3ErrorKind.CREDENTIALS: "check the credentials of the AWS connection",
    S3ErrorKind.KMS: "grant kms:Decrypt, and kms:GenerateDataKey to write, on the KMS key of the object or bucket",
    S3ErrorKind.ARCHIVED: "the object is archived; restore it first",
    S3ErrorKind.NO_ACLS: "the bucket has ACLs switched off (Object Ownership: bucket owner enforced); set Object "
    "Ownership to 'Bucket owner preferred'",
    S3ErrorKind.WRONG_REGION: "the bucket is in another region; correct region, and endpoint_url if it is set",
    S3ErrorKind.NOT_IMPLEMENTED: "this store does not have the operation",
    S3ErrorKind.UNAVAILABLE: "try again later",
    S3ErrorKind.CONFLICT: "another write of the same key is under way; try again later",
    S3ErrorKind.SETTINGS: "check region, endpoint_url, the proxy and the CA file",
}

_MAX_MESSAGE = 300


def kind_of(error: S3Error) -> S3ErrorKind:
    """Classify an error.

    The S3 code decides if it is known, else the status: the response to a ``HEAD`` has no code, and neither have the
    404s of some stores. Such a 404 counts as :attr:`S3ErrorKind.NO_OBJECT`, unless the operation is one on a bucket.
    """
    if not isinstance(error, ClientError):
        return _kind_without_answer(error)
    status, code = _status_of(error) or 0, code_of(error)
    known = _BY_CODE.get(code)
    if known is S3ErrorKind.UNAVAILABLE or "Throttl" in code:
        return S3ErrorKind.UNAVAILABLE
    if error.operation_name in _TOKEN_OPERATIONS and status < 500:
        return S3ErrorKind.CREDENTIALS
    if code.startswith("KMS") or (known in {None, S3ErrorKind.ACCESS_DENIED} and _names_kms(error)):
        return S3ErrorKind.KMS
    if known is not None:
        return known
    if status == 404 and error.operation_name in _BUCKET_OPERATIONS:
        return S3ErrorKind.NO_BUCKET
    return _BY_STATUS.get(status, S3ErrorKind.UNAVAILABLE if status >= 500 else S3ErrorKind.OTHER)


def is_missing(error: S3Error, where: S3Uri, s3: S3Client) -> bool:
    """Whether the error of a read means that the object does not exist.

    If ``s3:ListBucket`` is granted for a prefix only, S3 gives the same response for a missing object as for a
    forbidden one. A listing of just that key tells them apart.
    """
    if kind_of(error) is S3ErrorKind.NO_OBJECT:
        return True
    if kind_of(error) is not S3ErrorKind.ACCESS_DENIED:
        return False
    try:
        found = s3.list_objects_v2(Bucket=where.bucket, Prefix=where.key, MaxKeys=1).get("Contents", [])
    except S3_ERRORS:
        return False
    return all(item["Key"] != where.key for item in found)


def code_of(error: ClientError) -> str:
    """S3's error code, such as ``NoSuchBucket``; empty if the store sent none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def describe(error: S3Error, where: S3Uri | None = None) -> str:
    """What happened and which permission or setting to change, as one sentence without a full stop."""
    kind = kind_of(error)
    if isinstance(error, ClientError):
        what = f"S3 refused {error.operation_name}{f' of {where}' if where else ''} ({_answer(error)})"
    elif kind is S3ErrorKind.UNAVAILABLE:
        what = f"S3 could not be reached{f' for {where}' if where else ''} ({error})"
    else:
        what = f"S3 cannot be used{f' for {where}' if where else ''} ({type(error).__name__}: {error})"
    return f"{what}: {_advice(kind, error, where)}"


def storage_error(error: S3Error, where: S3Uri | None = None) -> StorageConfigurationError | StorageUnavailableError:
    """The exception for anything that every clip of a batch needs, such as a bucket, a ledger or a manifest."""
    cls = StorageUnavailableError if kind_of(error) in _PASSES else StorageConfigurationError
    return cls(describe(error, where), http_status=_status_of(error))


def landing_error(error: S3Error, where: S3Uri) -> LandingError:
    """The exception for a result that is paid for. Downloading it again does not help."""
    return LandingError(
        f"{describe(error, where)}. The endpoint keeps its results for 24 hours: until then, run the task again to "
        "land the result; this pays nothing",
        http_status=_status_of(error),
    )


def input_error(
    error: S3Error, where: S3Uri, s3: S3Client
) -> InvalidRequestError | StorageConfigurationError | TransportError:
    """The exception for a clip that cannot be read. Its class says whether the request, one object or S3 is at fault.

    :param s3: used for a second request, if a 404 does not say whether the object or the bucket is missing.
    """
    kind, status = kind_of(error), _status_of(error)
    if kind is S3ErrorKind.NO_OBJECT and not _is_bucket_there(error, where, s3):
        kind = S3ErrorKind.NO_BUCKET
    if kind is S3ErrorKind.NO_BUCKET:
        return invalid_input(f"the bucket {where.bucket!r} of {where} does not exist", status)
    if kind is S3ErrorKind.NO_OBJECT:
        return invalid_input(f"there is no object {where}", status)
    if kind is S3ErrorKind.INVALID_RANGE:
        return invalid_input(f"{where} is empty", status)
    if kind is S3ErrorKind.ARCHIVED:
        return invalid_input(
            f"{where} is archived ({_storage_class(error)}), so it cannot be read; restore it first", status
        )
    text = f"init_video: {describe(error, where)}"
    if kind in _PASSES:
        return TransportError(f"{text}. Nothing was sent", http_status=status)
    if kind is S3ErrorKind.CREDENTIALS or not isinstance(error, ClientError):
        return StorageConfigurationError(text, http_status=status)
    return InputRefusedError(text, http_status=status)


def invalid_input(problem: str, status: int | None = None) -> InvalidRequestError:
    """The exception for an invalid ``init_video``."""
    error = InvalidRequestError.of("init_video", problem)
    error.http_status = status
    return error


def _kind_without_answer(error: BotoCoreError) -> S3ErrorKind:
    if isinstance(error, _CREDENTIAL_ERRORS):
        return S3ErrorKind.CREDENTIALS
    if isinstance(error, exceptions.SSLError):
        # A handshake that the peer aborted is a lost connection; any other TLS error needs a change of settings.
        lost = any(isinstance(cause, _LOST_HANDSHAKES) for cause in _causes(error))
        return S3ErrorKind.UNAVAILABLE if lost else S3ErrorKind.SETTINGS
    return S3ErrorKind.UNAVAILABLE if isinstance(error, _CONNECTION_ERRORS) else S3ErrorKind.SETTINGS


def _causes(error: BaseException) -> list[BaseException]:
    """The error and its causes, which botocore and urllib3 store in different attributes."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        cause = todo.pop()
        if isinstance(cause, BaseException) and cause not in found:
            found.append(cause)
            wrapped = getattr(cause, "kwargs", {}).get("error")
            todo += [*cause.args, wrapped, getattr(cause, "reason", None), cause.__cause__]
    return found


def _status_of(error: S3Error) -> int | None:
    if not isinstance(error, ClientError):
        return None
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")


def _message_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Message", "")).strip()[:_MAX_MESSAGE]


def _names_kms(error: ClientError) -> bool:
    """Whether S3's message says that the KMS key is refused: the code is the same as for other refusals."""
    text = _message_of(error).lower()
    return _status_of(error) in {400, 403} and any(word in text for word in ("kms:", "kms key", "customer master key"))


def _storage_class(error: S3Error) -> str:
    response = error.response if isinstance(error, ClientError) else {}
    storage_class = response.get("StorageClass") or response.get("Error", {}).get("StorageClass")
    return str(storage_class or "InvalidObjectState")


def _answer(error: ClientError) -> str:
    status, code, message = _status_of(error), code_of(error), _message_of(error)
    parts = [f"HTTP {status}", code if code != str(status) else "", message]
    return ", ".join(part for part in parts if part)


def _advice(kind: S3ErrorKind, error: S3Error, where: S3Uri | None) -> str:
    operation = error.operation_name if isinstance(error, ClientError) else ""
    if kind is S3ErrorKind.NO_BUCKET:
        name = f"the bucket {where.bucket!r}" if where else "the bucket"
        return f"{name} does not exist at this endpoint and region; create it or correct the name"
    if kind is S3ErrorKind.NO_OBJECT:
        reads = operation.startswith(("Get", "Head", "Copy"))
        return "there is no such object" if reads else "there is no such bucket, or no object to replace"
    if kind is S3ErrorKind.ACCESS_DENIED:
        permission = _PERMISSIONS.get(operation, "s3:PutObject")
        below = "" if permission.startswith("s3:ListBucket") else "/*"
        resource = f" on arn:aws:s3:::{where.bucket}{below}" if where else ""
        more = _MORE_PERMISSIONS.get(operation, "")
        return f"grant {permission}{resource} to the credentials of the AWS connection{more}"
    if kind is S3ErrorKind.INVALID_REQUEST and operation.startswith("Head"):
        return "S3 gives no reason; check for an expired token and a wrong region"
    if isinstance(error, ClientError) and code_of(error) == "RequestTimeTooSkewed":
        return "set the clock of this machine"
    if any(getattr(cause, "reason", None) == "WRONG_VERSION_NUMBER" for cause in _causes(error)):
        return "the port uses http, not https; begin endpoint_url with http://"
    if isinstance(error, exceptions.ConnectionClosedError) and str(error.kwargs["endpoint_url"]).startswith("http://"):
        return "try again later; if the port uses https, begin endpoint_url with https://"
    if kind is S3ErrorKind.UNAVAILABLE and not isinstance(error, ClientError):
        return "try again later; if this continues, check endpoint_url, region and the proxy"
    return _ADVICE.get(kind, "see the store's message")


def _is_bucket_there(error: S3Error, where: S3Uri, s3: S3Client) -> bool:
    """The 404 of a ``HEAD`` has no code. A read has one, and needs no permission beyond that of the ``HEAD``."""
    if not isinstance(error, ClientError) or error.operation_name != "HeadObject":
        return True
    try:
        s3.get_object(Bucket=where.bucket, Key=where.key, Range="bytes=0-0")["Body"].close()
    except S3_ERRORS as read_error:
        return kind_of(read_error) is not S3ErrorKind.NO_BUCKET
    return True
