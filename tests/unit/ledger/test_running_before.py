"""A job that still runs is found again behind later submissions that came to nothing."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import ChangedRequestError
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import Attach, Fingerprint, LedgerPolicy, Submission, SubmitNew, decide
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import MemoryLedgerStore
from airflow_provider_modelslab.storage.result_manifest import Job

FOX, WOLF = Fingerprint("a fox", "clip"), Fingerprint("a wolf", "clip")
RUN = AttemptId("films", "restyle", "run1")
OTHER = AttemptId("films", "other", "run1")


def claim(request: str, by: AttemptId) -> dict[str, Any]:
    return {"identity_version": 1, "request": request, "source": "clip", "attempt": by.record(), "expires_at": 0}


FAILED = {"error": {"code": "job_failed"}}
BEHIND = {
    "0001-claim": claim("a fox", RUN),
    "0001-job": {"job_id": "7"},
    "0002-claim": claim("a wolf", OTHER),
    "0002-job": {"job_id": "8"},
    "0002-failed": FAILED,
}


def decision(entries: dict[str, Any], fingerprint: Fingerprint) -> object:
    return decide(entries, fingerprint, LedgerPolicy(), RUN, now=1, is_dead=lambda process: False)


def test_it_is_waited_for() -> None:
    assert decision(BEHIND, FOX) == Attach(1, {"job_id": "7"})


def test_another_request_is_submitted() -> None:
    assert isinstance(decision(BEHIND, WOLF), SubmitNew)


@pytest.mark.parametrize("end", [{"0001-failed": FAILED}, {"0001-released": FAILED}])
def test_one_that_came_to_nothing_too_is_not(end: dict[str, Any]) -> None:
    assert isinstance(decision(BEHIND | end, FOX), SubmitNew)


def test_one_behind_a_job_that_runs_is_not() -> None:
    between = {"0003-claim": claim("a bear", OTHER), "0003-failed": FAILED}
    running = {name: entry for name, entry in BEHIND.items() if name != "0002-failed"}
    assert isinstance(decision(running | between, FOX), SubmitNew)


def test_it_may_be_landed() -> None:
    store = MemoryLedgerStore()
    store.entries = dict(BEHIND)
    ledger = Ledger(store)
    ledger.refuse_if_superseded(Submission(1, Job("7", "conn")))
    del store.entries["0002-failed"]
    with pytest.raises(ChangedRequestError):
        ledger.refuse_if_superseded(Submission(1, Job("7", "conn")))
