"""Task loops (Airflow 3.4): each iteration is a task of its own, and outside a loop nothing is named differently."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_modelslab.compat import loop_index
from airflow_provider_modelslab.jobs.task_ledger import attempt_of, submission_name, task_key
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import (
    Entry,
    Fingerprint,
    LedgerPolicy,
    Reuse,
    SubmitNew,
    TaskKey,
    decide,
    entry_name,
)
from airflow_provider_modelslab.links.media import push_links
from airflow_provider_modelslab.operators.arguments import result_name
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from tests.support.tasks import TaskInstance, context_of

if TYPE_CHECKING:
    from airflow.sdk import Context

FINGERPRINT = Fingerprint("request", "clip")


def in_loop(index: int | None, **ti: Any) -> Context:
    context = context_of(TaskInstance(**ti))
    return context if index is None else cast("Context", {**context, "loop": SimpleNamespace(index=index)})


def landed_by(attempt: AttemptId) -> dict[str, dict[str, Any]]:
    claim = {"request": "request", "source": "clip", "attempt": attempt.record(), "expires_at": 0}
    return {
        entry_name(1, Entry.CLAIM): claim,
        entry_name(1, Entry.JOB): {"job_id": "7"},
        entry_name(1, Entry.LANDED): {"manifest": {"uri": "s3://clips/a.mp4"}},
    }


def test_outside_a_loop_nothing_that_is_stored_has_changed() -> None:
    key = TaskKey("films", "restyle", "run", 2)
    assert key.digest() == hashlib.sha256(b"films\0restyle\0run\x002").hexdigest()
    attempt = AttemptId("films", "restyle", "run")
    assert "loop_index" not in attempt.record()
    marked = hashlib.sha256(b"films\0run").hexdigest()[:16]
    assert entry_name(1, Entry.ATTACHED, attempt) == f"0001-attached-{marked}"
    assert submission_name(key, 1) == "films.restyle[2]/run/submission1"
    assert loop_index(in_loop(None)) is None


@pytest.mark.parametrize("map_index", [-1, 4])
def test_each_iteration_has_its_own_names(map_index: int) -> None:
    contexts = [in_loop(index, map_index=map_index) for index in (None, 0, 1, 10)]
    keys = [task_key(context) for context in contexts]
    assert len({key.digest() for key in keys}) == 4
    assert len({submission_name(key, 1, "a.mp4") for key in keys}) == 4
    assert len({result_name(context) for context in contexts}) == 4
    assert "/loop10/" in f"{result_name(contexts[-1])}/"
    assert "/loop10/" in submission_name(keys[-1], 1)


def test_an_attempt_says_in_which_iteration_it_was() -> None:
    attempt = attempt_of(in_loop(2), retries=0)
    assert attempt.loop_index == 2
    assert AttemptId.from_claim({"attempt": attempt.record()}) == attempt
    odds: tuple[Any, ...] = ("2", None, [], 2.5)
    for odd in odds:
        read = AttemptId.from_claim({"attempt": {**attempt.record(), "loop_index": odd}})
        assert read is not None
        assert read.loop_index is None


def test_an_iteration_counts_as_a_run() -> None:
    first, second = (AttemptId("films", "restyle", "run", loop_index=index) for index in (0, 1))
    retry = AttemptId("films", "restyle", "run", try_number=2, loop_index=0)
    entries = landed_by(first)
    once = LedgerPolicy()
    assert isinstance(decide(entries, FINGERPRINT, once, retry, now=1), Reuse)
    assert isinstance(decide(entries, FINGERPRINT, once, second, now=1), SubmitNew)
    assert isinstance(decide(entries, FINGERPRINT, LedgerPolicy("always"), second, now=1), Reuse)
    outside = AttemptId("films", "restyle", "run")
    assert isinstance(decide(entries, FINGERPRINT, once, outside, now=1), SubmitNew)


def test_a_link_leads_to_its_iteration() -> None:
    operator = ModelsLabVideo2VideoOperator(task_id="restyle", model_id="m", prompt="p", init_video="https://h/a.mp4")
    pushed: dict[str, Any] = {}
    context = in_loop(3)
    ti = context["ti"]
    ti.xcom_push = lambda key, value: pushed.update({key: value})  # type: ignore[method-assign]
    push_links(context, operator, result="s3://clips/a.mp4")
    query = parse_qs(urlsplit(pushed["_link_ModelsLabResultLink"]).query)
    assert query["loop_index"] == ["3"]
