"""Whether a job is done, runs, or came to nothing: a script must never take a running, billed job for failed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_modelslab.api.poll_policy import PollPolicy
from airflow_provider_modelslab.cli import progress as watching
from airflow_provider_modelslab.cli.common import FAILED, RUNNING, UNKNOWN
from tests.integration.tasks.conftest import WatchedEngine
from tests.support.connections import set_modelslab
from tests.support.scripted_server import Answer, HangUp, ScriptedServer, Step
from tests.support.shell import Shell

pytestmark = pytest.mark.usefixtures("connections", "quick")

PROCESSING = Answer({"status": "processing", "id": 5, "eta": 0.01})
NOT_FOUND = Answer({"status": "error", "message": "Request not found"})


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[ScriptedServer], None]:
    """Lets ``modelslab_default`` lead to a server that follows a script."""
    return lambda server: set_modelslab(monkeypatch, f"{server.url}/api/v1/enterprise/video")


def when_watched(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Do something once a command has begun to watch."""
    real = watching._Progress.show

    def show(progress: watching._Progress, seconds: float) -> None:
        then()
        real(progress, seconds)

    monkeypatch.setattr(watching._Progress, "show", show)


def test_a_job_that_is_watched_no_longer_still_runs(
    submit: Callable[..., Any], airflow: Shell, gate: threading.Event
) -> None:
    job = submit("--no-wait")["job_id"]
    shown = airflow.json("show", job, "--watch", "--timeout", "0.3", code=RUNNING)
    assert (shown["job_id"], shown["state"]) == (job, "running")
    assert f"Stopped watching after 0.3 s. Job {job} keeps running, and is billed" in airflow.err
    assert "submission" not in airflow.err  # when that was is not known here
    assert set(shown) == set(airflow.json("show", job, code=RUNNING))
    gate.set()
    assert airflow.json("show", job, "--watch")["state"] == "finished"


def test_a_job_that_fails_while_it_is_watched_is_shown_as_failed(
    submit: Callable[..., Any], airflow: Shell, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit("--no-wait", prompt="unreadable")["job_id"]
    when_watched(monkeypatch, gate.set)
    shown = airflow.json("show", job, "--watch", code=FAILED)
    assert (shown["state"], shown["code"]) == ("failed", "job_failed")
    assert airflow.json("show", job, code=FAILED) == shown


def test_a_job_that_is_lost_while_it_is_watched_is_shown_as_lost(
    airflow: Shell, scripted: Callable[[ScriptedServer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "poll_policy", lambda low, high: PollPolicy(low, high, not_found_grace=0.0))
    with ScriptedServer(PROCESSING, NOT_FOUND) as server:
        scripted(server)
        shown = airflow.json("show", "5", "--watch", code=FAILED)
        assert (shown["state"], shown["code"]) == ("failed", "job_lost")
        assert airflow.json("show", "5", code=FAILED) == shown


def test_not_found_for_a_moment_is_no_proof_when_the_time_is_up(
    airflow: Shell, scripted: Callable[[ScriptedServer], None]
) -> None:
    with ScriptedServer(PROCESSING, NOT_FOUND) as server:
        scripted(server)
        assert airflow.json("show", "5", "--watch", "--timeout", "0.2", code=RUNNING)["state"] == "running"


@pytest.mark.parametrize(
    "step",
    [
        Answer({"status": "error", "message": "slow down"}, status=429),
        Answer({"status": "error", "message": "Invalid API key"}, status=401),
        Answer({"status": "error", "message": "Rate limit exceeded"}),
        Answer("<html>Bad gateway</html>", status=502),
        HangUp(),
    ],
)
@pytest.mark.parametrize("words", [(), ("--watch",)])
def test_an_endpoint_that_does_not_say_is_no_failed_job(
    airflow: Shell, scripted: Callable[[ScriptedServer], None], step: Step, words: tuple[str, ...]
) -> None:
    with ScriptedServer(step) as server:
        scripted(server)
        assert airflow("show", "5", *words, "--output", "json") == UNKNOWN
    assert airflow.out == ""
    assert airflow.err.startswith("error: ")


def test_a_connection_that_is_not_there_says_nothing_of_the_job(airflow: Shell) -> None:
    assert airflow("show", "5", "--conn-id", "nobody") == UNKNOWN
    assert airflow.out == ""


def test_a_submission_that_is_waited_for_no_longer_still_runs(
    submit: Callable[..., Any], airflow: Shell, engine: WatchedEngine, gate: threading.Event
) -> None:
    message = submit("--timeout", "0.3", code=RUNNING)
    assert "keeps running without this command, and is billed" in message
    assert "error: " not in message
    manifest = json.loads(airflow.out)
    assert manifest["status"] == "submitted"
    assert airflow.json("show", manifest["job_id"], code=RUNNING)["state"] == "running"
    gate.set()
    assert submit()["job_id"] == manifest["job_id"]
    assert len(engine.submitted) == 1


def test_a_result_that_is_not_there_yet_cannot_land(
    submit: Callable[..., Any], airflow: Shell, gate: threading.Event, bucket: str
) -> None:
    job = submit("--no-wait")["job_id"]
    line = ("land", job, "--to", f"s3://{bucket}/out.mp4")
    assert airflow(*line) == RUNNING
    assert f"airflow modelslab show {job} --watch" in airflow.err
    assert airflow.out == ""
