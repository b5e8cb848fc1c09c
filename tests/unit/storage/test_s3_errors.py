"""S3's answers, and boto's errors without an answer: what they mean, and that all callers agree about it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, cast

import pytest
import urllib3.exceptions
from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_modelslab.api.errors import (
    InputRefusedError,
    InvalidRequestError,
    LandingError,
    ModelsLabError,
    StorageConfigurationError,
    StorageUnavailableError,
    TransportError,
)
from airflow_provider_modelslab.storage.s3_errors import (
    S3Error,
    S3ErrorKind,
    describe,
    input_error,
    kind_of,
    landing_error,
    storage_error,
)
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLIP = S3Uri("clips", "in/a.mp4")
URL = "https://s3.example"


def answer(status: int, code: str, operation: str, message: str = "", **more: Any) -> ClientError:
    error = {"Code": code, "Message": message, **more}
    response: Any = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, operation)


class Bucket:
    """As much of an S3 client as is asked whether the object or the bucket is missing."""

    def __init__(self, refusal: S3Error | None = None) -> None:
        self.refusal = refusal
        self.asked = 0

    def get_object(self, **_: Any) -> None:
        self.asked += 1
        raise self.refusal or answer(404, "NoSuchKey", "GetObject")


def as_input(error: S3Error, bucket: Bucket | None = None) -> ModelsLabError:
    return input_error(error, CLIP, cast("S3Client", bucket or Bucket()))


K = S3ErrorKind
KMS_WORDS = "User: arn:aws:iam::1:user/a is not authorized to perform: kms:Decrypt on the resource"

# status, code, operation, message -> kind, class of storage_error, class of input_error
ANSWERS: list[tuple[int, str, str, str, S3ErrorKind, type[ModelsLabError], type[ModelsLabError]]] = [
    (404, "NoSuchKey", "GetObject", "", K.NO_OBJECT, StorageConfigurationError, InvalidRequestError),
    (404, "NoSuchVersion", "GetObject", "", K.NO_OBJECT, StorageConfigurationError, InvalidRequestError),
    (404, "404", "HeadObject", "", K.NO_OBJECT, StorageConfigurationError, InvalidRequestError),
    (404, "", "GetObject", "", K.NO_OBJECT, StorageConfigurationError, InvalidRequestError),
    (404, "NoSuchKey", "PutObject", "", K.NO_OBJECT, StorageConfigurationError, InvalidRequestError),
    (404, "NoSuchBucket", "GetObject", "", K.NO_BUCKET, StorageConfigurationError, InvalidRequestError),
    (404, "404", "HeadBucket", "", K.NO_BUCKET, StorageConfigurationError, InvalidRequestError),
    (404, "", "ListObjectsV2", "", K.NO_BUCKET, StorageConfigurationError, InvalidRequestError),
    (404, "NoSuchUpload", "UploadPart", "", K.OTHER, StorageConfigurationError, InputRefusedError),
    (403, "AccessDenied", "GetObject", "", K.ACCESS_DENIED, StorageConfigurationError, InputRefusedError),
    (403, "403", "HeadObject", "", K.ACCESS_DENIED, StorageConfigurationError, InputRefusedError),
    (403, "", "HeadBucket", "", K.ACCESS_DENIED, StorageConfigurationError, InputRefusedError),
    (403, "AllAccessDisabled", "PutObject", "", K.ACCESS_DENIED, StorageConfigurationError, InputRefusedError),
    (403, "AccessDenied", "GetObject", "on s3:GetObject of kms/a.mp4", K.ACCESS_DENIED, StorageConfigurationError,
     InputRefusedError),
    (403, "AccessDenied", "GetObject", KMS_WORDS, K.KMS, StorageConfigurationError, InputRefusedError),
    (400, "KMS.DisabledException", "GetObject", "", K.KMS, StorageConfigurationError, InputRefusedError),
    (403, "InvalidObjectState", "GetObject", "", K.ARCHIVED, StorageConfigurationError, InvalidRequestError),
    (403, "InvalidAccessKeyId", "GetObject", "", K.CREDENTIALS, StorageConfigurationError, StorageConfigurationError),
    (403, "SignatureDoesNotMatch", "PutObject", "", K.CREDENTIALS, StorageConfigurationError,
     StorageConfigurationError),
    (403, "RequestTimeTooSkewed", "GetObject", "", K.CREDENTIALS, StorageConfigurationError, StorageConfigurationError),
    (400, "ExpiredToken", "GetObject", "", K.CREDENTIALS, StorageConfigurationError, StorageConfigurationError),
    (401, "Unauthorized", "GetObject", "", K.CREDENTIALS, StorageConfigurationError, StorageConfigurationError),
    (403, "AccessDenied", "AssumeRole", "", K.CREDENTIALS, StorageConfigurationError, StorageConfigurationError),
    (400, "AuthorizationHeaderMalformed", "GetObject", "", K.WRONG_REGION, StorageConfigurationError,
     InputRefusedError),
    (301, "301", "HeadBucket", "", K.WRONG_REGION, StorageConfigurationError, InputRefusedError),
    (400, "AccessControlListNotSupported", "PutObjectAcl", "", K.NO_ACLS, StorageConfigurationError, InputRefusedError),
    (400, "BadDigest", "PutObject", "", K.INVALID_REQUEST, StorageConfigurationError, InputRefusedError),
    (400, "400", "HeadObject", "", K.INVALID_REQUEST, StorageConfigurationError, InputRefusedError),
    (416, "InvalidRange", "GetObject", "", K.INVALID_RANGE, StorageConfigurationError, InvalidRequestError),
    (412, "PreconditionFailed", "PutObject", "", K.PRECONDITION_FAILED, StorageConfigurationError, InputRefusedError),
    (409, "ConditionalRequestConflict", "PutObject", "", K.CONFLICT, StorageUnavailableError, TransportError),
    (304, "304", "GetObject", "", K.NOT_MODIFIED, StorageConfigurationError, InputRefusedError),
    (501, "NotImplemented", "PutObject", "", K.NOT_IMPLEMENTED, StorageConfigurationError, InputRefusedError),
    (501, "501", "HeadBucket", "", K.NOT_IMPLEMENTED, StorageConfigurationError, InputRefusedError),
    (405, "MethodNotAllowed", "PutObjectAcl", "", K.NOT_IMPLEMENTED, StorageConfigurationError, InputRefusedError),
    (500, "InternalError", "GetObject", "", K.UNAVAILABLE, StorageUnavailableError, TransportError),
    (200, "InternalError", "CompleteMultipartUpload", "", K.UNAVAILABLE, StorageUnavailableError, TransportError),
    (502, "", "GetObject", "", K.UNAVAILABLE, StorageUnavailableError, TransportError),
    (503, "SlowDown", "PutObject", "", K.UNAVAILABLE, StorageUnavailableError, TransportError),
    (501, "SlowDown", "GetObject", "", K.UNAVAILABLE, StorageUnavailableError, TransportError),
    (503, "503", "HeadObject", "", K.UNAVAILABLE, StorageUnavailableError, TransportError),
    (400, "RequestTimeout", "PutObject", "", K.UNAVAILABLE, StorageUnavailableError, TransportError),
    (400, "ThrottlingException", "AssumeRole", "", K.UNAVAILABLE, StorageUnavailableError, TransportError),
    (400, "KMS.ThrottlingException", "GetObject", "", K.UNAVAILABLE, StorageUnavailableError, TransportError),
    (408, "408", "HeadObject", "", K.UNAVAILABLE, StorageUnavailableError, TransportError),
    (429, "TooManyRequests", "ListObjectsV2", "", K.UNAVAILABLE, StorageUnavailableError, TransportError),
    (418, "Teapot", "GetObject", "", K.OTHER, StorageConfigurationError, InputRefusedError),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "operation", "message", "kind", "general", "of_input"), ANSWERS)
def test_what_an_answer_means(
    status: int,
    code: str,
    operation: str,
    message: str,
    kind: S3ErrorKind,
    general: type[ModelsLabError],
    of_input: type[ModelsLabError],
) -> None:
    error = answer(status, code, operation, message)
    assert kind_of(error) is kind
    made: list[tuple[type[ModelsLabError], ModelsLabError]] = [
        (general, storage_error(error, CLIP)),
        (LandingError, landing_error(error, CLIP)),
        (of_input, as_input(error)),
    ]
    for cls, problem in made:
        assert (type(problem), problem.code) == (cls, cls.code)
        assert problem.http_status == status


NO_ANSWERS: list[tuple[BotoCoreError, S3ErrorKind]] = [
    (exceptions.EndpointConnectionError(endpoint_url=URL), K.UNAVAILABLE),
    (exceptions.ConnectTimeoutError(endpoint_url=URL), K.UNAVAILABLE),
    (exceptions.ReadTimeoutError(endpoint_url=URL), K.UNAVAILABLE),
    (exceptions.ConnectionClosedError(endpoint_url=URL), K.UNAVAILABLE),
    (exceptions.ProxyConnectionError(proxy_url=URL), K.UNAVAILABLE),
    (exceptions.ResponseStreamingError(error="cut"), K.UNAVAILABLE),
    (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), K.UNAVAILABLE),
    (exceptions.SSLError(endpoint_url=URL, error=ssl.SSLEOFError(8, "EOF")), K.UNAVAILABLE),
    (
        exceptions.SSLError(endpoint_url=URL, error=urllib3.exceptions.SSLError(ssl.SSLEOFError(8, "EOF"))),
        K.UNAVAILABLE,
    ),
    (exceptions.SSLError(endpoint_url=URL, error=ssl.SSLCertVerificationError(1, "self-signed")), K.SETTINGS),
    (exceptions.NoRegionError(), K.SETTINGS),
    (exceptions.ParamValidationError(report="Invalid bucket name"), K.SETTINGS),
    (exceptions.NoCredentialsError(), K.CREDENTIALS),
    (exceptions.PartialCredentialsError(provider="env", cred_var="key"), K.CREDENTIALS),
    (exceptions.CredentialRetrievalError(provider="process", error_msg="no"), K.CREDENTIALS),
    (exceptions.TokenRetrievalError(provider="sso", error_msg="expired"), K.CREDENTIALS),
    (exceptions.UnauthorizedSSOTokenError(), K.CREDENTIALS),
    (exceptions.ProfileNotFound(profile="a"), K.CREDENTIALS),
]


@pytest.mark.parametrize(("error", "kind"), NO_ANSWERS, ids=lambda value: getattr(value, "value", type(value).__name__))
def test_what_it_means_that_there_is_no_answer(error: BotoCoreError, kind: S3ErrorKind) -> None:
    passes = kind is K.UNAVAILABLE
    assert kind_of(error) is kind
    assert type(storage_error(error, CLIP)) is (StorageUnavailableError if passes else StorageConfigurationError)
    assert type(as_input(error)) is (TransportError if passes else StorageConfigurationError)
    assert type(landing_error(error, CLIP)) is LandingError


@pytest.mark.parametrize("error", [answer(*row[:4]) for row in ANSWERS] + [error for error, _ in NO_ANSWERS])
def test_what_passes_by_itself_may_be_tried_again_and_nothing_else(error: S3Error) -> None:
    passes = kind_of(error) in {K.UNAVAILABLE, K.CONFLICT}
    assert storage_error(error, CLIP).retryable is as_input(error).retryable is passes


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (answer(403, "AccessDenied", "GetObject"), "s3:GetObject on arn:aws:s3:::clips/*"),
        (answer(403, "403", "HeadObject"), "s3:GetObject on arn:aws:s3:::clips/*"),
        (answer(403, "AccessDenied", "ListObjectsV2"), "s3:ListBucket on arn:aws:s3:::clips "),
        (answer(403, "AccessDenied", "UploadPart"), "s3:PutObject on arn:aws:s3:::clips/*"),
        (answer(403, "AccessDenied", "PutObjectAcl"), "Block Public Access"),
        (answer(403, "AccessDenied", "GetObject", KMS_WORDS), "kms:Decrypt"),
        (answer(404, "NoSuchBucket", "GetObject"), "the bucket 'clips' does not exist"),
        (answer(403, "RequestTimeTooSkewed", "GetObject"), "clock"),
        (answer(400, "AccessControlListNotSupported", "PutObjectAcl"), "Object Ownership"),
        (answer(400, "BadDigest", "PutObject", "The MD5 is another"), "HTTP 400, BadDigest, The MD5 is another"),
        (exceptions.NoCredentialsError(), "credentials of the AWS connection"),
        (exceptions.NoRegionError(), "region"),
    ],
)
def test_each_refusal_names_what_to_change(error: S3Error, says: str) -> None:
    for text in (describe(error, CLIP), str(storage_error(error, CLIP)), str(landing_error(error, CLIP))):
        assert says in text
        assert str(CLIP) in text
    assert describe(error)  # where the place is not known


def test_a_404_that_names_neither_object_nor_bucket_is_looked_into_once() -> None:
    there, gone = Bucket(), Bucket(answer(404, "NoSuchBucket", "GetObject"))
    assert "there is no object" in str(as_input(answer(404, "404", "HeadObject"), there))
    assert "the bucket 'clips'" in str(as_input(answer(404, "404", "HeadObject"), gone))
    assert "there is no object" in str(as_input(answer(404, "", "HeadObject"), Bucket(answer(403, "", "GetObject"))))
    assert "there is no object" in str(as_input(answer(404, "NoSuchKey", "GetObject"), gone))
    assert "the bucket 'clips'" in str(as_input(answer(404, "NoSuchBucket", "GetObject"), there))
    assert (there.asked, gone.asked) == (1, 1)


def test_an_archived_object_is_named_with_its_storage_class() -> None:
    error = as_input(answer(403, "InvalidObjectState", "GetObject", StorageClass="GLACIER"))
    assert isinstance(error, InvalidRequestError)
    assert "GLACIER" in error.fields["init_video"][0]
