from __future__ import annotations

import asyncio
import inspect
import json
import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger

from airflow_provider_modelslab.api.errors import JobFailedError, JobTimeoutError, error_from_event
from airflow_provider_modelslab.api.polling import PollPolicy
from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger
from tests.support.connections import KEY, set_modelslab
from tests.support.scripted_server import Answer, ScriptedServer
from tests.support.tasks import event_of, in_the_triggerer

QUICK = PollPolicy(min_interval=0.01, max_interval=0.02).to_dict()
DONE = {"status": "success", "id": 7, "output": ["https://example.com/out.mp4?sig=1"]}
WAIT = {"status": "processing", "message": "try again later.", "output": ""}


def trigger(**changes: Any) -> ModelsLabVideo2VideoTrigger:
    now = time.time()
    arguments = {"submitted_at": now, "deadline": now + 600, "eta": 0.01, "poll_policy": QUICK, **changes}
    return ModelsLabVideo2VideoTrigger("7", **arguments)


def event(body: Any, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[dict[str, Any], ScriptedServer]:
    answers = body if isinstance(body, list) else [body]
    with ScriptedServer(*(Answer(answer) for answer in answers)) as server:
        set_modelslab(monkeypatch, server.url)
        return event_of(trigger(**changes)), server


def test_it_becomes_the_same_trigger_in_the_triggerer() -> None:
    sent = trigger(modelslab_conn_id="other")
    path, arguments = sent.serialize()
    assert path == f"{ModelsLabVideo2VideoTrigger.__module__}.ModelsLabVideo2VideoTrigger"
    received = in_the_triggerer(TaskDeferred(trigger=sent, method_name="execute_complete"))
    assert isinstance(received, ModelsLabVideo2VideoTrigger)
    assert received.serialize() == (path, arguments)
    assert json.loads(json.dumps(arguments)) == arguments


def test_every_argument_is_serialized() -> None:
    parameters = inspect.signature(ModelsLabVideo2VideoTrigger).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    assert set(trigger().serialize()[1]) == named


def test_arguments_of_other_versions_are_ignored() -> None:
    _, arguments = trigger().serialize()
    newer = ModelsLabVideo2VideoTrigger(**{**arguments, "on_lost": "resubmit"})
    assert newer.serialize()[1] == arguments
    older = {name: arguments[name] for name in ("job_id", "submitted_at", "deadline")}
    assert ModelsLabVideo2VideoTrigger(**older).modelslab_conn_id == "modelslab_default"


def test_it_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch)
    sent = trigger()
    assert KEY not in repr(sent) + str(sent.serialize()) + str(vars(sent))


def test_the_event_of_a_finished_job(monkeypatch: pytest.MonkeyPatch) -> None:
    got, server = event([WAIT, DONE], monkeypatch)
    assert got == {"status": "success", "job_id": "7", "links": DONE["output"], "generation_time": None, "meta": {}}
    assert server.paths == ["/api/v1/enterprise/video/fetch/7"] * 2


def test_the_event_of_a_failed_job(monkeypatch: pytest.MonkeyPatch) -> None:
    got, _ = event({"status": "failed", "id": "", "message": "the job ran into an error", "output": ""}, monkeypatch)
    assert (got["status"], got["code"], got["job_id"]) == ("error", "job_failed", "7")
    error = error_from_event(got)
    assert isinstance(error, JobFailedError)
    assert "the job ran into an error" in str(error)


def test_an_unknown_job_is_lost_once_it_is_old_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = {"status": "failed", "id": "", "message": "Request not found", "output": ""}
    got, server = event([unknown, DONE], monkeypatch)
    assert (got["status"], server.posts) == ("success", 2)  # just submitted: not there yet
    got, server = event(unknown, monkeypatch, submitted_at=time.time() - 61)
    assert (got["code"], server.posts) == ("job_lost", 1)


def test_a_refused_key_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    got, server = event({"status": "error", "message": "Invalid API key"}, monkeypatch)
    assert (got["code"], server.posts) == ("authentication", 1)


def test_a_connection_that_lost_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, key=None)
    got = event_of(trigger())
    assert (got["status"], got["code"]) == ("error", "authentication")
    assert "'modelslab_default' has no API key" in got["message"]


def test_the_deadline_is_a_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    # As after a restart long after the deadline: one last poll, then the end, however long the trigger runs itself.
    got, server = event(WAIT, monkeypatch, submitted_at=time.time() - 7200, deadline=time.time() - 3600)
    assert (got["code"], server.posts) == ("timeout", 1)
    assert "3600 s after its submission" in got["message"]
    assert isinstance(error_from_event(got), JobTimeoutError)
    got, server = event(DONE, monkeypatch, submitted_at=time.time() - 7200, deadline=time.time() - 3600)
    assert (got["status"], server.posts) == ("success", 1)


def test_the_deadline_ends_a_wait_that_never_gets_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(Answer({"status": "error"}, status=503)) as server:
        set_modelslab(monkeypatch, server.url)
        got = event_of(trigger(deadline=time.time() + 0.1))
    assert got["code"] == "timeout"
    assert server.posts >= 1


def test_it_never_submits_and_never_clears(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(Answer(WAIT)) as server:
        set_modelslab(monkeypatch, server.url)

        async def stopped() -> None:
            waiting: BaseTrigger = trigger()
            run = asyncio.ensure_future(anext(waiting.run()))
            await asyncio.to_thread(server.wait_for_requests, 2)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            assert run.cancelled()
            await waiting.cleanup()  # as the triggerer does when it stops; another one goes on

        asyncio.run(stopped())
    assert set(server.paths) == {"/api/v1/enterprise/video/fetch/7"}
