"""Lets a client send the small calls that a batch repeats without building each of them anew.

Most of the CPU time of a small put goes to build, sign and parse what is the same each time. So the request of the
first call of a kind is kept, as boto has built it. A later call differs in its key, its body and its signature, and is
sent over boto's own connections. Whatever does not end well is given to boto as the outcome of its own first attempt:
it repeats, follows redirects and raises as ever, and no call is sent more often.

Calls go through boto from end to end where somebody listens to them: with handlers of other packages, or a wrapper
around botocore (OpenTelemetry).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["repeat_cheaply"]

_PER_CALL = {
    "PutObject": frozenset({"Key", "Body", "ContentMD5", "ChecksumSHA256", "Metadata"}),
    "GetObject": frozenset({"Key"}),
}
"""By operation, the arguments that differ from call to call."""

_PER_KIND = {
    "PutObject": frozenset({"Bucket", "ContentType", "IfNoneMatch"}),
    "GetObject": frozenset({"Bucket", "Range"}),
}
"""Arguments that make another kind of call; with any other one a call goes through boto."""

_EVENTS = (
    *("provide-client-params", "before-parameter-build", "before-endpoint-resolution", "before-call"),
    *("request-created", "choose-signer", "before-sign", "before-send", "response-received", "after-call"),
)
_KNOWN_PACKAGES = ("botocore.", "boto3.", "airflow_provider_modelslab.")

_LARGE = 256 * 1024  # bytes; the requests of larger bodies are announced, see :mod:`boto_session`
_UNSIGNED = frozenset({"expect", "user-agent", "content-length"})
_BUILT_ANEW = frozenset(
    {
        *("authorization", "content-length", "content-md5", "x-amz-content-sha256", "x-amz-date"),
        *("x-amz-security-token", "amz-sdk-invocation-id", "amz-sdk-request", "x-amzn-trace-id", "x-amz-meta-sha256"),
        # of the checksums that boto computes by itself; the SHA-256 of the body takes their place
        *("content-encoding", "transfer-encoding", "x-amz-decoded-content-length", "x-amz-sdk-checksum-algorithm"),
    }
)
_SHA256 = "x-amz-checksum-sha256"
_CHECKSUM = re.compile("x-amz-(trailer|checksum-(?!mode))")
_LOSES_ITS_KIND = frozenset({400, 401, 403})
"""Responses, beside redirects, after which boto's own request is looked at again: of a new region, say."""


def repeat_cheaply(s3: S3Client) -> None:
    """Make this client repeat its small calls like that. Where botocore is built in another way, nothing changes."""
    client: Any = s3
    needed = (
        *("_make_api_call", "_get_credentials", "_endpoint._send", "_endpoint._response_parser_factory"),
        *("meta.events._emitter._handlers.prefix_search", "meta.events._emitter._lookup_cache"),
    )
    if all(_has(client, path) for path in needed):
        calls = _RepeatedCalls(client)
        client._endpoint._send, client._make_api_call = calls.send, calls.make


class _Kind(NamedTuple):
    """Calls of one kind have the same request but for :data:`_PER_CALL`."""

    operation: str
    names: frozenset[str]
    shared: frozenset[tuple[str, Any]]
    is_large: bool


@dataclass(frozen=True, slots=True)
class _Template:
    """What the requests of one kind have in common.

    :param base: the URL up to the key.
    :param path: the path of that URL.
    :param headers: by their names in lower case.
    :param has_checksum: whether boto sends a checksum by itself.
    """

    method: str
    base: str
    path: str
    headers: Mapping[str, str]
    has_checksum: bool
    signer: _Signer


