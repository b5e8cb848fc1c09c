"""A bucket with a company's policy: a proxy before moto, over TLS, that denies by the headers and prefixes really sent.

moto ignores the conditions of policies, accepts any credentials and lets no session end. The proxy also gives out the
sessions of AssumeRole itself, which last seconds, and refuses whatever is signed with one that has ended.
"""

from __future__ import annotations

import itertools
import re
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import urllib3

from airflow_provider_modelslab.storage.s3_profile import S3Profile
from tests.support.s3 import keys_of
from tools.stack.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["KMS", "Policy", "SeenCall", "StrictS3", "unencrypted"]

KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
KMS = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KMS_KEY}
"""``extra_args`` that satisfy a policy of :attr:`Policy.headers` as it is by default."""

CREATES = frozenset({"CopyObject", "CreateMultipartUpload", "PutObject"})
_ACCESS_KEY = re.compile(r"Credential=([^/,]+)/")
_DENIED = b"<Error><Code>AccessDenied</Code><Message>by the policy</Message></Error>"
_DROPPED = {"connection", "keep-alive", "transfer-encoding", "host"}


@dataclass
class Policy:
    """What one bucket demands; every other bucket is denied.

    :param prefix: the only one that is granted, for objects and for listings.
    :param headers: that each call which creates an object has to carry.
    :param payer: whether each call has to say that the requester pays.
    :param denied: operations that nobody may do.
    :param broken: operations that are answered with a status and a code in place of an answer, for ever.
    """

    bucket: str
    prefix: str = ""
    headers: Mapping[str, str] = field(
        default_factory=lambda: {
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": KMS_KEY,
        }
    )
    payer: bool = False
    denied: frozenset[str] = frozenset()
    broken: dict[str, tuple[int, str]] = field(default_factory=dict)


def unencrypted(s3: S3Client, bucket: str, *, but: str) -> list[str]:
    """The objects of a bucket that were written without the key of :data:`KMS`.

    :param but: the prefix of objects that the test has put there; beside them there have to be some.
    """
    written = [key for key in keys_of(s3, bucket) if not key.startswith(but)]
    assert written
    heads = {key: s3.head_object(Bucket=bucket, Key=key) for key in written}
    return [key for key, head in heads.items() if head.get("SSEKMSKeyId") != KMS["SSEKMSKeyId"]]


@dataclass(frozen=True)
class SeenCall:
    """A call, and the code with which it was refused; empty where it was passed on."""

    operation: str
    key: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    refused: str
    access_key: str


