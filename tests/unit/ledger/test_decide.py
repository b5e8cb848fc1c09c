"""The rules by which an attempt decides, from entries alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pytest

from airflow_provider_modelslab.api.errors import ChangedRequestError, ClipUnreadableError, SubmissionUnknownError
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import (
    Attach,
    Decision,
    Entry,
    Fingerprint,
    Hold,
    LedgerPolicy,
    Reuse,
    SubmitNew,
    TaskKey,
    decide,
    entry_name,
    kind_of,
    last_submission,
    next_submission,
    number_of,
    stale_submission,
)
from tests.support.task_ids import made_at

WANTED = Fingerprint("request", "source")
OTHER = Fingerprint("another request", "source")
NOW = 1000.0
FIRST = AttemptId("films", "restyle", "run 1")
OTHER_RUN = replace(FIRST, run_id="run 2")
CLAIM = {
    "identity_version": WANTED.version,
    "request": "request",
    "source": "source",
    "expires_at": NOW + 60,
    "process": {"host": "h"},
    "attempt": FIRST.record(),
}
JOB = {"job_id": "7", "conn_id": "c"}
MANIFEST = {"uri": "s3://b/k"}
LANDED = {"manifest": MANIFEST}
LOST = {"error": {"code": "job_lost"}}
BAD_CLIP = {"error": {"code": "clip_unreadable", "message": "cannot decode the video", "job_id": "7"}}
UNKNOWN_IS_FINE = LedgerPolicy(on_unknown_submission="resubmit")
CHANGE_IS_NOT = LedgerPolicy(on_changed_request="fail")

Submission = Mapping[Entry, Mapping[str, Any]]


def entries(*submissions: Submission) -> dict[str, Mapping[str, Any]]:
    """A ledger: for each submission its entries, a claim included."""
    return {
        entry_name(number, kind): entry
        for number, submission in enumerate(submissions, 1)
        for kind, entry in {Entry.CLAIM: CLAIM, **submission}.items()
    }


def claimed_by(attempt: AttemptId, **more: Any) -> dict[str, Any]:
    return {**CLAIM, "attempt": attempt.record(), **more}


def decided(
    ledger: Mapping[str, Mapping[str, Any]],
    policy: LedgerPolicy | None = None,
    attempt: AttemptId = FIRST,
    *,
    fingerprint: Fingerprint = WANTED,
    dead: bool = False,
    now: float = NOW,
    gone: tuple[int, ...] = (),
    resubmit: tuple[int, ...] = (),
) -> Decision:
    return decide(
        ledger,
        fingerprint,
        policy or LedgerPolicy(),
        attempt,
        now=now,
        gone=gone,
        resubmit=resubmit,
        is_dead=lambda process: dead,
    )


# -- every case -------------------------------------------------------------------------------------------------------

ASKING = {
    "a retry": replace(FIRST, try_number=2),
    "after a clear": replace(FIRST, try_number=2, first_try=2),
    "another task of the run": replace(FIRST, task_id="upscale"),
    "another run": OTHER_RUN,
    "a run that attached": replace(FIRST, run_id="run 3"),
}
"""Who asks about a submission of the first try of run 1."""

BY_NOBODY = {name: value for name, value in CLAIM.items() if name != "attempt"}
LATER_VERSION = {**CLAIM, "identity_version": WANTED.version + 1, "request": "what no one can compare"}
LOCAL = {**CLAIM, "billed": False}
THIRD_RUN = claimed_by(replace(FIRST, run_id="run 4"))

LEDGERS: dict[str, tuple[Submission, ...]] = {
    "nothing": (),
    "refused": ({Entry.RELEASED: {}},),
    "claimed": ({},),
    "unknown": ({Entry.UNKNOWN: {}},),
    "in flight": ({Entry.JOB: JOB},),
    "abandoned": ({Entry.JOB: JOB, Entry.ABANDONED: {}},),
    "failed": ({Entry.JOB: JOB, Entry.FAILED: LOST},),
    "failed at once": ({Entry.FAILED: LOST},),
    "bad clip": ({Entry.JOB: JOB, Entry.FAILED: BAD_CLIP},),
    "bad clip at once": ({Entry.FAILED: BAD_CLIP},),
    "bad clip, refused": ({Entry.JOB: JOB, Entry.FAILED: BAD_CLIP}, {Entry.RELEASED: {}}),
    "bad clip, failed": ({Entry.JOB: JOB, Entry.FAILED: BAD_CLIP}, {Entry.JOB: JOB, Entry.FAILED: LOST}),
    "bad clip, other landed": (
        {Entry.JOB: JOB, Entry.FAILED: BAD_CLIP},
        {Entry.CLAIM: {**THIRD_RUN, "request": "another request"}, Entry.JOB: JOB, Entry.LANDED: LANDED},
    ),
    "bad clip, landed": ({Entry.JOB: JOB, Entry.FAILED: BAD_CLIP}, {Entry.JOB: JOB, Entry.LANDED: LANDED}),
    "bad clip, in flight": ({Entry.JOB: JOB, Entry.FAILED: BAD_CLIP}, {Entry.JOB: JOB}),
    "bad clip, unknown": ({Entry.JOB: JOB, Entry.FAILED: BAD_CLIP}, {Entry.UNKNOWN: {}}),
    "bad clip by nobody": ({Entry.CLAIM: BY_NOBODY, Entry.JOB: JOB, Entry.FAILED: BAD_CLIP},),
    "bad clip that was gone": ({Entry.CLAIM: {**CLAIM, "source": None}, Entry.JOB: JOB, Entry.FAILED: BAD_CLIP},),
    "bad clip of a later version": ({Entry.CLAIM: LATER_VERSION, Entry.JOB: JOB, Entry.FAILED: BAD_CLIP},),
    "landed, bad clip by run 4": (
        {Entry.JOB: JOB, Entry.LANDED: LANDED},
        {Entry.CLAIM: THIRD_RUN, Entry.FAILED: BAD_CLIP},
    ),
    "landed": ({Entry.JOB: JOB, Entry.LANDED: LANDED},),
    "landed, no job": ({Entry.LANDED: LANDED},),
    "landed, failed": ({Entry.JOB: JOB, Entry.FAILED: LOST, Entry.LANDED: LANDED},),
    "landed, refused": ({Entry.JOB: JOB, Entry.LANDED: LANDED}, {Entry.RELEASED: {}}),
    "in flight, refused": ({Entry.JOB: JOB}, {Entry.RELEASED: {}}),
    "resolved": ({Entry.UNKNOWN: {}, Entry.RESOLVED: {}},),
    "resolved, in flight": ({Entry.UNKNOWN: {}, Entry.RESOLVED: {}, Entry.JOB: JOB},),
    "resolved, claimed": ({Entry.RESOLVED: {}},),
    "resolved, unknown": ({Entry.UNKNOWN: {}, Entry.RESOLVED: {}}, {Entry.UNKNOWN: {}}),
    "landed, resolved by run 4": (
        {Entry.JOB: JOB, Entry.LANDED: LANDED},
        {Entry.CLAIM: THIRD_RUN, Entry.UNKNOWN: {}, Entry.RESOLVED: {}},
    ),
    "unknown, refused": ({Entry.UNKNOWN: {}}, {Entry.RELEASED: {}}),
    "landed, of run 4": (
        {Entry.JOB: JOB, Entry.LANDED: {"manifest": {"uri": "s3://b/before"}}},
        {Entry.CLAIM: THIRD_RUN, Entry.JOB: JOB, Entry.LANDED: LANDED},
    ),
    "landed, other by run 4": (
        {Entry.JOB: JOB, Entry.LANDED: LANDED},
        {Entry.CLAIM: {**THIRD_RUN, "request": "another request"}, Entry.JOB: JOB, Entry.LANDED: LANDED},
    ),
    "landed, failed by run 4": ({Entry.JOB: JOB, Entry.LANDED: LANDED}, {Entry.CLAIM: THIRD_RUN, Entry.FAILED: LOST}),
    "landed, other failed": (
        {Entry.JOB: JOB, Entry.LANDED: LANDED},
        {Entry.CLAIM: {**THIRD_RUN, "request": "another request"}, Entry.JOB: JOB, Entry.FAILED: LOST},
    ),
    "landed, claimed by run 4": ({Entry.JOB: JOB, Entry.LANDED: LANDED}, {Entry.CLAIM: THIRD_RUN}),
    "landed, unknown by run 4": ({Entry.JOB: JOB, Entry.LANDED: LANDED}, {Entry.CLAIM: THIRD_RUN, Entry.UNKNOWN: {}}),
    "landed twice, failed": (
        {Entry.JOB: JOB, Entry.LANDED: LANDED},
        {Entry.CLAIM: {**THIRD_RUN, "request": "another request"}, Entry.JOB: JOB, Entry.LANDED: LANDED},
        {Entry.CLAIM: THIRD_RUN, Entry.FAILED: LOST},
    ),
    "in flight by nobody": ({Entry.CLAIM: BY_NOBODY, Entry.JOB: JOB},),
    "landed by nobody": ({Entry.CLAIM: BY_NOBODY, Entry.JOB: JOB, Entry.LANDED: LANDED},),
    "unknown by nobody": ({Entry.CLAIM: BY_NOBODY, Entry.UNKNOWN: {}},),
    "in flight of a later version": ({Entry.CLAIM: LATER_VERSION, Entry.JOB: JOB},),
    "landed of a later version": ({Entry.CLAIM: LATER_VERSION, Entry.JOB: JOB, Entry.LANDED: LANDED},),
    "local claim": ({Entry.CLAIM: LOCAL},),
    "local claim, dead": ({Entry.CLAIM: {**LOCAL, "expires_at": NOW}},),
    "local": ({Entry.CLAIM: LOCAL, Entry.LANDED: LANDED},),
}

TABLE = """
ledger                        | asks for  | policy          | reuse  | retry clear task run attached

