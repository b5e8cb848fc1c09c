from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import ErrorCode, JobFailedError, LandingError
from airflow_provider_modelslab.batch.results.outcomes import Outcome, Outcomes, Status
from airflow_provider_modelslab.batch.results.report import failure_of, result_line, retry_line
from airflow_provider_modelslab.batch.running.limits import FailureLimit
from airflow_provider_modelslab.batch.sources.discovery import clips_from
from airflow_provider_modelslab.storage.result_manifest import Job
from tests.unit.batch.test_plan import listed, plan_of

MANIFEST = {"uri": "s3://results/styled/a.mp4", "job_id": "7", "seed": 3, "bytes": 9, "sha256": "ab", "etag": "e"}
OUTCOMES = {
    Status.LANDED: Outcome.landed(MANIFEST, seconds=1.5),
    Status.SKIPPED: Outcome.skipped(MANIFEST),
    Status.FAILED: Outcome.failed(JobFailedError("no", job_id="8")),
}
HOME = {"modelslab_conn_id": "own", "model_id": "m", "run_on": "endpoint"}
AWAY = {"modelslab_conn_id": "spare", "model_id": "m", "run_on": "endpoint"}
PLAN = plan_of(listed(*(f"{number}.mp4" for number in range(6))))


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(list(OUTCOMES)))))
def test_counts_reconcile_whatever_is_told(told: list[tuple[int, Status]]) -> None:
    outcomes = Outcomes(PLAN)
    for index, status in told:
        outcomes.tell(PLAN.clips[index], OUTCOMES[status])
    counts = outcomes.counts()
    assert counts["found"] == 6 == sum(counts[status] for status in Status)
    by_status = [outcome.status for _, outcome in outcomes]
    assert counts == {"found": 6} | {status: by_status.count(status) for status in Status}
    assert counts["pending"] == 6 - len({index for index, _ in told})
    for index, status in told:
        if status is not Status.FAILED:
            assert outcomes[PLAN.clips[index]].status is not Status.FAILED


def test_an_outcome_is_made_from_a_manifest_or_an_error() -> None:
    landed = OUTCOMES[Status.LANDED]
    assert (landed.job_id, landed.seed, landed.bytes, landed.sha256, landed.etag, landed.seconds) == (
        "7", 3, 9, "ab", "e", 1.5,
    )  # fmt: skip
    failed = Outcome.failed(LandingError("see https://host/a?sig=secret now"), job=Job("8", "own"))
    assert (failed.code, failed.job_id, failed.message) == ("landing", "8", "see https://host/a now")
    other = Outcome.failed(ValueError("x" * 5000), job=Job("9", "own"))
    assert (other.code, other.job_id, len(other.message or "")) == ("ValueError", "9", 2000)


@pytest.mark.parametrize("is_submitted", [True, False])
def test_a_failed_clip_names_all_its_places(is_submitted: bool) -> None:
    before = {**HOME, "code": "job_failed", "message": "out of memory", "job_id": "7"}
    chain = {"made_by": AWAY, "fallback_from": [before]}
    error = JobFailedError("GET https://host/a.mp4?sig=secret: 403", job_id="1")
    job = Job("1", "spare", chain=chain, price={"currency": "EUR", "fixed": "0.1"}) if is_submitted else None
    if job is None:
        error.chain = chain
    failed = Outcome.failed(error, job=job)
    own = {**AWAY, "code": "job_failed", "message": "GET https://host/a.mp4 403", "job_id": "1"}
    assert failed.fallback_from == [before, {**own, "cost": "0.1", "currency": "EUR"} if is_submitted else own]
    assert "out of memory" in (failed.message or "")
    assert Outcome(**json.loads(json.dumps(asdict(failed)))) == failed  # as it is stored while the batch waits


def test_a_line_of_the_results_holds_no_secret() -> None:
    plan = plan_of(clips_from(["https://user:secret@host/a.mp4?sig=secret"]))
    line = result_line(plan.clips[0], Outcome.failed(JobFailedError("GET https://host/a.mp4?sig=secret: 403")))
    assert "secret" not in json.dumps(line)
    assert (line["source"], line["uri"], line["status"]) == (
        "https://host/a.mp4",
        "s3://results/styled/a.mp4",
        "failed",
    )
    assert line["fingerprint"]["request"] == plan.clips[0].fingerprint.request


