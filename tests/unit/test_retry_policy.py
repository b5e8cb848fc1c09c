"""Which failures are tried again, and when, on Airflow 3.3 and later."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions.retry_policy import RetryAction

from airflow_provider_modelslab.api.errors import BatchFailedError, ErrorCode, error_class, error_from_code
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy

HOUR = timedelta(hours=1)

LATER = RetryAction.RESCHEDULE if hasattr(RetryAction, "RESCHEDULE") else RetryAction.RETRY
"""Since Airflow 3.4 a rate limit spends no retry."""


@pytest.mark.parametrize("code", list(ErrorCode))
def test_what_no_retry_cures_fails_at_once(code: ErrorCode) -> None:
    decision = ModelsLabRetryPolicy().evaluate(error_from_code(code, "no"), 1, 3)
    expected = RetryAction.DEFAULT if error_class(code).retryable else RetryAction.FAIL
    assert decision.action is (LATER if code is ErrorCode.RATE_LIMIT else expected)


@pytest.mark.parametrize(("asked", "delay"), [(45.0, 45), (None, 90)])
def test_a_rate_limit_is_waited_for(asked: float | None, delay: int) -> None:
    policy = ModelsLabRetryPolicy(rate_limit_delay=timedelta(seconds=90))
    decision = policy.evaluate(error_from_code(ErrorCode.RATE_LIMIT, "slow down", retry_after=asked), 1, 3)
    assert decision.retry_delay == timedelta(seconds=delay)
    assert getattr(decision, "reschedule_timeout", HOUR) == HOUR


@pytest.mark.parametrize("cause", [None, *ErrorCode])
def test_a_batch_is_tried_again_as_what_ended_it_would_be(cause: ErrorCode | None) -> None:
    error = pickle.loads(pickle.dumps(BatchFailedError("given up", cause=cause)))  # noqa: S301 - our own bytes
    expected = RetryAction.DEFAULT if cause is None or error_class(cause).retryable else RetryAction.FAIL
    assert ModelsLabRetryPolicy().evaluate(error, 1, 3).action is expected


def test_foreign_exceptions_are_left_to_the_task() -> None:
    assert ModelsLabRetryPolicy().evaluate(KeyError("x"), 1, 3).action is RetryAction.DEFAULT


def test_a_dag_with_it_is_serialized() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("restyling", schedule=None) as dag:
        ModelsLabVideo2VideoOperator(
            task_id="restyle",
            model_id="m",
            prompt="a fox",
            init_video="https://example.com/in.mp4",
            retry_policy=ModelsLabRetryPolicy(timedelta(seconds=7)),
        )
    DagSerialization.to_dict(dag)
    again = ModelsLabRetryPolicy.deserialize(ModelsLabRetryPolicy(timedelta(seconds=7), 2 * HOUR).serialize())
    assert (again.rate_limit_delay, again.rate_limit_timeout) == (timedelta(seconds=7), 2 * HOUR)