nothing                       | the same  |                 | any    | new   new   new  new  new
refused                       | the same  |                 | any    | new   new   new  new  new
claimed                       | the same  |                 | any    | hold  hold  hold hold hold
claimed                       | another   |                 | any    | hold  hold  hold hold hold
unknown                       | the same  |                 | any    | ask   ask   ask  ask  ask
unknown                       | another   |                 | any    | ask   ask   ask  ask  ask
unknown                       | the same  | unknown         | any    | new   new   new  new  new
resolved                      | the same  |                 | any    | new   new   new  new  new
resolved                      | another   |                 | any    | new   new   new  new  new
resolved, in flight           | the same  |                 | any    | wait  wait  wait wait wait
resolved, claimed             | the same  |                 | any    | hold  hold  hold hold hold
resolved, unknown             | the same  |                 | any    | ask   ask   ask  ask  ask
landed, resolved by run 4     | the same  |                 | run    | use   use   use  new  use
landed, resolved by run 4     | the same  |                 | never  | use   new   new  new  new
in flight                     | the same  |                 | any    | wait  wait  wait wait wait
abandoned                     | the same  |                 | any    | wait  wait  wait wait wait
failed                        | the same  |                 | any    | new   new   new  new  new
failed at once                | the same  |                 | any    | new   new   new  new  new

