"""What the main operator makes of jobs that fail, get lost or last too long, and of a submit without an answer."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_modelslab.api.errors import (
    AuthenticationError,
    InvalidRequestError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
)
from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger
from tests.integration.tasks.conftest import Restyle, WatchedEngine
from tests.support.connections import KEY, set_modelslab
from tests.support.endpoint import VIDEO, Caller
from tests.support.scripted_server import Answer, HangUp, Reset, ScriptedServer, Step
from tests.support.tasks import RUN_ID, deferral_of, event_of, execute, in_the_triggerer, resume, run

BOTH = pytest.mark.parametrize("deferrable", [True, False])


@BOTH
@pytest.mark.usefixtures("connections")
def test_a_job_that_fails(restyle: Restyle, engine: WatchedEngine, deferrable: bool) -> None:
    with pytest.raises(JobFailedError, match="is no clip") as caught:
        run(lambda: restyle(prompt="an unreadable fox", deferrable=deferrable))
    assert caught.value.job_id == "1"
    assert len(engine.submitted) == 1


@BOTH
def test_a_job_that_failed_before_the_submit_was_answered(
    restyle: Restyle, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(
        Answer({"status": "failed", "id": 7, "message": "the job ran into an error", "output": ""})
    ) as server:
        set_modelslab(monkeypatch, server.url)
        with pytest.raises(JobFailedError, match="the job ran into an error") as caught:
            execute(restyle(deferrable=deferrable, land_result=False))
    assert (caught.value.job_id, server.posts) == ("7", 1)


@BOTH
@pytest.mark.usefixtures("connections")
def test_a_job_that_lasts_too_long(
    restyle: Restyle, engine: WatchedEngine, gate: threading.Event, endpoint: Caller, deferrable: bool
) -> None:
    with pytest.raises(JobTimeoutError, match=r"was not done \d+ s after its submission") as caught:
        run(lambda: restyle(timeout=0.3, deferrable=deferrable))
    assert caught.value.job_id is not None
    # The job goes on at the endpoint, and its result can be had by the id that the error tells.
    gate.set()
    assert endpoint.finished(caught.value.job_id)["status"] == "success"
    assert len(engine.submitted) == 1


@pytest.mark.usefixtures("connections", "gate")
def test_a_job_that_the_endpoint_forgot(restyle: Restyle, endpoint: Caller) -> None:
    deferred = deferral_of(restyle(deferrable=True))
    assert endpoint.post(f"{VIDEO}/clear_queue").json()["status"] == "success"
    trigger = in_the_triggerer(deferred)
    assert isinstance(trigger, ModelsLabVideo2VideoTrigger)
    trigger.submitted_at -= 120  # two minutes later: no longer "not there yet"
    with pytest.raises(JobLostError, match="Request not found") as caught:
        resume(restyle(deferrable=True), deferred, event_of(trigger))
    assert caught.value.job_id == "1"


@pytest.mark.usefixtures("s3_connection")
def test_a_wrong_key(
    restyle: Restyle,
    endpoint: Caller,
    engine: WatchedEngine,
    s3_extra: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_modelslab(monkeypatch, endpoint.url, key="some-other-key", **s3_extra)
    with pytest.raises(AuthenticationError, match="Check the API key in the password of the Airflow connection"):
        execute(restyle())
    assert engine.submitted == []


@pytest.mark.usefixtures("connections")
def test_a_request_that_the_endpoint_refuses(restyle: Restyle, engine: WatchedEngine) -> None:
    with pytest.raises(InvalidRequestError, match="model_id") as caught:
        execute(restyle(model_id="unknown"))
    assert set(caught.value.fields) == {"model_id"}
    assert engine.submitted == []


@BOTH
@pytest.mark.parametrize(
    "end",
    [
        Reset(),
        HangUp(),
        Answer({"status": "error", "message": "bad gateway"}, status=502),
        Answer({"status": "processing", "id": 7}, cut=10),
        Answer("<html>maintenance</html>"),
    ],
    ids=["reset", "hang-up", "502", "cut", "no JSON"],
)
def test_a_submit_without_a_usable_answer_is_for_a_person(
    restyle: Restyle, end: Step, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(end) as server:
        set_modelslab(monkeypatch, server.url)
        # Airflow never retries this exception: a retry would pay again.
        with pytest.raises(AirflowFailException, match="may be running and billed") as caught:
            execute(restyle(deferrable=deferrable, land_result=False))
    assert server.posts == 1
    assert f"restyling.restyle/{RUN_ID}" in str(caught.value)  # by which a person finds the job
    assert KEY not in str(caught.value)


def test_a_job_without_an_id_is_landed_from_its_links(
    restyle: Restyle, s3_connection: None, s3_extra: dict[str, Any], clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"status": "processing", "eta": 1, "output": [], "future_links": [clip], "meta": {"seed": 5}}
    with ScriptedServer(Answer(answer)) as server:
        set_modelslab(monkeypatch, server.url, **s3_extra)
        manifest = execute(restyle(deferrable=True))
    assert (manifest["status"], manifest["seed"], server.posts) == ("landed", 5, 1)


@pytest.mark.usefixtures("connections", "gate")
def test_airflows_own_time_out_comes_after_the_triggers(restyle: Restyle) -> None:
    deferred = deferral_of(restyle(deferrable=True, timeout=100, max_poll_interval=30))
    arguments = deferred.trigger.serialize()[1]
    assert arguments["deadline"] - arguments["submitted_at"] == pytest.approx(100)
    assert deferred.timeout is not None
    since_the_submission = time.time() - arguments["submitted_at"]
    assert 190 - since_the_submission <= deferred.timeout.total_seconds() <= 190
