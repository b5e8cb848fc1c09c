"""A paid job in an Airflow task: whose attempt it is, where its ledger is, and what people say about submissions."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow.sdk import Variable

from airflow_provider_modelslab.compat import clear_drops_task_state, loop_index
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.listing import LedgerRoot, result_folder, task_folder
from airflow_provider_modelslab.ledger.model import LedgerPolicy, LedgerStore, TaskKey
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import MemoryLedgerStore, MirroredLedgerStore, TaskStateLedgerStore

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.paid_job import PaidJob
    from airflow_provider_modelslab.storage.inputs import PreparedInput
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = [
    "SUBMISSIONS_VARIABLE",
    "TaskCaller",
    "attempt_of",
    "ledger_folder",
    "open_ledger",
    "policy_in_force",
    "resolution_advice",
    "submission_name",
    "task_key",
]

log = logging.getLogger(__name__)

SUBMISSIONS_VARIABLE = "modelslab_submissions"
"""Airflow Variable, JSON: what people found out about submissions of unknown outcome, by their name."""

_WAS_KILLED = "The task was killed. Jobs that are paid for are recorded, and a retry continues with them"


def task_key(context: Context) -> TaskKey:
    """The task instance, whatever its try."""
    ti = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    return TaskKey(ti.dag_id, ti.task_id, ti.run_id, map_index, loop_index(context))


def attempt_of(context: Context, *, retries: int | None) -> AttemptId:
    """The attempt that runs. After a clear Airflow adds ``retries`` to the tries that the task had."""
    ti, key = context["ti"], task_key(context)
    tries = getattr(ti, "max_tries", None)
    first = max(1, tries - (retries or 0) + 1) if isinstance(tries, int) else 1
    return AttemptId.of_task(
        ti, map_index=key.map_index, first_try=min(first, ti.try_number), loop_index=key.loop_index
    )


def policy_in_force(policy: LedgerPolicy, context: Context) -> LedgerPolicy:
    """The operator's policy with what the run's conf says: ``{"modelslab": {"reuse": "never", ...}}``.

    :raises ValueError: for a value that is not allowed.
    """
    given = _conf(context)
    known = {name: given[name] for name in LedgerPolicy.__dataclass_fields__ if name in given}
    return replace(policy, **known)


def ledger_folder(context: Context, hook: ModelsLabHook, destination: S3Uri | None) -> S3Uri | None:
    """Where the ledger of a task's result is: named after the destination, else after the task instance.

    ``None`` when neither the task nor the connection names a bucket.
    """
    root = hook.s3_profile.ledger_root(destination)
    if root is None:
        return None
    return result_folder(root, destination) if destination else task_folder(root, task_key(context))


def open_ledger(context: Context, hook: ModelsLabHook, destination: S3Uri | None) -> Ledger:
    """The ledger of a task's result: in S3, with a copy in the task state where Airflow has one (3.3 and later).

    With no bucket it is in the task state alone; without that too it is in memory, and a warning says what that means.
    """
    accessor = context.get("task_state_store")
    root, folder = hook.s3_profile.ledger_root(destination), ledger_folder(context, hook, destination)
    if root is None or folder is None:
        if accessor is not None:
            if clear_drops_task_state():
                log.warning(
                    "The ledger is only in Airflow's task state, because neither the task nor the connection names a "
                    "bucket. A retry does not pay again. But a clear pays again, because Airflow then deletes the task "
                    "state. To prevent this, give the task a destination, or set bucket in the connection's extra"
                )
            return Ledger(TaskStateLedgerStore(accessor))
        log.warning(
            "There is no ledger: neither the task nor the connection names a bucket, and Airflow before 3.3 has no "
            "task state. A retry of this task submits and pays again. To prevent this, give the task a destination. "
            "Or set bucket in the connection's extra; but this moves the ledgers of all tasks of the connection, so "
            "their earlier results are paid for again when they are requested again"
        )
        return Ledger(MemoryLedgerStore())
    ledgers = LedgerRoot(hook.get_s3_client(), root)
    if not ledgers.conditional:
        log.warning(
            "THE S3 STORE OF %s IGNORES CONDITIONAL PUTS (If-None-Match). Two attempts at this task at the same time "
            "may both pay; attempts one after the other do not. Use a store that supports conditional puts: AWS S3, "
            "Cloudflare R2, Ceph",
            root,
        )
    store: LedgerStore = ledgers.store(folder)
    if accessor is not None:
        # Another destination has another ledger, so the copies are kept apart too.
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        store = MirroredLedgerStore(store, TaskStateLedgerStore(accessor, f"modelslab_ledger_{name}"))
    return Ledger(store)


class Killable(Protocol):
    """An operator that notes when its task was killed."""

    is_killed: bool


class TaskCaller:
    """A task that runs paid jobs; see :class:`~airflow_provider_modelslab.jobs.paid_job.Caller`.

    :param task: the operator; once its ``on_kill`` has set ``is_killed``, nothing more is claimed.
    :param in_batch: whether the task has many jobs, so that a submission is named after its destination too.
    """

    def __init__(self, context: Context, task: Killable, *, in_batch: bool = False) -> None:
        self._context = context
        self._task = task
        self._in_batch = in_batch
        # The jobs of a batch are submitted by threads, and on Airflow 3.1 only one thread may ask the supervisor.
        self._in_variable = _resolutions() if in_batch else None

    def submission_name(self, number: int, destination: S3Uri | None) -> str:
        """See :func:`submission_name`."""
        clip = destination.key if self._in_batch and destination else None
        return submission_name(task_key(self._context), number, clip)

    def resolution(self, name: str) -> str | None:
        """What a person said in the run's conf (``{"modelslab": {"submissions": {...}}}``) or the Airflow Variable."""
        found = (_conf(self._context).get("submissions") or {}).get(name)
        if found is None:
            known = _resolutions() if self._in_variable is None else self._in_variable
            found = known.get(name)
        return str(found) if found else None

    def advice(self, name: str) -> str:
        """Which Variable to set to what."""
        return resolution_advice(name)

    def confirm(self, job: PaidJob, clip: PreparedInput | None) -> None:
        """Nobody is asked in a task."""

    def before_claim(self, track_id: str) -> None:
        """Refuse once the task was killed.

        :raises InterruptedError: then.
        """
        if self._task.is_killed:
            raise InterruptedError(_WAS_KILLED)