bad clip                      | the same  |                 | run    | bad   bad   bad  bad  bad
bad clip                      | the same  |                 | always | bad   bad   bad  bad  bad
bad clip                      | the same  |                 | never  | bad   new   new  new  new
bad clip                      | another   |                 | any    | new   new   new  new  new
bad clip at once              | the same  |                 | run    | bad   bad   bad  bad  bad
bad clip at once              | the same  |                 | never  | bad   new   new  new  new
bad clip, refused             | the same  |                 | run    | bad   bad   bad  bad  bad
bad clip, refused             | another   | changed         | any    | new   new   new  new  new
bad clip, failed              | the same  |                 | any    | new   new   new  new  new
bad clip, other landed        | the same  |                 | run    | bad   bad   bad  bad  bad
bad clip, other landed        | the same  |                 | never  | bad   new   new  new  new
bad clip, landed              | the same  |                 | run    | use   use   use  new  new
bad clip, landed              | the same  |                 | never  | use   new   new  new  new
bad clip, in flight           | the same  |                 | any    | wait  wait  wait wait wait
bad clip, unknown             | the same  |                 | any    | ask   ask   ask  ask  ask
bad clip, unknown             | the same  | unknown         | run    | bad   bad   bad  bad  bad
bad clip by nobody            | the same  |                 | run    | bad   bad   bad  bad  bad
bad clip by nobody            | the same  |                 | never  | new   new   new  new  new
bad clip that was gone        | the same  |                 | any    | new   new   new  new  new
bad clip of a later version   | the same  |                 | any    | new   new   new  new  new
landed, bad clip by run 4     | the same  |                 | run    | use   use   use  bad  use
landed, bad clip by run 4     | the same  |                 | always | use   use   use  use  use
landed, bad clip by run 4     | the same  |                 | never  | use   new   new  new  new

