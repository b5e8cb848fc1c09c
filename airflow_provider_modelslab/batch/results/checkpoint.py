"""A batch on its way through a deferral: its plan and state as one object in S3.

The input may change while the batch waits: clips are moved away, new ones arrive. So may the Dag, and what is submitted
has to be what the plan's fingerprints stand for. So the process that goes on works from the plan that the first one
made. Links with a query may be signed, so they are not stored; they are taken from the task again, which still has
them.

Jobs and clips are told apart by the clips' numbers in the plan, so another attempt's plan would mix them up. The name
alone does not keep attempts apart: a run that was deleted and made anew counts its tries from one again, and a process
of the old one may still be at work. So what is saved has a mark, and what resumes says which one it expects.

It only saves work: a process that finds nothing to resume from plans anew, and the ledgers know what is paid for. So it
is deleted once a later try's state, or the batch's results manifest, is in S3.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import STORAGE_ERRORS, BatchSupersededError
from airflow_provider_modelslab.api.redaction import holds_secret, scrub
from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan
from airflow_provider_modelslab.ledger.model import Fingerprint
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS
from airflow_provider_modelslab.storage.s3_objects import list_pages, put_object, read_object
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from uuid import UUID

    from mypy_boto3_s3 import S3Client

__all__ = ["checkpoint_uri", "delete_checkpoints", "load_batch", "save_batch"]

log = logging.getLogger(__name__)

_SCHEMA_VERSION = 1
_NAME = re.compile(r"(?P<head>.+\.try)(?P<number>\d+)(?P<tail>\.state\.json\.gz)")


def checkpoint_uri(folder: S3Uri, name: str, try_number: int) -> S3Uri:
    """Where a try's plan and state are.

    Each try has its own: one that Airflow has given up may go on for a while, with a plan in which "clip 5" is another.

    :param name: of the batch, the same for each try.
    """
    return folder.child(f"{name}.try{try_number}.state.json.gz")


def save_batch(
    s3: S3Client, where: S3Uri, plan: BatchPlan, state: Mapping[str, Any], *, task_instance: UUID | None = None
) -> str:
    """Write a plan and the state of its work; return the mark of this plan of this attempt.

    :param state: plain JSON without secrets.
    :param task_instance: Airflow's id of the attempt.
    :raises StorageConfigurationError: when S3 refuses.
    """
    saved = {
        "schema_version": _SCHEMA_VERSION,
        "conn_id": plan.conn_id,
        "output": str(plan.output),
        "where": plan.where,
        "ignored": dict(plan.ignored),
        "duplicate_count": plan.duplicate_count,
        "common": {name: value for name, value in plan.common.items() if not holds_secret(value)},
        "clips": [_line(clip) for clip in plan],
    }
    mark = hashlib.sha256(json.dumps([str(task_instance), saved], default=str).encode()).hexdigest()
    body = json.dumps({**saved, "mark": mark, "state": state}, default=str)
    put_object(s3, where, gzip.compress(body.encode(), 5, mtime=0), "application/gzip")
    return mark


def load_batch(
    s3: S3Client, where: S3Uri, mark: str, common: Mapping[str, Any], plan_again: Callable[[], BatchPlan]
) -> tuple[BatchPlan, dict[str, Any], frozenset[int]] | None:
    """Read what :func:`save_batch` wrote: the plan, the state, and the clips whose links are known no more.

    ``None`` when it is not there: a later attempt has gone on, or somebody deleted it.

    :param mark: what it returned.
    :param common: the attributes that all clips share, as the task has them now; those that were stored go before them.
    :param plan_again: plans anew from the task's source; called only when a link was not stored.
    :raises StorageConfigurationError: when S3 refuses; clearing the task starts the batch anew, and pays for nothing
        twice.
    :raises BatchSupersededError: when another attempt has written there since.
    """
    body = read_object(s3, where)
    if body is None:
        return None
    saved = json.loads(gzip.decompress(body))
    if saved.get("mark") != mark:
        raise BatchSupersededError(
            f"{where} contains the plan of another attempt at this task. The Dag run was deleted and created again "
            "while a process of the old run was still working. Retry or clear the task: it plans again and continues "
            "with the jobs that are already paid for. But with reuse 'never', clearing pays again for results that "
            "have landed"
        )
    clips = [_clip(index, line) for index, line in enumerate(saved["clips"])]
    lost: set[int] = set()
    if any(line.get("secret") for line in saved["clips"]):
        fresh = {clip.destination: clip for clip in plan_again()}
        for index, line in enumerate(saved["clips"]):
            if not line.get("secret"):
                continue
            now = fresh.get(clips[index].destination)
            if now is not None and now.fingerprint == clips[index].fingerprint:
                clips[index] = replace(clips[index], source=now.source, overrides=now.overrides)
            else:
                lost.add(index)  # another clip is to go there now; this one's fingerprint must not stand for it
    stored = saved["common"]
    plan = BatchPlan(
        clips=tuple(clips),
        common={**{name: value for name, value in common.items() if holds_secret(value)}, **stored},
        conn_id=saved["conn_id"],
        output=S3Uri.parse(saved["output"]),
        where=saved["where"],
        ignored=saved["ignored"],
        duplicate_count=saved["duplicate_count"],
    )
    return plan, saved["state"], frozenset(lost)


def delete_checkpoints(s3: S3Client, where: S3Uri, mark: str | None = None) -> None:
    """Delete what the earlier tries of a batch saved, and with ``mark`` what this try saved, if that is still there.

    To be called when a later state is in S3. It costs a listing; where S3 refuses, they stay.

    :param where: this try's place, see :func:`checkpoint_uri`.
    :param mark: of this try, which has ended.
    """
    own = _NAME.fullmatch(where.key)
    assert own is not None  # noqa: S101 - checkpoint_uri made it
    try:
        found = [item.key for page in list_pages(s3, S3Uri(where.bucket, own["head"])) for item in page]
        earlier = [
            key
            for key in found
            if (name := _NAME.fullmatch(key))
            and name["head"] == own["head"]
            and int(name["number"]) < int(own["number"])
        ]
        if mark is not None and where.key in found and _checkpoint_tag(s3, where) == mark:
            earlier.append(where.key)
        for key in earlier:
            s3.delete_object(Bucket=where.bucket, Key=key)
    except (*STORAGE_ERRORS, *S3_ERRORS, ValueError, OSError) as error:
        log.debug("Saved states of this batch were not deleted below %s: %s", own["head"], error)


def _checkpoint_tag(s3: S3Client, where: S3Uri) -> str | None:
    body = read_object(s3, where)
    return None if body is None else json.loads(gzip.decompress(body)).get("mark")


def _line(clip: ClipPlan) -> dict[str, Any]:
    whole = {"source": clip.source, "overrides": dict(clip.overrides)}
    line = {
        **scrub(whole),
        "destination": str(clip.destination),
        "fingerprint": [clip.fingerprint.request, clip.fingerprint.source],
        "output_type": clip.output_type,
        "bytes": clip.bytes,
        "clip_version": clip.clip_version,
    }
    return {**line, "secret": True} if holds_secret(whole) else line


def _clip(index: int, line: Mapping[str, Any]) -> ClipPlan:
    return ClipPlan(
        index=index,
        source=line["source"],
        overrides=line["overrides"],
        destination=S3Uri.parse(line["destination"]),
        fingerprint=Fingerprint(*line["fingerprint"]),
        output_type=line["output_type"],
        bytes=line["bytes"],
        clip_version=line.get("clip_version"),
    )