class _RepeatedCalls:
    """The calls of one client; threads may share it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._send_now = client._endpoint._send
        self._templates: dict[_Kind, _Template | None] = {}
        self._in_thread = threading.local()
        self._lookups: object = None
        self._others: list[Any] = []

    def make(self, operation: str, params: dict[str, Any]) -> Any:
        """Takes the place of the client's ``_make_api_call``."""
        kind = _kind_of(operation, params)
        if kind is None or self._has_listeners():
            return self._through_boto(operation, params)
        if kind not in self._templates:
            return self._learn(kind, params)
        template = self._templates[kind]
        if template is None:
            return self._through_boto(operation, params)
        try:
            response = self._send_anew(template, kind, params)
        except Exception as error:  # noqa: BLE001 - boto decides what becomes of it
            return self._through_boto(operation, params, outcome=error)
        if response.status_code not in {200, 206}:
            if 300 <= response.status_code < 400 or response.status_code in _LOSES_ITS_KIND:
                self._templates.pop(kind, None)
            return self._through_boto(operation, params, outcome=response)
        return self._parsed(operation, response)

    def send(self, request: Any) -> Any:
        """Takes the place of the endpoint's ``_send``: what was sent already is not sent again."""
        outcome = getattr(self._in_thread, "outcome", None)
        if outcome is not None:
            self._in_thread.outcome = None
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        if getattr(self._in_thread, "is_learning", False):
            self._in_thread.request = request
        return self._send_now(request)

    def _through_boto(self, operation: str, params: dict[str, Any], *, outcome: object = None) -> Any:
        self._in_thread.outcome = outcome
        try:
            return type(self._client)._make_api_call(self._client, operation, params)
        finally:
            self._in_thread.outcome = None

    def _has_listeners(self) -> bool:
        """Whether others listen to the calls of this client; they would not hear of those that are repeated here."""
        if type(type(self._client)._make_api_call) is not types.FunctionType:
            return True
        if type(self._client)._make_api_call.__module__ != "botocore.client":
            return True
        emitter = self._client.meta.events._emitter
        if emitter._lookup_cache is not self._lookups:  # it is another one after each change of the handlers
            self._lookups = emitter._lookup_cache
            events = [f"{name}.s3.{operation}" for name in _EVENTS for operation in _PER_CALL]
            handlers = [handler for event in events for handler in emitter._handlers.prefix_search(event)]
            self._others = [handler for handler in handlers if not _module_of(handler).startswith(_KNOWN_PACKAGES)]
        # Each process that has imported moto has its handler, which is switched off outside of its mocks.
        return any(getattr(handler, "enabled", True) for handler in self._others)

    def _learn(self, kind: _Kind, params: dict[str, Any]) -> Any:
        """Call through boto, and keep the request that it has sent."""
        self._in_thread.is_learning, self._in_thread.request = True, None
        try:
            answer = self._through_boto(kind.operation, params)
            if self._in_thread.request is not None:
                self._templates[kind] = _template(self._in_thread.request, params["Key"], self._client)
            return answer
        finally:
            self._in_thread.is_learning, self._in_thread.request = False, None

    def _send_anew(self, template: _Template, kind: _Kind, params: dict[str, Any]) -> Any:
        from botocore.awsrequest import AWSPreparedRequest, HeadersDict
        from botocore.utils import percent_encode

        key, body = percent_encode(params["Key"], safe="/~"), params.get("Body")
        headers = {**template.headers, **_headers_of(template, params, body)}
        template.signer.sign(template.method, template.path + key, headers, self._client._get_credentials())
        if body is not None:
            headers["content-length"] = str(len(body))
        prepared = {name.title(): value.encode() for name, value in headers.items()}
        is_streamed = kind.operation == "GetObject"
        request = AWSPreparedRequest(
            template.method, template.base + key, HeadersDict(prepared), body or None, is_streamed
        )
        return self._send_now(request)

    def _parsed(self, operation: str, response: Any) -> Any:
        from botocore.endpoint import convert_to_response_dict

        model = self._client.meta.service_model.operation_model(operation)
        parser = self._client._endpoint._response_parser_factory.create_parser(model.service_model.resolved_protocol)
        answer = parser.parse(convert_to_response_dict(response, model), model.output_shape)
        answer["ResponseMetadata"]["RetryAttempts"] = 0
        return answer


