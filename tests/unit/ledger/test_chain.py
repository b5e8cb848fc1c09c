"""Where the next submission of a chain of places goes, by the entries of its ledger."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import (
    AuthenticationError,
    ClipUnreadableError,
    InvalidRequestError,
    JobFailedError,
    JobLostError,
    ModelsLabError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    ResultExpiredError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.ledger.chain import is_fallback_cause, next_place
from airflow_provider_modelslab.ledger.model import Fingerprint

WANTED = Fingerprint("request", "source")
PLACES: list[dict[str, Any]] = [{"modelslab_conn_id": name} for name in "abc"]
FAILED = JobFailedError("out of memory", job_id="7")
REFUSED = PaymentRequiredError("no credits")
LIMITED = RateLimitError("slow down")
LANDED = "landed"


def history(*steps: tuple[int | None, Any], request: str = "request") -> dict[str, dict[str, Any]]:
    """The entries of submissions: the place of each (``None``: its claim names none), and what became of it."""
    entries: dict[str, dict[str, Any]] = {}
    for number, (place, end) in enumerate(steps, 1):
        claim: dict[str, Any] = {"request": request, "source": "source"}
        entries[f"{number:04d}-claim"] = claim if place is None else {**claim, "place": PLACES[place]}
        if isinstance(end, JobFailedError | JobLostError | ResultExpiredError):
            entries[f"{number:04d}-job"] = {"job_id": f"job{number}"}
            entries[f"{number:04d}-failed"] = {"error": end.to_event()}
        elif isinstance(end, SubmissionUnknownError):
            entries[f"{number:04d}-unknown"] = {"error": end.to_event()}
        elif isinstance(end, ModelsLabError):
            entries[f"{number:04d}-released"] = {"error": end.to_event()}
        elif end == LANDED:
            entries[f"{number:04d}-landed"] = {"manifest": {}}
    return entries


UNKNOWN = SubmissionUnknownError("no answer")


@pytest.mark.parametrize(
    ("steps", "place", "codes"),
    [
        ([], 0, []),
        ([(0, None)], 0, []),
        ([(0, FAILED)], 1, ["job_failed"]),
        ([(None, FAILED)], 1, ["job_failed"]),  # of a task that had no other places then
        ([(0, REFUSED), (1, FAILED)], 2, ["payment", "job_failed"]),
        ([(0, FAILED), (1, LIMITED)], 1, ["job_failed"]),
        ([(0, FAILED), (1, LIMITED), (1, LIMITED), (1, REFUSED)], 2, ["job_failed", "payment"]),
        ([(0, LIMITED), (0, FAILED)], 1, ["job_failed"]),
        ([(0, FAILED), (1, JobLostError("gone"))], 1, ["job_failed"]),
        ([(0, FAILED), (1, UNKNOWN)], 1, ["job_failed"]),  # a person may say that it can be submitted again
        ([(0, UNKNOWN)], 0, []),
        ([(0, FAILED), (1, FAILED), (2, FAILED)], 0, []),
        ([(0, FAILED), (1, FAILED), (2, FAILED), (0, FAILED)], 1, ["job_failed"]),
        ([(0, FAILED), (1, LANDED)], 0, []),
        ([(0, FAILED), (1, LANDED), (0, LIMITED)], 0, []),
    ],
)
def test_the_next_place(steps: list[Any], place: int, codes: list[str]) -> None:
    found, failures = next_place(history(*steps), WANTED, PLACES)
    assert (found, [failure["code"] for failure in failures]) == (place, codes)


def test_a_failure_says_where_and_why() -> None:
    _, [failure] = next_place(history((0, FAILED)), WANTED, PLACES)
    assert failure == {**PLACES[0], "code": "job_failed", "message": "out of memory", "job_id": "7"}


def test_other_requests_and_places_that_are_gone_do_not_count() -> None:
    assert next_place(history((0, FAILED), request="another"), WANTED, PLACES) == (0, [])
    assert next_place(history((1, FAILED)), WANTED, [PLACES[0], PLACES[2]]) == (0, [])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FAILED, True),
        (REFUSED, True),
        (InvalidRequestError("Model not found: sushi"), True),
        (InvalidRequestError("Model id not found"), True),
        (InvalidRequestError("model_id: there is no model 'sushi' on this machine"), True),
        (InvalidRequestError.of("model_id", "is not in the catalog"), True),
        (InvalidRequestError("the prompt field is required"), False),
        (InvalidRequestError.of_fields({"model_id": ["x"], "fps": ["y"]}), False),
        (InvalidRequestError("init_video: not found"), False),
        (ClipUnreadableError("no video"), False),
        (JobLostError("Model not found"), False),
        (UNKNOWN, False),
        (LIMITED, False),
        (AuthenticationError("model not found"), False),
        (PermissionDeniedError("x"), False),
        (TransportError("x"), False),
        (ResultExpiredError("x"), False),
    ],
)
def test_what_calls_for_another_place(error: ModelsLabError, expected: bool) -> None:
    assert is_fallback_cause(error) is is_fallback_cause(error.to_event()) is expected
