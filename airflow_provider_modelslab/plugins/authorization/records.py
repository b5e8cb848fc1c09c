"""The connection, job and clips of a task instance, from its arguments and its records in S3, never from an XCom alone.

A task's XComs can be edited through Airflow's API, and who triggers a Dag controls what its templates make of the run's
conf. So an XCom chooses neither the connection nor the job. An object that a run's conf names is signed only after it
was checked: a clip is checked before a job is submitted with it, and the ledger records the submission.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.listing import result_folder, task_folder
from airflow_provider_modelslab.ledger.model import Entries, Entry, Fingerprint, TaskKey, kind_of, number_of
from airflow_provider_modelslab.operators.arguments import instance_name, is_literal, resolve_destination
from airflow_provider_modelslab.plugins.gallery.store import UnreadableError, read_json
from airflow_provider_modelslab.plugins.json_values import as_mapping, sound_fields
from airflow_provider_modelslab.storage.s3_objects import list_pages
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage
    from airflow_provider_modelslab.plugins.task_results import TaskResult
    from airflow_provider_modelslab.storage.s3_profile import S3Profile

__all__ = ["NOT_SUBMITTED", "connection_of", "is_below", "is_in_s3", "may_expose_source", "names_job", "read_ledger"]

_ENTRY = re.compile(r"(\d{4,9}-[a-z]+(?:-[0-9a-f]+)?)\.json", re.ASCII)
_MAX_PAGES = 20
_MAX_ENTRIES = 1000

NOT_SUBMITTED = (
    "This clip is shown after its job is submitted. Its location was set at run time: it is not in the Dag's code, and "
    "not in the connection's bucket below its prefix."
)


def connection_of(task: TaskResult, named: object = None) -> str:
    """The connection that a task instance uses, by its arguments.

    :param named: the connection that an XCom names; it is only compared.
    :raises StorageConfigurationError: when the XCom names another one, or Airflow no longer has the argument.
    """
    job = task.argument("job")  # of another task: the job's connection takes precedence over this task's own
    own = as_mapping(job).get("conn_id") or task.argument("modelslab_conn_id")
    own = str(own or DEFAULT_CONN_NAME)
    if not is_literal(own):
        raise StorageConfigurationError(
            "It is unknown which connection this task used: Airflow keeps rendered fields only of a task's last runs, "
            "and in the Dag the connection is a template, or this version of the Dag was deleted"
        )
    if named and named != own:
        raise StorageConfigurationError(
            f"An XCom names the connection {named!r}, but the arguments of the task name {own!r}. Nothing was read"
        )
    return own


def read_ledger(task: TaskResult, store: GalleryStorage) -> Entries:
    """The task's own entries in the ledger of its result; empty if there is none in S3 or its location is unknown.

    A ledger is named after the destination, which other tasks may share: their submissions do not count for this task.

    :raises StorageConfigurationError: when S3 refuses.
    """
    me = AttemptId(task.dag_id, task.task_id, task.run_id, task.map_index, loop_index=task.loop_index)
    for folder in dict.fromkeys(_ledger_folders(task, store.profile)):
        entries = _load(store, folder)
        own = {number_of(name) for name, entry in entries.items() if _is_mark_of(me, name, entry)}
        if own:
            return {name: entry for name, entry in entries.items() if number_of(name) in own}
    return {}


def _load(store: GalleryStorage, folder: S3Uri) -> dict[str, dict[str, Any]]:
    """The newest entries of a ledger. Objects that are no entries are skipped: anyone may have put them there."""
    prefix = f"{folder.key}/"
    pages = islice(list_pages(store.s3, S3Uri(folder.bucket, prefix)), _MAX_PAGES)
    names = [match[1] for page in pages for item in page if (match := _ENTRY.fullmatch(item.key.removeprefix(prefix)))]
    entries = {}
    for name in sorted(names)[-_MAX_ENTRIES:]:
        try:
            body = store.read_uncached(folder.child(f"{name}.json"))
        except UnreadableError:
            continue
        if body is not None and (entry := read_json(body)):
            entries[name] = sound_fields(entry)
    return entries


def _is_mark_of(me: AttemptId, name: str, entry: Mapping[str, Any]) -> bool:
    """Whether an entry records that this task submitted the job, or waits for it too."""
    by = AttemptId.from_claim(entry) if kind_of(name) in {Entry.CLAIM, Entry.ATTACHED} else None
    return by is not None and by.is_same_task(me)


def names_job(task: TaskResult, store: GalleryStorage, job_id: str, sidecar: Mapping[str, Any]) -> bool:
    """Whether the task's arguments, the sidecar of its result or its ledger name the job.

    :raises StorageConfigurationError: when S3 refuses.
    """
    job = task.argument("job")
    given = job.get("job_id") if isinstance(job, Mapping) else job
    if is_literal(given) and _same(given, job_id):
        return True
    if _same(sidecar.get("job_id"), job_id):
        return True
    entries = read_ledger(task, store)
    landed = (as_mapping(entry.get("manifest")) for entry in _of_kind(entries, Entry.LANDED))
    known = [*_of_kind(entries, Entry.JOB), *landed]
    return any(_same(entry.get("job_id"), job_id) for entry in known)


def may_expose_source(
    task: TaskResult, store: GalleryStorage, source: str, sidecar: Mapping[str, Any], ledger: Entries | None = None
) -> bool:
    """Whether a link to the clip may be shown: a source other than an XCom or a run's conf names it.

    :param source: as it was recorded; ``True`` for an http(s) link or a local file, since neither is signed.
    :param sidecar: of the task's own result; empty if there is none.
    :param ledger: the ledger's entries, if they were read already.
    :raises StorageConfigurationError: for an invalid S3 URI, and when S3 refuses.
    """
    if not is_in_s3(source):
        return True
    uri = S3Uri.parse(source)
    if str(uri) == as_mapping(sidecar.get("request")).get("init_video") or task.declared.names_clip(str(uri)):
        return True
    if is_below(store.profile, uri) and str(uri) in _requested(task):
        return True
    ledger = read_ledger(task, store) if ledger is None else ledger
    jobs = _of_kind(ledger, Entry.JOB)
    if any(as_mapping(entry.get("request")).get("init_video") == str(uri) for entry in jobs):
        return True
    return _is_claimed(ledger, uri, store)


def is_in_s3(source: str) -> bool:
    """Whether the source is an S3 object, which would be signed; links and local files are not."""
    return source.partition("://")[0].strip().lower() == "s3"


def is_below(profile: S3Profile, uri: S3Uri) -> bool:
    """Whether an object lies in the connection's own bucket, below its prefix."""
    return profile.bucket is not None and str(uri).startswith(str(profile.uri()))