@pytest.mark.parametrize(
    ("item", "kept"),
    [
        ({"uri": "s3://src/day/a?b#c.mp4", "prompt": "x", "lora_models": ["a", "b"]}, True),
        ({"uri": "https://host/a.mp4"}, True),
        ({"uri": "https://host/a.mp4?id=5"}, False),
        ({"uri": "HTTPS://host/a.mp4?id=5"}, False),
        ({"uri": "https://host/a.mp4", "webhook": "https://hook/x?token=secret"}, False),
        ({"uri": "https://host/a.mp4", "extra_parameters": {"callback": "https://hook/x?token=secret"}}, False),
        ({"uri": "https://host/a.mp4", "extra_parameters": {"callback": "https://hook/x"}}, True),
    ],
)
def test_what_is_tried_again_is_the_same_work_or_left_out(item: dict[str, Any], kept: bool) -> None:
    plan = make(item)
    line = retry_line(plan.clips[0])
    assert (line is not None) is kept
    if line is not None:
        again = make(json.loads(json.dumps(line)))
        clip, before = again.clips[0], plan.clips[0]
        assert (clip.source, clip.destination, clip.fingerprint.request) == (
            before.source, before.destination, before.fingerprint.request,
        )  # fmt: skip


def make(item: dict[str, Any]) -> Any:
    from dataclasses import replace

    clips = clips_from([item])
    return plan_of(replace(clips, clips=tuple(replace(clip, etag="e") for clip in clips.clips)))


@pytest.mark.parametrize(
    ("value", "count", "share"),
    [(None, None, None), (0, 0, None), (3, 3, None), ("3", 3, None), (0.05, None, 0.05), ("5%", None, 0.05),
     (" 0.5 ", None, 0.5), (0.0, None, 0.0)],
)  # fmt: skip
def test_a_limit_is_a_count_or_a_share(value: Any, count: int | None, share: float | None) -> None:
    assert FailureLimit.of(value) == FailureLimit(count, share)


@pytest.mark.parametrize("value", [-1, 1.0, 1.5, -0.1, "x", "", "100%", True, float("nan"), [], "1e400"])
def test_what_is_no_limit_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="max_failed: must be"):
        FailureLimit.of(value)


@pytest.mark.parametrize(
    ("limit", "failed", "found", "exceeded"),
    [(0, 0, 9, False), (0, 1, 9, True), (2, 2, 9, False), (2, 3, 9, True), (0.1, 1, 10, False), (0.1, 2, 10, True),
     (None, 9, 9, False), (0.5, 0, 0, False)],
)  # fmt: skip
def test_when_a_limit_is_exceeded(limit: Any, failed: int, found: int, exceeded: bool) -> None:
    assert FailureLimit.of(limit).exceeded(failed, found) is exceeded


def test_the_failure_says_what_happened_and_where_to_read_on() -> None:
    summary = {
        "found": 100, "landed": 60, "skipped": 20, "failed": 15, "pending": 5,
        "manifest": "s3://b/r.jsonl", "retry": "s3://b/r.retry.jsonl",
        "errors": [{"source": "s3://src/a.mp4", "code": "landing", "message": "no"}],
    }  # fmt: skip
    error = failure_of(summary, FailureLimit.of("10%"))
    assert error is not None
    for text in ("15 of 100 clips failed (max_failed: 0.1 of the clips)", "60 landed, 20 were already stored",
                 "s3://b/r.jsonl; only the clips to try again: s3://b/r.retry.jsonl", "s3://src/a.mp4: landing: no",
                 "and 14 more"):  # fmt: skip
        assert text in str(error)
    assert failure_of(summary | {"pending": 0}, FailureLimit.of(15)) is None


def test_the_failure_says_why_clips_were_not_reached() -> None:
    counts = {"found": 100, "landed": 60, "skipped": 20, "failed": 15, "pending": 5}
    summary: dict[str, Any] = counts | {"manifest": "s3://b/r.jsonl", "retry": None, "errors": []}
    error = failure_of(summary, FailureLimit.of(15), stopped="no credit is left")
    assert error is not None
    for text in ("aborted: no credit is left", "60 clips landed", "15 failed, 5 were not reached", "s3://b/r.jsonl"):
        assert text in str(error)


@pytest.mark.parametrize(
    ("stopped", "cause"),
    [
        ("authentication: the key was refused", ErrorCode.AUTHENTICATION),
        ("permission: no such plan (20 in a row)", ErrorCode.PERMISSION),
        ("input_refused: HTTP 403 (100 in a row)", ErrorCode.INPUT_REFUSED),
        ("rate_limit: full; the endpoint has refused every submit for 1 h", ErrorCode.RATE_LIMIT),
        ("20 clips in a row failed", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("limit", [0, None])
def test_the_failure_carries_the_reason_for_which_the_batch_was_given_up(
    stopped: str | None, cause: ErrorCode | None, limit: int | None
) -> None:
    counts = {"found": 100, "landed": 60, "skipped": 20, "failed": 1, "pending": 19}
    summary: dict[str, Any] = counts | {"manifest": "s3://b/r.jsonl", "retry": None, "errors": []}
    error = failure_of(summary, FailureLimit.of(limit), stopped=stopped)
    assert error is not None
    assert error.cause is cause
    assert "None" not in str(error)
