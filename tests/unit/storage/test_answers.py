"""What people said of a submission of unknown outcome holds for that one, and for no other."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from airflow_provider_modelslab.storage.ledger import Fingerprint, LedgerPolicy, Submit, decide
from airflow_provider_modelslab.storage.ledger_stores import MemoryLedgerStore
from airflow_provider_modelslab.storage.purchase import Attempt, Ledger, Purchase, Send

from airflow_provider_modelslab.api.errors import SubmissionUnknownError
from airflow_provider_modelslab.storage.manifest import Job

WANTED = Fingerprint("a request", None)
NOW = 1_800_000_000.0
LOST = {
    "claim": {"request": "a request", "claimed_at": "2027-01-15T08:00:00+00:00"},
    "unknown": {"code": "SystemExit"},
}


def lost(take: int) -> dict[str, dict[str, str]]:
    """The entries of a take whose answer was lost."""
    return {f"{take:04d}-{kind}": dict(entry) for kind, entry in LOST.items()}


def test_a_take_that_a_person_said_to_submit_again() -> None:
    choice = decide(lost(1), WANTED, LedgerPolicy(), now=NOW, resubmit={1})
    assert isinstance(choice, Submit)
    assert choice.take == 2


def test_the_answer_does_not_hold_for_the_next_take() -> None:
    with pytest.raises(SubmissionUnknownError) as caught:
        decide({**lost(1), **lost(2)}, WANTED, LedgerPolicy(), now=NOW, resubmit={1})
    assert caught.value.take == 2


def test_two_attempts_with_the_same_answer_submit_once() -> None:
    """The other one is quicker, and its answer is lost: the first must not take its own permission for a new one."""
    store, sent = MemoryLedgerStore(), []
    store.entries.update(lost(1))

    def prepare() -> Send:
        def send(take: int) -> tuple[Job, None]:
            sent.append(take)
            return Job("7", "conn"), None

        store.entries.update(lost(2))  # the other attempt, meanwhile
        return send

    ledger = Ledger(store, clock=lambda: NOW, sleep=lambda _: None, is_dead=lambda _: True)
    with pytest.raises(SubmissionUnknownError) as caught:
        ledger.acquire(WANTED, LedgerPolicy(), Attempt(), prepare, resubmit={1})
    assert (caught.value.take, sent) == (2, [])


def test_a_job_that_a_person_found_counts_from_its_claim() -> None:
    store = MemoryLedgerStore()
    store.entries.update(lost(1))
    ledger = Ledger(store, clock=lambda: NOW, sleep=lambda _: None, is_dead=lambda _: True)
    assert ledger.adopt("7", conn_id="conn", take=1)
    found = ledger.acquire(WANTED, LedgerPolicy(), Attempt(), _never)
    assert isinstance(found, Purchase)
    assert (found.job.job_id, found.resumed) == ("7", True)
    assert found.job.submitted_at == datetime(2027, 1, 15, 8, tzinfo=UTC).timestamp()


def test_what_is_asked_for_now_is_not_noted_with_a_job_that_was_for_something_else() -> None:
    store = MemoryLedgerStore()
    store.entries.update(lost(1))
    ledger = Ledger(store, clock=lambda: NOW, sleep=lambda _: None, is_dead=lambda _: True)
    other = Fingerprint("another request", None)
    assert ledger.adopt("7", conn_id="conn", take=1, fingerprint=other, request={"prompt": "a dog"})
    assert store.entries["0001-job"]["request"] == {}


def _never() -> Send:
    raise AssertionError("nothing is to be submitted")