def resolution_advice(name: str) -> str:
    """How a person says what became of a submission, as sentences.

    :param name: see :func:`submission_name`.
    """
    return (
        f"If ModelsLab has the job, set the Airflow Variable {SUBMISSIONS_VARIABLE} to "
        f'{{"{name}": "<the job\'s id>"}}; this pays for nothing. If it does not, set the Variable to '
        f'{{"{name}": "resubmit"}}; this pays for a new job. Keep the other entries of the Variable. Then clear the '
        "task. To resubmit many at once, and pay for a new job for each: "
        "`airflow modelslab ledger resolve --unknown --since <time> --as resubmit`"
    )


def submission_name(task: TaskKey, number: int, clip: str | None = None) -> str:
    """``dag.task[map_index]/run/submission1``: its track_id too, unless the task gives one.

    In a task loop the iteration comes after the run: ``dag.task/run/loop0/submission1``.

    :param clip: which clip of a batch: ``dag.task/run/clip/submission1``.
    """
    mapped = f"[{task.map_index}]" if task.map_index >= 0 else ""
    iteration = None if task.loop_index is None else f"loop{task.loop_index}"
    parts = (f"{task.dag_id}.{task.task_id}{mapped}", task.run_id, iteration, clip, f"submission{number}")
    return "/".join(filter(None, parts))


def _resolutions() -> Mapping[str, Any]:
    return Variable.get(SUBMISSIONS_VARIABLE, default={}, deserialize_json=True) or {}


def _conf(context: Context) -> Mapping[str, Any]:
    conf = getattr(context.get("dag_run"), "conf", None) or {}
    given = conf.get("modelslab")
    return given if isinstance(given, Mapping) else {}
