"""Which failures are tried again, and when, on Airflow 3.3 and later."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import ChainRetryPolicy
from airflow.sdk import DAG
from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryPolicy, RetryRule

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


class OwnError(Exception):
    """Of the user's task."""


def chained(*, ours_first: bool = True) -> ChainRetryPolicy:
    """This policy, and one of the user that retries network trouble after 7 s and own errors never."""
    theirs = ExceptionRetryPolicy(
        [
            RetryRule(OwnError, RetryAction.FAIL),
            RetryRule(Exception, RetryAction.RETRY, retry_delay=timedelta(seconds=7)),
        ]
    )
    policies: list[RetryPolicy] = [ModelsLabRetryPolicy(), theirs]
    return ChainRetryPolicy(policies if ours_first else policies[::-1])


@pytest.mark.parametrize("code", list(ErrorCode))
def test_in_a_chain_it_decides_as_alone_and_the_next_policy_decides_the_rest(code: ErrorCode) -> None:
    error = error_from_code(code, "no", retry_after=45)
    alone, decision = ModelsLabRetryPolicy().evaluate(error, 1, 3), chained().evaluate(error, 1, 3)
    if alone.action is RetryAction.DEFAULT:
        assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(seconds=7))
    else:  # with its delay and its limits; the chain adds to the reason
        assert replace(decision, reason=alone.reason) == alone
        assert alone.reason in decision.reason


def test_in_a_chain_foreign_exceptions_are_the_next_policy_s() -> None:
    assert chained().evaluate(OwnError(), 1, 3).action is RetryAction.FAIL


def test_behind_a_policy_that_decides_everything_it_is_not_asked() -> None:
    error = error_from_code(ErrorCode.VALIDATION, "no")
    assert chained(ours_first=False).evaluate(error, 1, 3).action is RetryAction.RETRY


@pytest.mark.parametrize("policy", [ModelsLabRetryPolicy(timedelta(seconds=7)), chained()], ids=["alone", "in a chain"])
def test_a_dag_with_it_is_serialized(policy: RetryPolicy) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("restyling", schedule=None) as dag:
        ModelsLabVideo2VideoOperator(
            task_id="restyle",
            model_id="m",
            prompt="a fox",
            init_video="https://example.com/in.mp4",
            retry_policy=policy,
        )
    DagSerialization.to_dict(dag)


def test_its_settings_survive_serialization() -> None:
    again = ModelsLabRetryPolicy.deserialize(ModelsLabRetryPolicy(timedelta(seconds=7), 2 * HOUR).serialize())
    assert (again.rate_limit_delay, again.rate_limit_timeout) == (timedelta(seconds=7), 2 * HOUR)
