"""Which ledgers may be deleted, by the names of their entries."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import ClipUnreadableError, ErrorCode
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import (
    Attach,
    Entry,
    Fingerprint,
    Hold,
    LedgerPolicy,
    Reuse,
    SubmitNew,
    decide,
    entry_name,
)
from airflow_provider_modelslab.ledger.retention import Closed, Open, State, forbids_payment, state_of


def names(*submissions: str) -> list[str]:
    return [f"{number:04d}-{kind}" for number, kinds in enumerate(submissions, 1) for kind in kinds.split()]


@pytest.mark.parametrize(
    ("submissions", "running"),
    [
        (["claim"], {1}),
        (["claim job"], {1}),
        (["claim unknown"], {1}),
        (["claim abandoned"], {1}),
        (["claim job abandoned"], {1}),
        (["claim job attached-0123456789abcdef"], {1}),
        (["unknown"], {1}),
        (["claim released job"], {1}),
        (["claim unknown resolved job"], {1}),
        (["claim job", "claim released"], {1}),
        (["claim job", "claim failed"], {1}),
        (["claim unknown", "claim job landed"], {1}),
        (["claim job landed", "claim"], {2}),
        (["claim job failed", "claim unknown"], {2}),
        (["claim job landed later"], {1}),
        ([], set()),
    ],
)
def test_what_may_run_or_is_unknown_stays(submissions: list[str], running: set[int]) -> None:
    assert state_of(names(*submissions)) == Open(frozenset(running))


@pytest.mark.parametrize(
    ("submissions", "state", "landed", "failed"),
    [
        (["claim job landed"], State.LANDED, (1,), ()),
        (["claim landed"], State.LANDED, (1,), ()),
        (["claim job failed"], State.FAILED, (), (1,)),
        (["claim job failed landed"], State.FAILED, (1,), (1,)),
        (["claim released"], State.REFUSED, (), ()),
        (["claim unknown resolved"], State.RESOLVED, (), ()),
        (["claim resolved"], State.RESOLVED, (), ()),
        (["claim job landed", "claim job failed"], State.FAILED, (1,), (2,)),
        (["claim job landed", "claim released"], State.LANDED, (1,), ()),
        (["claim job landed", "claim job landed"], State.LANDED, (1, 2), ()),
        (["claim unknown resolved", "claim job landed"], State.LANDED, (2,), ()),
    ],
)
def test_what_is_over_may_go_once_its_results_are_gone(
    submissions: list[str], state: State, landed: tuple[int, ...], failed: tuple[int, ...]
) -> None:
    assert state_of(names(*submissions)) == Closed(state, landed, failed)


@pytest.mark.parametrize("code", [*ErrorCode, "of a later version", None])
def test_a_failure_that_keeps_others_from_paying_is_known(code: str | None) -> None:
    """As the decision has it: where it does not submit, the ledger stays."""
    failed = {"error": {"code": code, "message": "no"}}
    claim = {"request": "r", "source": "s", "expires_at": 0}
    entries: dict[str, dict[str, Any]] = {"0001-claim": claim, "0001-job": {"job_id": "7"}, "0001-failed": failed}
    try:
        decide(entries, Fingerprint("r", "s"), LedgerPolicy(reuse="always"), AttemptId(), now=1.0)
    except ClipUnreadableError:
        assert forbids_payment(failed)
    else:
        assert not forbids_payment(failed)


@pytest.mark.parametrize("entry", [None, {}, {"error": None}, {"error": "clip_unreadable"}])
def test_an_odd_failure_keeps_nobody_from_paying(entry: Any) -> None:
    assert not forbids_payment(entry)


def test_no_decision_that_saves_a_payment_hangs_on_a_ledger_that_may_go() -> None:
    """Every ledger of one or two submissions: where it may go, the next attempt submits, or asks for a dead job."""
    kinds = [
        frozenset({Entry.CLAIM, *found})
        for size in range(4)
        for found in itertools.combinations([kind for kind in Entry if kind is not Entry.CLAIM], size)
    ]
    told: dict[Entry, dict[str, Any]] = {
        Entry.JOB: {"job_id": "7", "conn_id": "c"},
        Entry.LANDED: {"manifest": {"uri": "s3://b/k"}},
    }
    claim: dict[str, Any] = {"request": "r", "source": "s", "expires_at": 0}
    seen = 0
    for submissions in itertools.chain(zip(kinds), itertools.product(kinds, kinds)):
        entries: dict[str, dict[str, Any]] = {
            entry_name(number, kind): claim if kind is Entry.CLAIM else told.get(kind, {})
            for number, found in enumerate(submissions, 1)
            for kind in found
        }
        closed = state_of(entries)
        if isinstance(closed, Open):
            continue
        seen += 1
        choice = decide(
            entries,
            Fingerprint("r", "s"),
            LedgerPolicy(reuse="always"),
            AttemptId(),
            now=1.0,
            gone=closed.landed,
            is_dead=lambda _: False,
        )
        assert not isinstance(choice, Reuse | Hold)
        if isinstance(choice, Attach):
            assert choice.number in closed.landed  # its result was in S3, so ModelsLab has deleted it since
        else:
            assert isinstance(choice, SubmitNew)
    assert seen > 500
