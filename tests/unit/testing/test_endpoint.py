"""Faults on demand and bills, by calls without the package's client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_modelslab.testing import ServedEndpoint, serve_endpoint
from tests.support.endpoint import Caller


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[ServedEndpoint]:
    with serve_endpoint(tmp_path) as served:
        yield served


@pytest.fixture
def caller(endpoint: ServedEndpoint) -> Caller:
    return Caller(endpoint.url, endpoint.key)


def test_each_accepted_job_is_on_a_bill(endpoint: ServedEndpoint, caller: Caller) -> None:
    assert endpoint.bills() == []
    job = caller.submit(track_id="mine")
    caller.submit(track_id="other")
    assert caller.finished(job["id"])["status"] == "success"
    first, second = endpoint.bills()
    assert (first.job_id, first.track_id, first.status, first.faults) == (job["id"], "mine", "success", ())
    assert first.fingerprint == second.fingerprint
    assert endpoint.requests()["video2video"] == 2


def test_a_fault_is_for_the_next_submits_alone(endpoint: ServedEndpoint, caller: Caller) -> None:
    endpoint.inject("error_before", status=503)
    endpoint.inject("reset_after")
    assert caller.send().status_code == 503
    with pytest.raises(requests.ConnectionError):
        caller.send()
    assert caller.send().status_code == 200
    assert [bill.faults for bill in endpoint.bills()] == [("reset_after",), ()]
    assert endpoint.faults_acted() == {"error_before": 1, "reset_after": 1}


def test_a_rate_limit_acts_on_repeated_submits_too(endpoint: ServedEndpoint, caller: Caller) -> None:
    caller.submit(track_id="mine")
    endpoint.inject("rate_limit", times=2)
    answers = [caller.submit(track_id="mine")["status"] for _ in range(3)]
    assert answers == ["error", "error", "processing"]
    assert endpoint.faults_acted() == {"rate_limit": 2}


@pytest.mark.parametrize(
    ("fault", "times", "options"),
    [("no_such", 1, {}), ("reset_after", 0, {}), ("late_links", 1, {"minutes": 1}), ("late_links", 1, {"seconds": -1})],
)
def test_a_fault_that_cannot_be_is_refused(
    endpoint: ServedEndpoint, fault: str, times: int, options: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=r"fault|times|option|seconds"):
        endpoint.inject(fault, times=times, **options)
    assert endpoint.bills() == []


def test_a_job_is_held_where_that_is_asked_for(tmp_path: Path) -> None:
    with serve_endpoint(tmp_path, hold_s=60) as served:
        assert Caller(served.url, served.key).submit()["status"] == "success"
