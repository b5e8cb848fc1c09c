"""A task instance's ledger: where it is kept, and what people may tell it from outside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable

from airflow_provider_modelslab.api.errors import SubmissionUnknownError
from airflow_provider_modelslab.storage.ledger import Fingerprint, LedgerPolicy, LedgerStore, TaskKey
from airflow_provider_modelslab.storage.ledger_stores import (
    MemoryLedgerStore,
    MirroredLedgerStore,
    S3LedgerStore,
    honours_conditional_puts,
)
from airflow_provider_modelslab.storage.purchase import Attempt, Landed, Ledger, Purchase, Send
from airflow_provider_modelslab.storage.writer import Writer

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = [
    "SUBMISSIONS_VARIABLE",
    "attempt_of",
    "buy_once",
    "open_ledger",
    "policy_in_force",
    "submission_name",
    "task_key",
]

log = logging.getLogger(__name__)

SUBMISSIONS_VARIABLE = "modelslab_submissions"
"""Airflow Variable, JSON: what people found out about submissions of unknown outcome, by their name."""

_STATE_KEY = "modelslab_ledger"


class TaskStateLedgerStore:
    """A ledger in Airflow's task state (3.3 and later), which outlives retries.

    It has no conditional write, so on its own it does not decide between two attempts in the same instant. Airflow
    keeps it for 30 days by default, and from 3.4 on drops it when a task is cleared.
    """

    def __init__(self, accessor: Any) -> None:
        self._accessor = accessor

    def load(self) -> dict[str, dict[str, Any]]:
        """All entries."""
        return dict(self._accessor.get(_STATE_KEY) or {})

    def names(self) -> Collection[str]:
        """The names of all entries."""
        return self.load().keys()

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Write one."""
        entries = self.load()
        if name in entries:
            return False
        self._accessor.set(_STATE_KEY, {**entries, name: dict(entry)})
        return True


def task_key(context: Context) -> TaskKey:
    """The task instance, whatever its try."""
    ti = context["ti"]
    return TaskKey(ti.dag_id, ti.task_id, ti.run_id, -1 if ti.map_index is None else ti.map_index)


def open_ledger(context: Context, hook: ModelsLabHook, target: S3Uri | None) -> Ledger:
    """The ledger of this task instance: in S3, mirrored to the task state where Airflow has one.

    With no bucket it is in the task state alone; without that too it is in memory, and a warning says what that means.
    """
    accessor = context.get("task_state_store")
    state = TaskStateLedgerStore(accessor) if accessor is not None else None
    root = hook.s3_profile.ledger_root(target)
    if root is None:
        if state is not None:
            return Ledger(state)
        log.warning(
            "There is no bucket and, below Airflow 3.3, no task state to remember in: a retry of this task will "
            "submit, and pay, again. Give a destination, or a bucket in the connection's extra"
        )
        return Ledger(MemoryLedgerStore())
    s3 = hook.get_s3_client()
    conditional = honours_conditional_puts(s3, root)
    if not conditional:
        log.warning(
            "THE S3 STORE OF %s IGNORES CONDITIONAL PUTS (If-None-Match). Retries are still paid once; two attempts at "
            "this task in the same instant may both pay. Use a store that honours them: AWS S3, Cloudflare R2, Ceph",
            root,
        )
    store: LedgerStore = S3LedgerStore(s3, root.child(task_key(context).digest()), conditional=conditional)
    return Ledger(MirroredLedgerStore(store, state) if state is not None else store)


def attempt_of(context: Context, *, retries: int | None, lease: float) -> Attempt:
    """Tell this try, and the first since the last clear, at which Airflow adds ``retries`` to the tries it had."""
    ti = context["ti"]
    tries = getattr(ti, "max_tries", None)
    first = max(1, tries - (retries or 0) + 1) if isinstance(tries, int) else 1
    key = task_key(context)
    names = {"dag_id": key.dag_id, "task_id": key.task_id, "run_id": key.run_id, "map_index": key.map_index}
    first = min(first, ti.try_number)
    return Attempt(ti.try_number, first, lease, names, Writer.of(ti).task_instance)


