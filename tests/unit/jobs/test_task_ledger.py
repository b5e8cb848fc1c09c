"""A paid job in an Airflow task: its policy, its attempt, and where its ledger is."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from airflow_provider_modelslab.compat import clear_drops_task_state
from airflow_provider_modelslab.jobs.task_ledger import (
    SUBMISSIONS_VARIABLE,
    TaskCaller,
    attempt_of,
    ledger_folder,
    open_ledger,
    policy_in_force,
    submission_name,
    task_key,
)
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.listing import result_folder, task_folder
from airflow_provider_modelslab.ledger.model import LedgerPolicy, SubmitNew, TaskKey
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.airflow_versions import AIRFLOW
from tests.support.paid_jobs import WANTED
from tests.support.task_state import TaskState
from tests.support.tasks import RUN_ID, TaskInstance, context_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

DESTINATION = S3Uri("clips", "out/k.mp4")
ATTEMPT = AttemptId("restyling", "restyle", RUN_ID)


def hook_of(**profile: Any) -> ModelsLabHook:
    """A hook without a connection."""
    return cast("ModelsLabHook", SimpleNamespace(s3_profile=S3Profile(**profile)))


def context_with(state: TaskState | None = None, **said: Any) -> Context:
    """A task's context, with ``said`` in the run's conf."""
    context = context_of(TaskInstance(dag_run=SimpleNamespace(conf={"modelslab": said} if said else None)))
    return cast("Context", {**context, "task_state_store": state}) if state else context


# -- what a person says -----------------------------------------------------------------------------------------------


def in_force(**said: Any) -> LedgerPolicy:
    return policy_in_force(LedgerPolicy(), context_with(**said))


def test_the_conf_of_a_run_goes_before_the_argument() -> None:
    assert in_force() == LedgerPolicy()
    assert in_force(reuse="never") == LedgerPolicy(reuse="never")
    assert in_force(on_changed_request="fail", submissions={}) == LedgerPolicy(on_changed_request="fail")


@pytest.mark.parametrize("conf", [{}, {"modelslab": None}, {"modelslab": "never"}])
def test_a_conf_that_says_nothing(conf: dict[str, Any]) -> None:
    context = cast("Context", {"dag_run": SimpleNamespace(conf=conf)})
    assert policy_in_force(LedgerPolicy("always"), context) == LedgerPolicy("always")


@pytest.mark.parametrize("said", ["once", "true", True, False, "", 2, None, []])
def test_what_a_conf_may_not_say(said: object) -> None:
    """Else a person would get the old result, or pay for a new one, without a word."""
    with pytest.raises(ValueError, match=r"^reuse: "):
        in_force(reuse=said)


def test_what_became_of_a_submission_is_in_the_conf_or_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"AIRFLOW_VAR_{SUBMISSIONS_VARIABLE.upper()}", '{"a": 7, "b": "resubmit", "c": ""}')
    caller = TaskCaller(context_with(submissions={"a": "8", "d": "9"}), SimpleNamespace(is_killed=False))
    assert [caller.resolution(name) for name in "abcde"] == ["8", "resubmit", None, "9", None]


def test_a_killed_task_claims_nothing() -> None:
    task = SimpleNamespace(is_killed=False)
    caller = TaskCaller(context_of(), task)
    caller.before_claim("track")
    task.is_killed = True
    with pytest.raises(InterruptedError):
        caller.before_claim("track")


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("map_index", "in_batch", "expected"),
    [
        (-1, False, f"restyling.restyle/{RUN_ID}/submission2"),
        (3, False, f"restyling.restyle[3]/{RUN_ID}/submission2"),
        (-1, True, f"restyling.restyle/{RUN_ID}/out/k.mp4/submission2"),
    ],
)
def test_submissions_are_named_after_the_task(map_index: int, in_batch: bool, expected: str) -> None:
    context = context_of(TaskInstance(map_index=map_index))
    caller = TaskCaller(context, SimpleNamespace(is_killed=False), in_batch=in_batch)
    assert caller.submission_name(2, DESTINATION) == expected
    assert submission_name(task_key(context), 2, DESTINATION.key if in_batch else None) == expected
    assert expected in caller.advice(expected)


@pytest.mark.parametrize(
    ("try_number", "max_tries", "retries", "first_try"),
    [(1, 3, 3, 1), (4, 3, 3, 1), (5, 7, 3, 5), (6, 7, 3, 5), (2, None, 3, 1), (2, 1, None, 2), (1, 5, 2, 1)],
)
def test_since_which_try_a_task_was_cleared(
    try_number: int, max_tries: Any, retries: int | None, first_try: int
) -> None:
    ti = TaskInstance(try_number=try_number, max_tries=max_tries)
    assert attempt_of(context_of(ti), retries=retries) == replace(ATTEMPT, try_number=try_number, first_try=first_try)


def test_a_task_without_a_map_index_is_not_mapped() -> None:
    ti = TaskInstance(map_index=cast("Any", None))
    assert task_key(context_of(ti)) == TaskKey("restyling", "restyle", RUN_ID)
    assert attempt_of(context_of(ti), retries=0).map_index == -1


# -- where the ledger is ----------------------------------------------------------------------------------------------


def test_a_ledger_is_named_after_the_destination_else_after_the_task() -> None:
    context, hook = context_of(), hook_of(bucket="home", prefix="p")
    root = S3Uri("clips", "_modelslab/ledger")
    assert hook_of().s3_profile.ledger_root(DESTINATION) == root
    assert ledger_folder(context, hook_of(), DESTINATION) == result_folder(root, DESTINATION)
    home = hook.s3_profile.ledger_root(None)
    assert home is not None
    assert ledger_folder(context, hook, None) == task_folder(home, task_key(context))
    assert ledger_folder(context, hook_of(), None) is None


def submit_once(context: Context) -> None:
    """A submission by a task without a bucket."""
    ledger = open_ledger(context, hook_of(), None)
    assert ledger.claim(1, WANTED, ATTEMPT, lease=300, name="name", track_id="track")
    ledger.record(1, Job("job1", "conn"))


def test_without_a_bucket_the_ledger_is_in_the_task_state(caplog: pytest.LogCaptureFixture) -> None:
    context = context_with(TaskState())
    submit_once(context)
    assert not isinstance(open_ledger(context, hook_of(), None).find(WANTED, LedgerPolicy(), ATTEMPT), SubmitNew)
    assert not [record for record in caplog.records if record.levelno > (logging.WARNING if AIRFLOW >= (3, 4) else 0)]


def test_without_a_bucket_and_task_state_there_is_no_memory(caplog: pytest.LogCaptureFixture) -> None:
    context = context_of()
    submit_once(context)
    assert isinstance(open_ledger(context, hook_of(), None).find(WANTED, LedgerPolicy(), ATTEMPT), SubmitNew)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


@pytest.mark.parametrize("drops", [True, False])
def test_a_ledger_that_a_clear_would_drop_is_warned_about(
    drops: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("airflow_provider_modelslab.jobs.task_ledger.clear_drops_task_state", lambda: drops)
    open_ledger(context_with(TaskState()), hook_of(), None)
    assert [record.levelno for record in caplog.records] == ([logging.WARNING] if drops else [])
    caplog.clear()
    assert clear_drops_task_state() == (AIRFLOW >= (3, 4))
