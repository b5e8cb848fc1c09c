from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from airflow_provider_modelslab.api import errors
from airflow_provider_modelslab.api.errors import (
    JobTimeoutError,
    ModelsLabError,
    RateLimitError,
    Reason,
    RequestValidationError,
    StorageConfigurationError,
    TransportError,
    error_from_event,
    error_from_reason,
)


def make(reason: Reason) -> ModelsLabError:
    return error_from_reason(
        reason, "what happened", job_id="7", http_status=418, retry_after=30.0, fields={"prompt": ["is required"]}
    )


@pytest.mark.parametrize("reason", list(Reason))
def test_each_reason_has_one_exception_that_keeps_its_details(reason: Reason) -> None:
    error = make(reason)
    assert error.reason is reason
    assert (error.message, error.job_id, error.http_status) == ("what happened", "7", 418)
    assert str(error) == "what happened (job 7)"
    assert type(error).__name__ in errors.__all__


@pytest.mark.parametrize("reason", list(Reason))
def test_pickling_keeps_everything(reason: Reason) -> None:
    error = make(reason)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert copy.__dict__ == error.__dict__
    assert (str(copy), copy.args) == (str(error), error.args)


@pytest.mark.parametrize("reason", list(Reason))
def test_events_are_json_and_come_back_as_the_same_exception(reason: Reason) -> None:
    error = make(reason)
    event: dict[str, Any] = json.loads(json.dumps(error.to_event()))
    assert event["status"] == "error"
    copy = error_from_event(event)
    assert type(copy) is type(error)
    assert copy.__dict__ == error.__dict__


def test_details_of_a_kind() -> None:
    limit, validation = make(Reason.RATE_LIMIT), make(Reason.VALIDATION)
    assert isinstance(limit, RateLimitError)
    assert limit.retry_after == 30
    assert isinstance(validation, RequestValidationError)
    assert validation.fields == {"prompt": ["is required"]}
    assert not hasattr(make(Reason.TRANSPORT), "retry_after")


def test_python_code_can_catch_by_its_own_kinds() -> None:
    assert issubclass(RequestValidationError, ValueError)
    assert issubclass(StorageConfigurationError, ValueError)
    assert issubclass(JobTimeoutError, TimeoutError)


def test_an_event_of_a_newer_version_is_still_a_failure() -> None:
    error = error_from_event({"status": "error", "reason": "of_next_year", "message": "odd", "job_id": "7"})
    assert type(error) is TransportError
    assert str(error) == "odd (job 7)"
    assert "without a message" in str(error_from_event({}))
    with pytest.raises(ValueError, match="of_next_year"):
        error_from_reason("of_next_year", "odd")


def test_validation_messages_have_a_line_for_each_attribute() -> None:
    one = RequestValidationError.of("fps", "must be at least 1; got 0")
    assert str(one) == "The request was not sent, because it is not valid: fps: must be at least 1; got 0"
    two = RequestValidationError.of_fields({"fps": ["a", "b"], "seed": ["c"]})
    assert str(two) == "The request was not sent, because it is not valid:\n  fps: a; b\n  seed: c"
    assert two.fields == {"fps": ["a", "b"], "seed": ["c"]}