class _Signer:
    """Signs requests with AWS's signature version 4, in the headers.

    :param region: of the store.
    :param scheme: the beginning of the header, which names the algorithm.
    """

    def __init__(self, region: str, scheme: str) -> None:
        self._region = region
        self._scheme = scheme
        self._key: tuple[tuple[str, str], bytes] = (("", ""), b"")

    def sign(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        credentials: Any,
        *,
        now: Callable[[], str] = lambda: datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
    ) -> None:
        """Add the headers of the signature.

        :param path: as it is sent; nothing follows it.
        :param headers: with ``host`` and ``x-amz-content-sha256``, by their names in lower case.
        """
        frozen, moment = credentials.get_frozen_credentials(), now()
        headers["x-amz-date"] = moment
        if frozen.token:
            headers["x-amz-security-token"] = frozen.token
        names = sorted(name for name in headers if name not in _UNSIGNED)
        signed = ";".join(names)
        lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
        canonical = f"{method}\n{path}\n\n{lines}\n{signed}\n{headers['x-amz-content-sha256']}"
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        text = f"{self._scheme}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key_of(frozen.secret_key, moment[:8]), text.encode(), "sha256").hex()
        headers["authorization"] = (
            f"{self._scheme} Credential={frozen.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )

    def _key_of(self, secret: str, day: str) -> bytes:
        known, key = self._key
        if known != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = (secret, day), key
        return key


def _has(client: Any, path: str) -> bool:
    for name in path.split("."):
        client = getattr(client, name, None)
    return client is not None


def _module_of(handler: Any) -> str:
    return getattr(getattr(handler, "func", handler), "__module__", "") or ""


def _kind_of(operation: str, params: Mapping[str, Any]) -> _Kind | None:
    """The kind of a call; ``None`` for calls that are not repeated here."""
    if operation not in _PER_CALL or not _PER_CALL[operation] | _PER_KIND[operation] >= params.keys():
        return None
    key, body, metadata = params.get("Key"), params.get("Body"), params.get("Metadata", {})
    if not isinstance(key, str) or not key or key.startswith("/"):
        return None
    if operation == "PutObject" and not isinstance(body, bytes | bytearray):
        return None
    if operation == "GetObject" and "Range" not in params:
        return None
    if not metadata.keys() <= {"sha256"}:
        return None
    shared = frozenset((name, value) for name, value in params.items() if name in _PER_KIND[operation])
    return _Kind(operation, frozenset(params), shared, body is not None and len(body) > _LARGE)


def _template(request: Any, key: str, client: Any) -> _Template | None:
    """What a request of boto has in common with others of its kind; ``None`` if it cannot be signed here."""
    from botocore.utils import percent_encode

    key = percent_encode(key, safe="/~")
    headers = {name.lower(): _text(value) for name, value in request.headers.items()}
    scheme, _, credential = headers.get("authorization", "").partition(" Credential=")
    scope = credential.partition(",")[0].split("/")
    if not request.url.endswith(f"/{key}") or scheme != "AWS4-HMAC-SHA256" or scope[-2:] != ["s3", "aws4_request"]:
        return None
    base = request.url[: -len(key)]
    parts = urlsplit(base)
    headers.setdefault("host", parts.netloc)
    signer = _Signer(scope[-3], scheme)
    again = {name: value for name, value in headers.items() if name in _names_signed(headers["authorization"])}
    signer.sign(request.method, parts.path + key, again, client._get_credentials(), now=lambda: headers["x-amz-date"])
    if again["authorization"] != headers["authorization"]:
        return None  # boto signs in another way: in a session of S3 Express, with another key
    checksums = {name for name in headers if _CHECKSUM.match(name)}
    shared = {name: value for name, value in headers.items() if name not in _BUILT_ANEW | checksums}
    return _Template(request.method, base, parts.path, shared, bool(checksums), signer)


def _names_signed(authorization: str) -> frozenset[str]:
    return frozenset(authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")) - {"x-amz-date"}


def _headers_of(template: _Template, params: Mapping[str, Any], body: bytes | bytearray | None) -> dict[str, str]:
    """The headers of one call that are no part of its signature's."""
    given = params.get("ChecksumSHA256")
    digest = base64.b64decode(given) if given else hashlib.sha256(body or b"").digest()
    headers = {"x-amz-content-sha256": digest.hex()}
    if given:
        headers[_SHA256] = given
    elif template.has_checksum:
        headers |= {_SHA256: base64.b64encode(digest).decode(), "x-amz-sdk-checksum-algorithm": "SHA256"}
    if "ContentMD5" in params:
        headers["content-md5"] = params["ContentMD5"]
    if "Metadata" in params:
        headers["x-amz-meta-sha256"] = params["Metadata"]["sha256"]
    return headers


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