landed                        | the same  |                 | run    | use   use   use  new  use
landed                        | the same  |                 | always | use   use   use  use  use
landed                        | the same  |                 | never  | use   new   new  new  new
landed, no job                | the same  |                 | run    | use   use   use  new  use
landed, no job                | the same  |                 | always | use   use   use  use  use
landed, no job                | the same  |                 | never  | use   new   new  new  new
landed, failed                | the same  |                 | run    | use   use   use  new  use
landed, failed                | the same  |                 | always | use   use   use  use  use
landed, failed                | the same  |                 | never  | use   new   new  new  new
landed, refused               | the same  |                 | run    | use   use   use  new  use
landed, refused               | the same  |                 | always | use   use   use  use  use
landed, refused               | the same  |                 | never  | use   new   new  new  new
in flight, refused            | the same  |                 | any    | wait  wait  wait wait wait
unknown, refused              | the same  |                 | any    | ask   ask   ask  ask  ask
unknown, refused              | the same  | unknown         | any    | new   new   new  new  new
landed, of run 4              | the same  |                 | run    | use   use   use  new  use
landed, of run 4              | the same  |                 | always | use   use   use  use  use
landed, of run 4              | the same  |                 | never  | use   new   new  new  new

landed, failed by run 4       | the same  |                 | run    | use   use   use  new  use
landed, failed by run 4       | the same  |                 | always | use   use   use  use  use
landed, failed by run 4       | the same  |                 | never  | use   new   new  new  new
landed, failed by run 4       | another   | changed         | any    | new   new   new  new  new
landed, other failed          | the same  |                 | run    | use   use   use  new  use
landed, other failed          | another   | changed         | any    | new   new   new  new  new
landed, claimed by run 4      | the same  |                 | any    | hold  hold  hold hold hold
landed, unknown by run 4      | the same  |                 | run    | use   use   use  ask  use
landed, unknown by run 4      | the same  |                 | always | use   use   use  use  use
landed, unknown by run 4      | the same  |                 | never  | use   ask   ask  ask  ask
landed, unknown by run 4      | the same  | unknown         | run    | use   use   use  new  use
landed, unknown by run 4      | another   |                 | any    | ask   ask   ask  ask  ask
landed twice, failed          | the same  |                 | any    | new   new   new  new  new

landed                        | the same  | gone            | any    | wait  wait  wait wait wait
landed, refused               | the same  | gone            | any    | wait  wait  wait wait wait
landed, no job                | the same  | gone            | any    | new   new   new  new  new
landed, failed                | the same  | gone            | any    | new   new   new  new  new
landed, failed by run 4       | the same  | gone            | any    | new   new   new  new  new
landed, unknown by run 4      | the same  | gone            | any    | ask   ask   ask  ask  ask
local                         | the same  | gone            | any    | new   new   new  new  new

