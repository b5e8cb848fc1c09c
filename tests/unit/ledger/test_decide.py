"""The rules by which an attempt decides, from entries alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from airflow_provider_modelslab.storage.ledger import (
    Attach,
    Decision,
    Entry,
    Fingerprint,
    Hold,
    LedgerPolicy,
    Reuse,
    Submit,
    TaskKey,
    decide,
    entry_name,
    last_take,
    next_take,
    stale_take,
)
from airflow_provider_modelslab.storage.writer import Writer

from airflow_provider_modelslab.api.errors import ChangedRequestError, SubmissionUnknownError
from tests.support.task_ids import made_at

WANTED = Fingerprint("request", "source")
OTHER = Fingerprint("another request", "source")
NOW = 1000.0
CLAIM = {"request": "request", "source": "source", "expires_at": NOW + 60, "owner": {"host": "h"}, "try_number": 1}
JOB = {"job_id": "7", "conn_id": "c"}
MANIFEST = {"uri": "s3://b/k"}
UNKNOWN_IS_FINE = LedgerPolicy(on_unknown_submission="resubmit")


def entries(*takes: Mapping[Entry, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """A ledger: for each take its entries, a claim included."""
    return {
        entry_name(number, kind): entry
        for number, take in enumerate(takes, 1)
        for kind, entry in {Entry.CLAIM: CLAIM, **take}.items()
    }


def decided(
    ledger: Mapping[str, Mapping[str, Any]],
    policy: LedgerPolicy | None = None,
    *,
    fingerprint: Fingerprint = WANTED,
    dead: bool = False,
    now: float = NOW,
    first_try: int = 1,
    names: Mapping[str, Any] | None = None,
    writer: Writer | None = None,
) -> Decision:
    return decide(
        ledger,
        fingerprint,
        policy or LedgerPolicy(),
        now=now,
        first_try=first_try,
        names=names,
        writer=writer,
        is_dead=lambda owner: dead,
    )


def test_nothing_was_submitted() -> None:
    assert decided({}) == Submit(1, "nothing was submitted before")


def test_a_refused_take_is_followed_by_another() -> None:
    assert decided(entries({Entry.RELEASED: {}})) == Submit(2, "the submit before was refused")


def test_a_job_is_attached_to() -> None:
    assert decided(entries({Entry.JOB: JOB})) == Attach(1, JOB)


def test_an_abandoned_job_is_attached_to() -> None:
    assert decided(entries({Entry.JOB: JOB, Entry.ABANDONED: {}})) == Attach(1, JOB)


def test_a_landed_take_is_reused() -> None:
    assert decided(entries({Entry.JOB: JOB, Entry.LANDED: MANIFEST})) == Reuse(1, MANIFEST)
    assert decided(entries({Entry.LANDED: MANIFEST})) == Reuse(1, MANIFEST)


@pytest.mark.parametrize("job", [{Entry.JOB: JOB}, {}])
def test_a_failed_take_is_followed_by_another(job: Mapping[Entry, Mapping[str, Any]]) -> None:
    assert decided(entries({**job, Entry.FAILED: {"code": "job_lost"}})) == Submit(
        2, "the job before failed (job_lost)"
    )


def test_a_landed_result_outweighs_that_another_attempt_took_the_job_for_lost() -> None:
    assert decided(entries({Entry.JOB: JOB, Entry.FAILED: {}, Entry.LANDED: MANIFEST})) == Reuse(1, MANIFEST)


def test_a_refused_take_does_not_hide_what_was_paid_for_before_it() -> None:
    landed = {Entry.JOB: JOB, Entry.LANDED: MANIFEST}
    assert decided(entries(landed, {Entry.RELEASED: {}})) == Reuse(1, MANIFEST)
    assert decided(entries({Entry.JOB: JOB}, {Entry.RELEASED: {}}, {Entry.RELEASED: {}})) == Attach(1, JOB)
    with pytest.raises(SubmissionUnknownError, match=r"^Take 1 "):
        decided(entries({Entry.UNKNOWN: {}}, {Entry.RELEASED: {}}))
    again = decided(entries({Entry.UNKNOWN: {}}, {Entry.RELEASED: {}}), UNKNOWN_IS_FINE)
    assert isinstance(again, Submit)
    assert again.take == 3


def test_a_live_claim_is_held() -> None:
    assert decided(entries({})) == Hold(1, NOW + 60, {"host": "h"})
    assert decided(entries({Entry.RELEASED: {}}, {})) == Hold(2, NOW + 60, {"host": "h"})


@pytest.mark.parametrize(
    ("ledger", "dead", "now"),
    [
        pytest.param(entries({}), True, NOW, id="its owner is dead"),
        pytest.param(entries({}), False, NOW + 60, id="its time is over"),
        pytest.param(entries({Entry.UNKNOWN: {}}), False, NOW, id="no answer came"),
        pytest.param(entries({Entry.ABANDONED: {}}), True, NOW, id="killed"),
        pytest.param({"0001-unknown": {}}, False, NOW, id="the claim itself is lost"),
    ],
)
def test_a_claim_without_an_id(ledger: Mapping[str, Mapping[str, Any]], dead: bool, now: float) -> None:
    with pytest.raises(SubmissionUnknownError, match="may be running and billed") as caught:
        decided(ledger, dead=dead, now=now)
    assert caught.value.take == 1
    assert isinstance(decided(ledger, UNKNOWN_IS_FINE, dead=dead, now=now), Submit)


def test_the_error_says_who_and_when() -> None:
    claim = {**CLAIM, "claimed_at": "2026-01-01", "track_id": "dag.task/run/take1", "try_number": 3}
    with pytest.raises(SubmissionUnknownError, match=r"at 2026-01-01 \(try 3 on h\).*'dag\.task/run/take1'"):
        decided({"0001-claim": claim}, dead=True)


def test_an_id_that_a_person_found_counts() -> None:
    assert decided(entries({Entry.UNKNOWN: {}, Entry.JOB: JOB})) == Attach(1, JOB)


@pytest.mark.parametrize("known", [{Entry.JOB: JOB}, {Entry.JOB: JOB, Entry.LANDED: MANIFEST}])
def test_a_late_try_does_not_go_back_to_the_request_before(known: Mapping[Entry, Mapping[str, Any]]) -> None:
    """Its worker was frozen; meanwhile the Dag was changed, the task cleared, and the new request paid for."""
    names = {"dag_id": "films", "run_id": "1"}
    early, late = made_at(1_795_435_200_000), made_at(1_795_435_260_000)
    claim = {**CLAIM, **names, "try_number": 2, "task_instance": str(late)}
    paid = entries({Entry.CLAIM: claim, **known})
    with pytest.raises(ChangedRequestError, match="try 1 of a task whose try 2 has asked for another request"):
        decided(paid, fingerprint=OTHER, names=names, writer=Writer(1, early))
    # What it asks for is paid for: it may wait for that.
    assert isinstance(decided(paid, names=names, writer=Writer(1, early)), Attach | Reuse)
    for names_now, writer in [
        (names, Writer(2, late)),  # the same try
        (names, Writer(3)),
        (names, Writer(1, made_at(1_795_435_300_000))),  # the run was deleted and made anew
        ({**names, "run_id": "2"}, Writer(1, early)),  # another run's own business
        (None, Writer(1, early)),
    ]:
        assert isinstance(decided(paid, fingerprint=OTHER, names=names_now, writer=writer), Submit)


@pytest.mark.parametrize("known", [{Entry.JOB: JOB}, {Entry.JOB: JOB, Entry.LANDED: MANIFEST}])
def test_two_tasks_that_want_different_results_in_one_place_do_not_pay_in_turn(
    known: Mapping[Entry, Mapping[str, Any]],
) -> None:
    mine = {"dag_id": "films", "task_id": "restyle", "run_id": "1"}
    theirs = {**CLAIM, **mine, "run_id": "2", "request": "another request"}
    first = {Entry.CLAIM: {**CLAIM, **mine}, **known}
    displaced = entries(first, {Entry.CLAIM: theirs, Entry.JOB: JOB})
    with pytest.raises(ChangedRequestError, match="paid for take 1, and run 2 of films for another result"):
        decided(displaced, names=mine)
    for ledger, first_try, names in [
        (displaced, 2, mine),  # cleared since: a person wants it here again
        (displaced, 1, {**mine, "run_id": "3"}),
        (entries(first | {Entry.FAILED: {}}, {Entry.CLAIM: theirs, Entry.JOB: JOB}), 1, mine),
        (entries({Entry.CLAIM: {**CLAIM, **mine}, Entry.RELEASED: {}}, {Entry.CLAIM: theirs, Entry.JOB: JOB}), 1, mine),
    ]:
        assert decided(ledger, first_try=first_try, names=names) == Submit(
            3, "the request has changed since take 2, which is job 7"
        )


@pytest.mark.parametrize("known", [{Entry.JOB: JOB}, {Entry.JOB: JOB, Entry.LANDED: MANIFEST}])
def test_a_changed_request(known: Mapping[Entry, Mapping[str, Any]]) -> None:
    choice = decided(entries(known), fingerprint=OTHER)
    assert isinstance(choice, Submit)
    assert choice.take == 2
    with pytest.raises(ChangedRequestError, match="trigger a new run"):
        decided(entries(known), LedgerPolicy(on_changed_request="fail"), fingerprint=OTHER)


def test_a_changed_request_is_no_matter_after_a_failure() -> None:
    policy = LedgerPolicy(on_changed_request="fail")
    assert isinstance(decided(entries({Entry.JOB: JOB, Entry.FAILED: {}}), policy, fingerprint=OTHER), Submit)


def test_a_lost_claim_is_no_changed_request() -> None:
    assert decided({"0001-job": JOB}) == Attach(1, JOB)


def test_another_take_is_paid_once_for_each_clear() -> None:
    off = LedgerPolicy(reuse_landed=False)
    landed: dict[Entry, Mapping[str, Any]] = {Entry.JOB: JOB, Entry.LANDED: MANIFEST}
    second = {**landed, Entry.CLAIM: {**CLAIM, "try_number": 3}}
    assert decided(entries(landed), off, first_try=1) == Reuse(1, MANIFEST)
    assert decided(entries(landed), off, first_try=3) == Submit(2, "another take was asked for (reuse_landed is off)")
    assert decided(entries(landed, second), off, first_try=3) == Reuse(2, MANIFEST)
    assert decided(entries(landed, {Entry.RELEASED: {}}), off, first_try=3) == Submit(
        3, "another take was asked for (reuse_landed is off)"
    )
    assert decided(entries({Entry.JOB: JOB}), off, first_try=3) == Attach(1, JOB)


def test_a_take_of_another_run_is_never_the_one_asked_for() -> None:
    off = LedgerPolicy(reuse_landed=False)
    mine, other = {"dag_id": "d", "run_id": "now"}, {"dag_id": "d", "run_id": "before"}
    landed = entries({Entry.JOB: JOB, Entry.LANDED: MANIFEST, Entry.CLAIM: {**CLAIM, **other}})
    assert isinstance(decided(landed, off, names=mine), Submit)
    assert decided(landed, off, names=other) == Reuse(1, MANIFEST)
    assert decided(landed, LedgerPolicy(), names=mine) == Reuse(1, MANIFEST)


def test_takes() -> None:
    ledger = entries({Entry.JOB: JOB}, {Entry.RELEASED: {}})
    assert (last_take(ledger), next_take(ledger)) == (1, 3)
    assert (last_take({}), next_take({})) == (None, 1)
    assert entry_name(12345, Entry.JOB) == "12345-job"
    assert next_take({"9999-claim": {}, "10000-claim": {}}) == 10001


@pytest.mark.parametrize("kind", [Entry.JOB, Entry.LANDED, Entry.FAILED, Entry.UNKNOWN, Entry.RELEASED])
def test_a_take_with_an_outcome_is_never_stale(kind: Entry) -> None:
    assert stale_take(entries({}), now=NOW, is_dead=lambda owner: True) == 1
    assert stale_take(entries({kind: {}}), now=NOW + 999, is_dead=lambda owner: True) is None


def test_a_fingerprint_tells_requests_apart_and_tells_nothing() -> None:
    attributes = {"prompt": "a secret prompt", "seed": 7, "model_id": "m"}
    base = Fingerprint.of(attributes, conn_id="c", source="s3://b/clip.mp4?etag=1")
    assert base == Fingerprint.of(dict(reversed(attributes.items())), conn_id="c", source="s3://b/clip.mp4?etag=1")
    assert base != Fingerprint.of({**attributes, "seed": 8}, conn_id="c", source="s3://b/clip.mp4?etag=1")
    assert base != Fingerprint.of(attributes, conn_id="other", source="s3://b/clip.mp4?etag=1")
    assert base != Fingerprint.of(attributes, conn_id="c", source="s3://b/clip.mp4?etag=2")
    assert "secret" not in repr(base)


@pytest.mark.parametrize("name", ["init_video", "webhook", "track_id", "instant_response", "temp", "base64"])
def test_how_a_result_is_delivered_is_no_part_of_the_fingerprint(name: str) -> None:
    plain = Fingerprint.of({"prompt": "p"}, conn_id="c", source=None)
    assert Fingerprint.of({"prompt": "p", name: "x"}, conn_id="c", source=None) == plain


@pytest.mark.parametrize(
    ("mine", "theirs", "same"), [("s", "s", True), ("s", "t", False), (None, "t", True), ("s", None, True)]
)
def test_a_clip_that_is_gone_is_no_change(mine: str | None, theirs: str | None, same: bool) -> None:
    assert Fingerprint("r", mine).matches({"request": "r", "source": theirs}) is same


def test_a_key_is_the_task_instance() -> None:
    key = TaskKey("dag", "task", "run", 3)
    assert key.digest() == TaskKey("dag", "task", "run", 3).digest()
    others = [TaskKey("dag", "task", "run"), TaskKey("da", "gtask", "run", 3), TaskKey("dag", "task", "run2", 3)]
    assert len({k.digest() for k in [key, *others]}) == 4
    assert len(key.digest()) == 64


@pytest.mark.parametrize("name", ["on_changed_request", "on_unknown_submission"])
def test_a_policy_says_what_is_allowed(name: str) -> None:
    given: dict[str, Any] = {name: "retry"}
    with pytest.raises(ValueError, match=rf"{name}: must be one of .*; got 'retry'"):
        LedgerPolicy(**given)
