"""Arguments of every write to S3, for buckets whose policy demands encryption, an ACL, tags and the like.

:func:`send_extra_args` registers them with a client. Every call of that client that creates an object then has them,
from any part of the package.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import StorageConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["checked_extra_args", "send_extra_args"]

_CREATES = frozenset({"CopyObject", "CreateMultipartUpload", "PutObject"})
_CHANGES = frozenset(
    {
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "DeleteObject",
        "DeleteObjects",
        "PutObjectAcl",
        "UploadPart",
        *_CREATES,
    }
)

_MORE = frozenset({"BucketKeyEnabled"})
"""Arguments of ``put_object`` and ``create_multipart_upload`` that boto3's transfers do not support."""

_PER_OBJECT = frozenset({"ChecksumType", "ContentEncoding", "ContentType", "MpuObjectSize"})
_OWN_METADATA = ("sha256", "modelslab-")
"""Metadata keys by which the package tells results and attempts apart."""


def checked_extra_args(given: object) -> dict[str, Any]:
    """``extra_args`` of a connection or an operator, if all of them are valid for every write.

    :param given: a mapping, or the same as JSON text. The value ``None`` removes an argument.
    :raises StorageConfigurationError: naming the key at fault.
    """
    if isinstance(given, str):
        text = given.strip()
        try:
            given = json.loads(text) if text else None
        except ValueError:
            raise _refused(f"is not valid JSON; got {text[:100]!r}") from None
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise _refused(f'must be an object such as {{"ServerSideEncryption": "aws:kms"}}; got {given!r:.100}')
    for name, value in given.items():
        problem = _problem(str(name), value)
        if problem:
            raise _refused(f"{name!r} {problem}")
    return {str(name): value for name, value in given.items()}


def send_extra_args(s3: S3Client, extra_args: Mapping[str, Any]) -> None:
    """Make a client send them.

    Calls that create an object get all arguments that they support. Calls that change one get ``ExpectedBucketOwner``,
    and all calls that support it, including reads and listings, get ``RequestPayer``. A presigned link has it in its
    query, since the reader of a link sends no headers.

    :param extra_args: see :func:`checked_extra_args`.
    """
    sent = {name: value for name, value in extra_args.items() if value is not None}
    if not sent:
        return
    events = s3.meta.events
    events.register("before-parameter-build.s3", partial(_add, sent), unique_id="modelslab-extra-args")
    if "RequestPayer" in sent:
        sign = partial(_add_payer_to_link, str(sent["RequestPayer"]))
        events.register("before-sign.s3.GetObject", sign, unique_id="modelslab-request-payer")


def _problem(name: str, value: object) -> str | None:
    from boto3.s3.transfer import S3Transfer  # late: every Dag that uses the hook imports this module

    known = {*S3Transfer.ALLOWED_UPLOAD_ARGS, *_MORE}
    if name.startswith("SSECustomer"):
        return (
            "is not supported: without its key, the endpoint and the UI cannot read such an object. Use "
            "ServerSideEncryption 'aws:kms' with SSEKMSKeyId"
        )
    if name in _PER_OBJECT or (name.startswith("Checksum") and name != "ChecksumAlgorithm"):
        return "differs from object to object, so the provider sets it itself"
    if name not in known:
        near = difflib.get_close_matches(name, sorted(known), n=1)
        return "is not an argument of put_object that can apply to every object" + (
            f"; did you mean {near[0]!r}?" if near else ""
        )
    if value is None:
        return None
    if name == "Metadata":
        return _metadata_problem(value)
    wanted = bool if name == "BucketKeyEnabled" else str
    if not isinstance(value, wanted) or value == "":
        return f"must be {'true or false' if wanted is bool else 'text'}; got {value!r:.100}"
    return None


def _metadata_problem(value: object) -> str | None:
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for pair in value.items() for item in pair):
        return f"must be an object of texts; got {value!r:.100}"
    own = next((name for name in value if name.lower().startswith(_OWN_METADATA)), None)
    return f"contains {own!r}, which the provider itself sets" if own else None


def _refused(problem: str) -> StorageConfigurationError:
    return StorageConfigurationError(f"extra_args: {problem}")


def _add(extra_args: Mapping[str, Any], params: dict[str, Any], model: Any, context: Any = None, **_: Any) -> None:
    operation, known = model.name, model.input_shape.members
    for name, value in extra_args.items():
        if name not in known or not _is_sent_with(name, operation):
            continue
        if name == "RequestPayer" and (context or {}).get("is_presign_request"):
            continue  # as a header it would be signed, and the reader of the link would have to send it
        if name == "ChecksumAlgorithm":
            params[name] = value
            if value != "SHA256":
                params.pop("ChecksumSHA256", None)  # S3 takes one checksum
        elif name == "Metadata":
            params[name] = {**value, **params.get(name, {})}
        else:
            params.setdefault(name, value)


def _is_sent_with(name: str, operation: str) -> bool:
    if name == "RequestPayer":
        return True
    if name == "ExpectedBucketOwner":
        return operation in _CHANGES
    return operation in _CREATES or (name == "ChecksumAlgorithm" and operation == "UploadPart")


def _add_payer_to_link(payer: str, request: Any, **_: Any) -> None:
    if request.context.get("is_presign_request"):
        request.params["x-amz-request-payer"] = payer