in flight                     | another   |                 | any    | new   new   new  new  new
in flight                     | another   | changed         | any    | stop  stop  stop stop stop
in flight, refused            | another   | changed         | any    | stop  stop  stop stop stop
landed                        | another   |                 | any    | new   new   new  new  new
landed                        | another   | changed         | run    | stop  stop  stop new  stop
landed                        | another   | changed         | always | stop  stop  stop stop stop
landed                        | another   | changed         | never  | stop  new   new  new  new
failed                        | another   | changed         | any    | new   new   new  new  new
landed, of run 4              | another   | changed         | run    | stop  stop  stop new  stop
landed, of run 4              | another   | changed         | always | stop  stop  stop stop stop
landed, of run 4              | another   | changed         | never  | stop  new   new  new  new
landed, other by run 4        | the same  |                 | any    | stop  new   new  new  new

in flight by nobody           | the same  |                 | any    | wait  wait  wait wait wait
in flight by nobody           | another   |                 | any    | new   new   new  new  new
in flight by nobody           | another   | changed         | any    | stop  stop  stop stop stop
landed by nobody              | the same  |                 | any    | use   use   use  use  use
landed by nobody              | another   |                 | any    | new   new   new  new  new
landed by nobody              | another   | changed         | any    | stop  stop  stop stop stop
unknown by nobody             | the same  |                 | any    | ask   ask   ask  ask  ask

in flight of a later version  | the same  |                 | any    | wait  wait  wait wait wait
in flight of a later version  | another   | changed         | any    | wait  wait  wait wait wait
landed of a later version     | another   | changed         | run    | use   use   use  new  use
landed of a later version     | another   | changed         | always | use   use   use  use  use
landed of a later version     | another   | changed         | never  | use   new   new  new  new
landed of a later version     | the same  | gone            | any    | wait  wait  wait wait wait