class StrictS3:
    """Use as a context manager; then as an :class:`~tools.stack.s3.S3Server`.

    :param server: what stands behind the proxy, which has its certificate.
    :param session_s: how long the sessions of AssumeRole last.
    """

    secret_key = "secret-of-the-strict-s3"

    def __init__(self, server: S3Server, policy: Policy, *, session_s: float = 3600.0) -> None:
        self.region = server.region
        self.policy = policy
        self.session_s = session_s
        self.access_key = "AKIALONGLIVED"
        self.seen: list[SeenCall] = []
        self.ends: dict[str, float] = {}
        self._ids = itertools.count(1)
        self._server = server
        self._pool = urllib3.PoolManager(ca_certs=str(server.ca_path), maxsize=32)
        self.ca_path = server.ca_path
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.certificate_path, server.key_path)
        owner = self

        class Handler(_Handler):
            strict = owner

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def endpoint_url(self) -> str:
        return f"https://127.0.0.1:{self._http.server_address[1]}"

    def profile(self, bucket: str | None = None, prefix: str = "") -> S3Profile:
        return S3Profile(bucket=bucket, prefix=prefix, region=self.region, endpoint_url=self.endpoint_url)

    @property
    def role(self) -> dict[str, Any]:
        """The extra of an AWS connection that assumes a role here."""
        return {
            "role_arn": "arn:aws:iam::123456789012:role/restyler",
            "service_config": {"sts": {"endpoint_url": self.endpoint_url}},
            "region_name": self.region,
        }

    def refused(self) -> list[SeenCall]:
        """What the policy denied."""
        return [call for call in self.seen if call.refused]

    def created(self) -> list[SeenCall]:
        """The calls that created something."""
        return [call for call in self.seen if call.operation in CREATES and not call.refused]

    def wait_for_the_end(self, access_key: str | None = None) -> None:
        """Return when a session has ended, or all that there are."""
        end = self.ends[access_key] if access_key else max(self.ends.values())
        while time.time() <= end:
            time.sleep(0.02)

    def __enter__(self) -> StrictS3:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join(30)
        self._http.server_close()
        self._pool.clear()

    def begin_session(self) -> tuple[str, float]:
        key, end = f"ASIASESSION{next(self._ids):06d}", time.time() + self.session_s
        self.ends[key] = end
        return key, end

    def problem(self, call: SeenCall, bucket: str) -> tuple[int, str] | None:
        """Why a call is refused: status and code."""
        policy = self.policy
        if call.access_key in self.ends and time.time() > self.ends[call.access_key]:
            return 400, "ExpiredToken"
        if call.operation in policy.broken:
            return policy.broken[call.operation]
        given = call.query.get("prefix", "") if call.operation.startswith("List") else call.key
        headers = {name: call.headers.get(name) for name in policy.headers}
        payer = call.headers.get("x-amz-request-payer") or call.query.get("x-amz-request-payer")
        if (
            bucket != policy.bucket
            or call.operation in policy.denied
            or (call.operation != "DeleteObjects" and not given.startswith(policy.prefix))
            or (call.operation in CREATES and headers != dict(policy.headers))
            or (policy.payer and payer != "requester")
        ):
            return 403, "AccessDenied"
        return None

    def forward(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> urllib3.BaseHTTPResponse:
        return self._pool.request(
            method,
            f"{self._server.endpoint_url}{target}",
            body=body,
            headers={name: value for name, value in headers.items() if name not in _DROPPED},
            redirect=False,
            retries=False,
            preload_content=True,
            decode_content=False,
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    strict: StrictS3
    timeout = 60

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def setup(self) -> None:
        self.request.do_handshake()
        super().setup()

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        place = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(place.query, keep_blank_values=True).items()}
        if place.path == "/" and b"Action=AssumeRole" in body:
            self._send(200, {"content-type": "text/xml"}, _session(*self.strict.begin_session()))
            return
        bucket, _, key = unquote(place.path).lstrip("/").partition("/")
        signed = headers.get("authorization", "") or f"Credential={query.get('X-Amz-Credential', '')}"
        found = _ACCESS_KEY.search(signed)
        operation = _operation(self.command, key, query, headers)
        call = SeenCall(operation, key, headers, query, "", found[1] if found else "")
        problem = self.strict.problem(call, bucket)
        self.strict.seen.append(replace(call, refused=problem[1] if problem else ""))
        if problem is not None:
            text = _DENIED.replace(b"AccessDenied", problem[1].encode())
            self._send(problem[0], {"content-type": "application/xml"}, text)
            return
        answer = self.strict.forward(self.command, self.path, headers, body)
        if answer.status == 404 and operation in {"GetObject", "HeadObject"} and self.strict.policy.prefix:
            # As AWS and Ceph answer: the right to list a prefix is none to list the bucket, and no 404 without that.
            self._send(403, {"content-type": "application/xml"}, _DENIED)
            return
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _DROPPED}
        self._send(answer.status, kept, answer.data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 - as http.server names them

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("content-length", str(len(body)))
        elif not any(name.lower() == "content-length" for name in headers):
            self.send_header("content-length", "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _operation(method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    if not key:
        if method == "POST" and "delete" in query:
            return "DeleteObjects"
        if method == "GET":
            return "ListMultipartUploads" if "uploads" in query else "ListObjectsV2"
        return {"HEAD": "HeadBucket", "PUT": "CreateBucket"}.get(method, method)
    if method == "PUT":
        if "partNumber" in query:
            return "UploadPart"
        if "acl" in query:
            return "PutObjectAcl"
        return "CopyObject" if "x-amz-copy-source" in headers else "PutObject"
    if method == "POST":
        return "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload"
    if method == "DELETE":
        return "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
    return {"GET": "GetObject", "HEAD": "HeadObject"}[method]


def _session(access_key: str, end: float) -> bytes:
    at = datetime.fromtimestamp(end, UTC).isoformat()
    return f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><AssumedRoleId>AROA:x</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/restyler/x</Arn>
</AssumedRoleUser><Credentials><AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
<SessionToken>token-of-{access_key}</SessionToken><Expiration>{at}</Expiration></Credentials></AssumeRoleResult>
<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>""".encode()