def _requested(task: TaskResult) -> list[Any]:
    """The clip, or the list of a batch's clips, that the task's own rendered arguments name."""
    job_clip = as_mapping(as_mapping(task.argument("job")).get("request")).get("init_video")
    return [task.argument("init_video"), task.argument("source"), job_clip]


def _is_claimed(ledger: Entries, uri: S3Uri, store: GalleryStorage) -> bool:
    """Whether a claim records the digest of the clip as it is now. A clip is checked before its claim is written."""
    from airflow_provider_modelslab.storage.inputs import identify_input

    claimed = [entry["source"] for entry in _of_kind(ledger, Entry.CLAIM) if entry.get("source") is not None]
    identity = identify_input(str(uri), lambda: store.s3) if claimed else None
    return identity is not None and Fingerprint.source_digest(identity) in claimed


def _of_kind(ledger: Entries, kind: Entry) -> list[Mapping[str, Any]]:
    return [entry for name, entry in ledger.items() if kind_of(name) == kind]


def _ledger_folders(task: TaskResult, profile: S3Profile) -> Iterator[S3Uri]:
    """The folders in which the ledger of the task's result may be.

    Airflow records neither whether the task lands its result, nor the ``output_type`` that a decorated function
    returned.
    """
    given, suffix = task.argument("destination"), task.argument("output_type")
    if is_literal(given):
        for ending in dict.fromkeys((_suffix(suffix), "mp4", "gif")):
            target = resolve_destination(given, profile, f"{instance_name(task, task.loop_index)}.{ending}")
            root = profile.ledger_root(target)
            if target is not None and root is not None:
                yield result_folder(root, target)
    root = profile.ledger_root(None)
    if root is not None:
        yield task_folder(root, TaskKey(task.dag_id, task.task_id, task.run_id, task.map_index, task.loop_index))


def _suffix(output_type: object) -> str:
    return output_type.strip().lower() if isinstance(output_type, str) and is_literal(output_type) else "mp4"


def _same(given: object, job_id: str) -> bool:
    return isinstance(given, str | int) and str(given).strip() == job_id
