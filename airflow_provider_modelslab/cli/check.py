"""``check``: is a connection ready for work? Each finding in a line, with what to do about it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.cli.common import FAILED, command, print_rows
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.ledger.stores import S3LedgerStore, honours_conditional_puts
from airflow_provider_modelslab.storage.checks import require_listing
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, describe

if TYPE_CHECKING:
    from argparse import Namespace

    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["check"]

_NO_CONDITIONS = (
    "The store ignores conditional puts. Two attempts at the same time may both pay; attempts one after the other do "
    "not. Use a store that supports conditional puts: AWS S3, Cloudflare R2, Ceph"
)


class Finding(NamedTuple):
    """A line of the report.

    :param result: ``ok``, ``warn`` or ``error``.
    """

    check: str
    result: str
    detail: str


@command
def check(args: Namespace) -> int | None:
    """Print the findings; fails when one of them is an error."""
    hook = open_hook(args.conn_id)
    found = list(_findings(hook, write=args.write))
    print_rows([finding._asdict() for finding in found], args.output)
    return FAILED if any(finding.result == "error" for finding in found) else None


def _findings(hook: ModelsLabHook, *, write: bool) -> Iterator[Finding]:
    yield Finding("connection", "ok", f"{hook.modelslab_conn_id}: {hook.base_url}")
    try:
        hook.get_conn()
    except ModelsLabError as error:
        yield Finding("key", "error", str(error))
    else:
        yield from _server(hook)
    yield from _storage(hook, write=write)


def _server(hook: ModelsLabHook) -> Iterator[Finding]:
    yield Finding("key", "ok", "is set")
    try:
        details = hook.system_details()
    except ModelsLabError as error:
        yield Finding("video server", "error", str(error))
    else:
        told = ", ".join(f"{name} {value}" for name, value in details.items() if not isinstance(value, dict | list))
        yield Finding("video server", "ok", told or "answers")


def _storage(hook: ModelsLabHook, *, write: bool) -> Iterator[Finding]:
    try:
        profile = hook.s3_profile
    except ModelsLabError as error:
        yield Finding("bucket", "error", str(error))
        return
    if profile.bucket is None:
        yield Finding(
            "bucket",
            "warn",
            'The connection names no bucket. Set "bucket" in its extra, or destination in each task. Set the bucket '
            "before tasks have results: it moves the ledgers, so earlier results are paid for again when requested",
        )
        return
    try:
        s3 = hook.get_s3_client()
        require_listing(s3, profile.uri("_modelslab/"))
    except ModelsLabError as error:
        yield Finding("bucket", "error", str(error))
        return
    except Exception as error:  # noqa: BLE001 - the Amazon provider raises many kinds for an AWS connection
        yield Finding(
            "bucket", "error", f"The AWS connection {profile.aws_conn_id!r} cannot make an S3 client: {error}"
        )
        return
    place = profile.uri()
    yield Finding("bucket", "ok", f"s3:ListBucket is allowed at {place}_modelslab/")
    if write:
        yield from _written(s3, place.child(f"modelslab-check-{secrets.token_hex(8)}.txt"))
    else:
        yield Finding(
            "s3:PutObject", "warn", "not tested; --write tests it with a small object, which costs nothing at ModelsLab"
        )
    yield _conditional(hook, s3, write=write)


def _written(s3: S3Client, probe: S3Uri) -> Iterator[Finding]:
    where: dict[str, Any] = {"Bucket": probe.bucket, "Key": probe.key}
    put = _call("s3:PutObject", probe, lambda: s3.put_object(**where, Body=b"probe", ContentType="text/plain"))
    yield put
    if put.result != "ok":
        return
    yield _call("s3:GetObject", probe, lambda: s3.get_object(**where)["Body"].read())
    deleted = _call("s3:DeleteObject", probe, lambda: s3.delete_object(**where))
    # Only the probes of checks are ever deleted, so work goes on without it.
    yield deleted if deleted.result == "ok" else deleted._replace(result="warn")


def _conditional(hook: ModelsLabHook, s3: S3Client, *, write: bool) -> Finding:
    root = hook.s3_profile.ledger_root(None)
    assert root is not None  # noqa: S101 - the connection has a bucket
    try:
        if write:
            honoured = honours_conditional_puts(s3, root)
        else:
            known = S3LedgerStore(s3, root).load_one("conditional-puts")
            if known is None:
                return Finding(
                    "conditional puts", "warn", "not known yet; --write tests it, and so does the first task"
                )
            honoured = bool(known["honoured"])
    except ModelsLabError as error:
        return Finding("conditional puts", "error", str(error))
    return (
        Finding("conditional puts", "ok", "honoured")
        if honoured
        else Finding("conditional puts", "warn", _NO_CONDITIONS)
    )


def _call(permission: str, place: S3Uri, call: Callable[[], object]) -> Finding:
    try:
        call()
    except S3_ERRORS as error:
        return Finding(permission, "error", describe(error, place))
    return Finding(permission, "ok", f"allowed at {place}")