local claim                   | the same  |                 | any    | hold  hold  hold hold hold
local claim, dead             | the same  |                 | any    | new   new   new  new  new
local claim, dead             | another   | changed         | any    | new   new   new  new  new
local                         | the same  |                 | run    | use   use   use  new  use
local                         | the same  |                 | always | use   use   use  use  use
local                         | the same  |                 | never  | use   new   new  new  new
local                         | another   |                 | any    | new   new   new  new  new
local                         | another   | changed         | run    | stop  stop  stop new  stop
"""

POLICIES: dict[str, dict[str, Any]] = {
    "": {},
    "gone": {},
    "unknown": {"on_unknown_submission": "resubmit"},
    "changed": {"on_changed_request": "fail"},
}
OUTCOMES: dict[type[object], str] = {
    SubmitNew: "new",
    Attach: "wait",
    Reuse: "use",
    Hold: "hold",
    SubmissionUnknownError: "ask",
    ChangedRequestError: "stop",
    ClipUnreadableError: "bad",
}

Cell = tuple[str, str, str, str, str, str]


def cells() -> list[Cell]:
    """The table, one cell each."""
    found: list[Cell] = []
    for line in TABLE.strip().splitlines()[1:]:
        if not line:
            continue
        ledger, request, said, reuse, outcomes = (part.strip() for part in line.split("|"))
        for word in ("run", "always", "never") if reuse == "any" else (reuse,):
            found += [
                (ledger, request, said, word, who, outcome)
                for who, outcome in zip(ASKING, outcomes.split(), strict=True)
            ]
    return found


@pytest.mark.parametrize(("ledger", "request_", "said", "reuse", "who", "expected"), cells())
def test_every_case(
    ledger: str, request_: str, said: str, reuse: Literal["run", "always", "never"], who: str, expected: str
) -> None:
    submissions = LEDGERS[ledger]
    known = entries(*submissions)
    if submissions:
        known[entry_name(1, Entry.ATTACHED, ASKING["a run that attached"])] = {}
    last = max((n for n, each in enumerate(submissions, 1) if Entry.RELEASED not in each), default=0)
    landed = max((n for n, each in enumerate(submissions, 1) if Entry.LANDED in each), default=0)
    policy = LedgerPolicy(reuse, **POLICIES[said])
    gone = (landed,) if said == "gone" else ()
    fingerprint = WANTED if request_ == "the same" else OTHER
    choice: Decision | Exception
    try:
        choice = decided(known, policy, ASKING[who], fingerprint=fingerprint, gone=gone)
    except (SubmissionUnknownError, ChangedRequestError, ClipUnreadableError) as error:
        choice = error
    assert OUTCOMES[type(choice)] == expected
    if isinstance(choice, SubmitNew):
        assert choice.number == len(submissions) + 1
    elif isinstance(choice, SubmissionUnknownError):
        assert choice.submission == last
    elif isinstance(choice, Reuse):
        assert choice == Reuse(landed, MANIFEST)
    elif isinstance(choice, Attach):
        assert choice == Attach(last, JOB)
    elif isinstance(choice, Hold):
        assert choice == Hold(last, NOW + 60, {"host": "h"})


# -- submissions of unknown outcome -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ledger", "dead", "now"),
    [
        pytest.param(entries({}), True, NOW, id="its process is dead"),
        pytest.param(entries({}), False, NOW + 60, id="its lease is over"),
        pytest.param(entries({Entry.UNKNOWN: {}}), False, NOW, id="no answer came"),
        pytest.param(entries({Entry.ABANDONED: {}}), True, NOW, id="killed"),
        pytest.param({"0001-unknown": {}}, False, NOW, id="the claim itself is lost"),
    ],
)
def test_a_claim_without_a_job(ledger: Mapping[str, Mapping[str, Any]], dead: bool, now: float) -> None:
    with pytest.raises(SubmissionUnknownError) as caught:
        decided(ledger, dead=dead, now=now)
    assert caught.value.submission == 1
    assert isinstance(decided(ledger, UNKNOWN_IS_FINE, dead=dead, now=now), SubmitNew)


def test_the_error_says_who_and_when() -> None:
    claim = claimed_by(replace(FIRST, try_number=3), claimed_at="2026-01-01", track_id="dag.task/run/submission1")
    with pytest.raises(SubmissionUnknownError, match=r"at 2026-01-01 \(try 3 on h\).*'dag\.task/run/submission1'"):
        decided({"0001-claim": claim}, dead=True)


def test_a_job_that_a_person_found_counts() -> None:
    assert decided(entries({Entry.UNKNOWN: {}, Entry.JOB: JOB})) == Attach(1, JOB)


def test_what_a_person_says_holds_for_one_submission() -> None:
    again = decided(entries({Entry.UNKNOWN: {}}), resubmit=(1,))
    assert isinstance(again, SubmitNew)
    assert again.number == 2
    with pytest.raises(SubmissionUnknownError) as caught:
        decided(entries({Entry.UNKNOWN: {}}, {Entry.UNKNOWN: {}}), resubmit=(1,))
    assert caught.value.submission == 2


def test_that_a_person_said_to_submit_again_does_not_end_a_claim_that_is_held() -> None:
    assert isinstance(decided(entries({}), resubmit=(1,)), Hold)


# -- other requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [{Entry.JOB: JOB}, {Entry.JOB: JOB, Entry.LANDED: LANDED}])
def test_a_late_try_does_not_go_back_to_the_request_before(known: Submission) -> None:
    """Its worker was frozen; meanwhile the Dag was changed, the task cleared, and the new request paid for."""
    early, late = made_at(1_795_435_200_000), made_at(1_795_435_260_000)
    mine = replace(FIRST, task_instance_id=early)
    paid = entries({Entry.CLAIM: claimed_by(replace(FIRST, try_number=2, task_instance_id=late)), **known})
    with pytest.raises(ChangedRequestError):
        decided(paid, attempt=mine, fingerprint=OTHER)
    # What it asks for is paid for: it may wait for that.
    assert isinstance(decided(paid, attempt=mine), Attach | Reuse)
    for other in [
        replace(FIRST, try_number=2, task_instance_id=late),  # the same try
        replace(FIRST, try_number=3),
        replace(FIRST, task_instance_id=made_at(1_795_435_300_000)),  # the run was deleted and made anew
        replace(OTHER_RUN, task_instance_id=early),  # another run's own business
    ]:
        assert isinstance(decided(paid, attempt=other, fingerprint=OTHER), SubmitNew)


@pytest.mark.parametrize("known", [{Entry.JOB: JOB}, {Entry.JOB: JOB, Entry.LANDED: LANDED}])
def test_two_tasks_that_want_different_results_in_one_place_do_not_pay_in_turn(known: Submission) -> None:
    second = {Entry.CLAIM: claimed_by(OTHER_RUN, request="another request"), Entry.JOB: JOB}
    displaced = entries(known, second)
    with pytest.raises(ChangedRequestError):
        decided(displaced)
    for ledger, attempt in [
        (displaced, replace(FIRST, try_number=2, first_try=2)),  # cleared since: a person wants it here again
        (displaced, replace(FIRST, run_id="run 3")),
        (entries({**known, Entry.FAILED: {}}, second), FIRST),
        (entries({Entry.RELEASED: {}}, second), FIRST),
    ]:
        choice = decided(ledger, attempt=attempt)
        assert isinstance(choice, SubmitNew)
        assert choice.number == 3


def test_a_clip_that_was_replaced_is_paid_for_although_the_one_before_could_not_be_read() -> None:
    bad: Submission = {Entry.JOB: JOB, Entry.FAILED: BAD_CLIP}
    for source in ("another source", None):
        assert isinstance(decided(entries(bad), fingerprint=replace(WANTED, source=source)), SubmitNew)
    back: Submission = {Entry.CLAIM: {**CLAIM, "source": "another source"}, Entry.JOB: JOB, Entry.LANDED: LANDED}
    with pytest.raises(ClipUnreadableError) as caught:  # the first clip is put back in its place
        decided(entries(bad, back))
    assert caught.value.job_id == "7"


def test_with_never_a_clip_that_cannot_be_read_is_paid_once_for_each_clear() -> None:
    never = LedgerPolicy("never")
    bad: dict[Entry, Mapping[str, Any]] = {Entry.JOB: JOB, Entry.FAILED: BAD_CLIP}
    cleared = replace(FIRST, try_number=3, first_try=3)
    assert isinstance(decided(entries(bad), never, cleared), SubmitNew)
    second = entries(bad, {**bad, Entry.CLAIM: claimed_by(cleared)})
    for attempt in (replace(cleared, try_number=4), cleared):
        with pytest.raises(ClipUnreadableError):
            decided(second, never, attempt)


def test_with_never_a_run_that_waited_for_a_clip_that_cannot_be_read_does_not_pay_for_it() -> None:
    ledger = entries({Entry.JOB: JOB, Entry.FAILED: BAD_CLIP})
    ledger[entry_name(1, Entry.ATTACHED, OTHER_RUN)] = {"attempt": OTHER_RUN.record()}
    with pytest.raises(ClipUnreadableError):
        decided(ledger, LedgerPolicy("never"), OTHER_RUN)


def test_a_lost_claim_is_no_changed_request() -> None:
    assert decided({"0001-job": JOB}, CHANGE_IS_NOT) == Attach(1, JOB)


# -- reuse, through several submissions -------------------------------------------------------------------------------


def test_with_never_a_result_is_paid_once_for_each_clear() -> None:
    never = LedgerPolicy("never")
    landed: dict[Entry, Mapping[str, Any]] = {Entry.JOB: JOB, Entry.LANDED: LANDED}
    second = {**landed, Entry.CLAIM: claimed_by(replace(FIRST, try_number=3))}
    cleared = replace(FIRST, try_number=3, first_try=3)
    assert decided(entries(landed, second), never, cleared) == Reuse(2, MANIFEST)
    assert decided(entries(landed, second), never, replace(cleared, try_number=4)) == Reuse(2, MANIFEST)
    assert isinstance(decided(entries(landed, second), never, replace(FIRST, try_number=5, first_try=5)), SubmitNew)


def test_a_later_result_for_the_same_request_serves_the_run_that_paid_for_the_first() -> None:
    """Else two runs at one destination would pay in turn, each time one of them is cleared."""
    landed: dict[Entry, Mapping[str, Any]] = {Entry.JOB: JOB, Entry.LANDED: {"manifest": {"uri": "s3://b/before"}}}
    ledger = entries(landed, {Entry.CLAIM: claimed_by(OTHER_RUN), Entry.JOB: JOB, Entry.LANDED: LANDED})
    for attempt in (FIRST, OTHER_RUN):
        assert decided(ledger, attempt=attempt) == Reuse(2, MANIFEST)


def test_an_earlier_result_for_another_request_serves_nobody() -> None:
    first: dict[Entry, Mapping[str, Any]] = {
        Entry.CLAIM: claimed_by(FIRST, request="another request"),
        Entry.JOB: JOB,
        Entry.LANDED: LANDED,
    }
    ledger = entries(first, {Entry.CLAIM: claimed_by(OTHER_RUN), Entry.JOB: JOB, Entry.LANDED: LANDED})
    assert isinstance(decided(ledger), SubmitNew)


# -- names and numbers ------------------------------------------------------------------------------------------------


def test_numbers() -> None:
    ledger = entries({Entry.JOB: JOB}, {Entry.RELEASED: {}})
    assert (last_submission(ledger), next_submission(ledger)) == (1, 3)
    assert (last_submission({}), next_submission({})) == (None, 1)
    assert entry_name(12345, Entry.JOB) == "12345-job"
    assert next_submission({"9999-claim": {}, "10000-claim": {}}) == 10001


def test_an_attached_run_has_an_entry_of_its_own() -> None:
    name = entry_name(12, Entry.ATTACHED, OTHER_RUN)
    assert (number_of(name), kind_of(name)) == (12, Entry.ATTACHED)
    assert len(name) == len("0012-attached-") + 16
    assert name == entry_name(12, Entry.ATTACHED, replace(OTHER_RUN, task_id="upscale", try_number=4))
    assert name != entry_name(12, Entry.ATTACHED, FIRST)


@pytest.mark.parametrize("kind", [Entry.JOB, Entry.LANDED, Entry.FAILED, Entry.UNKNOWN, Entry.RELEASED])
def test_a_submission_with_an_outcome_is_never_stale(kind: Entry) -> None:
    assert stale_submission(entries({}), now=NOW, is_dead=lambda process: True) == 1
    assert stale_submission(entries({kind: {}}), now=NOW + 999, is_dead=lambda process: True) is None


def test_that_a_run_attached_is_no_outcome() -> None:
    ledger = {**entries({}), entry_name(1, Entry.ATTACHED, OTHER_RUN): {}}
    assert stale_submission(ledger, now=NOW + 60, is_dead=lambda process: False) == 1


@pytest.mark.parametrize(
    ("mine", "theirs", "same"), [("s", "s", True), ("s", "t", False), (None, "t", True), ("s", None, True)]
)
def test_a_clip_that_is_gone_is_no_change(mine: str | None, theirs: str | None, same: bool) -> None:
    assert Fingerprint("r", mine).matches({"request": "r", "source": theirs}) is same


def test_a_claim_of_another_version_of_the_rules_counts_as_the_same() -> None:
    claim = {"request": "r", "source": "s", "identity_version": WANTED.version}
    assert not Fingerprint("other", "s").matches(claim)
    assert Fingerprint("other", "other", WANTED.version + 1).matches(claim)


def test_a_key_is_the_task_instance() -> None:
    key = TaskKey("dag", "task", "run", 3)
    assert key.digest() == TaskKey("dag", "task", "run", 3).digest()
    others = [TaskKey("dag", "task", "run"), TaskKey("da", "gtask", "run", 3), TaskKey("dag", "task", "run2", 3)]
    assert len({k.digest() for k in [key, *others]}) == 4
    assert len(key.digest()) == 64