def policy_in_force(policy: LedgerPolicy, context: Context) -> LedgerPolicy:
    """The operator's policy with what the run's conf says: ``{"modelslab": {"reuse_landed": false, ...}}``.

    :raises ValueError: for a value that is not allowed.
    """
    given = _conf(context)
    known = {name: given[name] for name in LedgerPolicy.__dataclass_fields__ if name in given}
    return replace(policy, **known)


def submission_name(context: Context, take: int, clip: str | None = None) -> str:
    """``dag.task[map_index]/run/take1``: the name of one submission, and its track_id unless the task gives one.

    :param clip: which clip of a batch: ``dag.task/run/clip/take1``.
    """
    key = task_key(context)
    place = f"[{key.map_index}]" if key.map_index >= 0 else ""
    return "/".join(filter(None, (f"{key.dag_id}.{key.task_id}{place}", key.run_id, clip, f"take{take}")))


def buy_once(
    context: Context,
    ledger: Ledger,
    fingerprint: Fingerprint,
    policy: LedgerPolicy,
    attempt: Attempt,
    prepare: Callable[[], Send],
    *,
    name: Callable[[int], str],
    track_id: Callable[[int], str],
    record: Mapping[str, Any],
    conn_id: str,
    skip_landed: Callable[[Mapping[str, Any]], bool],
    before_claim: Callable[[], None] = lambda: None,
) -> Purchase | Landed:
    """:meth:`Ledger.acquire`, with what people found out about submissions of unknown outcome.

    :param name: of the submission of a take, under which people tell about it; see :func:`submission_name`.
    :param track_id: of the request of a take.
    :param record: the request's, noted with a job that a person found.
    :raises SubmissionUnknownError: when a person has to decide; the text says what to set where.
    :raises ModelsLabError: whatever ``prepare`` and the submit raise.
    """
    answers: dict[int, str] = {}  # what people said of takes of unknown outcome, and of these alone
    while True:
        resubmit = {take for take, told in answers.items() if told == "resubmit"}
        try:
            return ledger.acquire(
                fingerprint,
                policy,
                attempt,
                prepare,
                track_id=track_id,
                skip_landed=skip_landed,
                resubmit=resubmit,
                before_claim=before_claim,
            )
        except SubmissionUnknownError as error:
            told = None if error.take is None else _told_by_people(context, name(error.take))
            if told is None or error.take is None or error.take in answers:
                if policy.on_unknown_submission == "resubmit":
                    raise  # a retry submits again, after its delay
                raise SubmissionUnknownError(
                    _with_advice(error, name(error.take or 1)), take=error.take, job_id=error.job_id
                ) from error
            answers[error.take] = told
            if told != "resubmit":
                # Without effect where another attempt has just done the same, so the ledger is asked again.
                ledger.adopt(told, conn_id=conn_id, take=error.take, fingerprint=fingerprint, request=record)


def _told_by_people(context: Context, name: str) -> str | None:
    """What a person found out about a submission: the job's id, or ``"resubmit"``; ``None`` when nobody said.

    Looked up in the run's conf (``{"modelslab": {"submissions": {...}}}``) and in the Airflow Variable
    :data:`SUBMISSIONS_VARIABLE`.
    """
    found = (_conf(context).get("submissions") or {}).get(name)
    if found is None:
        found = (Variable.get(SUBMISSIONS_VARIABLE, default={}, deserialize_json=True) or {}).get(name)
    return str(found) if found else None


def _with_advice(error: SubmissionUnknownError, name: str) -> str:
    """The error's text, and what a person does next."""
    return (
        f"{error.message}. If the job is there, set the Airflow Variable {SUBMISSIONS_VARIABLE} to "
        f'{{"{name}": "<the job\'s id>"}}; if it is not, to {{"{name}": "resubmit"}}. Then clear the task'
    )


def _conf(context: Context) -> Mapping[str, Any]:
    conf = getattr(context.get("dag_run"), "conf", None) or {}
    given = conf.get("modelslab")
    return given if isinstance(given, Mapping) else {}
