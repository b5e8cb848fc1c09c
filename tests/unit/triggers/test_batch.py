from __future__ import annotations

import inspect
import json
import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_modelslab.api.errors import JobFailedError, JobTimeoutError, error_from_event
from airflow_provider_modelslab.api.polling import PollPolicy
from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient
from airflow_provider_modelslab.triggers import batch
from airflow_provider_modelslab.triggers.batch import ModelsLabBatchTrigger
from tests.support.connections import KEY, set_modelslab
from tests.support.job_server import LOST, RUNNING, done, job_server
from tests.support.tasks import aevent_of, event_of, in_the_triggerer

QUICK = PollPolicy(min_interval=0.01, max_interval=0.02).to_dict()


def jobs(*job_ids: str, seconds: float = 600.0) -> list[dict[str, Any]]:
    now = time.time()
    return [{"job_id": job_id, "submitted_at": now, "eta": 0.01, "deadline": now + seconds} for job_id in job_ids]


def trigger(*job_ids: str, **changes: Any) -> ModelsLabBatchTrigger:
    return ModelsLabBatchTrigger(jobs(*job_ids), **{"poll_policy": QUICK, **changes})


async def event(answer: Any, waits: ModelsLabBatchTrigger, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    async with job_server(answer) as server:
        set_modelslab(monkeypatch, server.url)
        found = await aevent_of(waits)
        assert server.paths <= {"/api/v1/enterprise/video/fetch"}  # it only reads
        return found


def test_it_becomes_the_same_trigger_in_the_triggerer() -> None:
    sent = trigger("7", "8", modelslab_conn_id="other", wake_at=2, defer_after=5.0, max_wait=600.0)
    path, arguments = sent.serialize()
    assert path == f"{ModelsLabBatchTrigger.__module__}.ModelsLabBatchTrigger"
    received = in_the_triggerer(TaskDeferred(trigger=sent, method_name="execute_complete"))
    assert isinstance(received, ModelsLabBatchTrigger)
    assert received.serialize() == (path, arguments)  # with the moment of its start, too
    assert json.loads(json.dumps(arguments)) == arguments


def test_every_argument_is_serialized_and_others_are_ignored() -> None:
    parameters = inspect.signature(ModelsLabBatchTrigger).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    arguments = trigger("7").serialize()[1]
    assert set(arguments) == named
    newer = {**arguments, "jobs": [{**arguments["jobs"][0], "key": KEY}], "on_lost": "resubmit"}
    assert ModelsLabBatchTrigger(**newer).serialize()[1] == arguments


def test_it_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch)
    sent = trigger("7")
    assert KEY not in repr(sent) + str(sent.serialize()) + str(vars(sent))
    assert repr(sent) == "<ModelsLabBatchTrigger jobs=1 modelslab_conn_id=modelslab_default>"


async def test_jobs_at_another_connection_are_polled_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async with job_server(lambda job_id, poll: LOST) as other:
        set_modelslab(monkeypatch, other.url, conn_id="spare")
        old = {**jobs("1")[0], "submitted_at": time.time() - 3600, "conn_id": "spare"}
        waits = ModelsLabBatchTrigger([*jobs("1"), old], wake_at=2, defer_after=60, poll_policy=QUICK)
        assert ModelsLabBatchTrigger(**waits.serialize()[1]).jobs == waits.jobs
        found = await event(lambda job_id, poll: done(job_id), waits, monkeypatch)
    ended = {(job.get("conn_id"), job["job_id"]): job["status"] for job in found["ended"]}
    assert ended == {(None, "1"): "success", ("spare", "1"): "error"}


@pytest.mark.parametrize("wrong", [{"wake_at": 0}, {"defer_after": -1}, {"max_wait": -1}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        trigger("7", **wrong)


async def test_each_ended_job_is_told_as_the_single_trigger_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"status": "failed", "id": "", "message": "the job ran into an error", "output": ""}
    good = {**done("good"), "generationTime": 3.5, "meta": {"seed": 7, "prompt": "long " * 100}}
    found = await event(
        lambda job_id, poll: {"good": good, "bad": failed, "slow": RUNNING}[job_id],
        ModelsLabBatchTrigger(
            [*jobs("good", "bad"), *jobs("slow", seconds=0.05)], wake_at=3, defer_after=60, poll_policy=QUICK
        ),
        monkeypatch,
    )
    assert (found["status"], found["waiting"]) == ("success", 0)
    ended = {job["job_id"]: job for job in found["ended"]}
    links = ["https://example.com/good.mp4?sig=1"]
    assert ended["good"] == {
        "status": "success",
        "job_id": "good",
        "links": links,
        "generation_time": 3.5,
        "meta": {"seed": 7},
    }
    assert isinstance(error_from_event(ended["bad"]), JobFailedError)
    assert "the job ran into an error" in ended["bad"]["message"]
    assert isinstance(error_from_event(ended["slow"]), JobTimeoutError)


async def test_it_wakes_a_worker_when_enough_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = set("abc")
    found = await event(
        lambda job_id, poll: done(job_id) if job_id in ready else RUNNING,
        trigger(*"abcdef", wake_at=3, defer_after=60),
        monkeypatch,
    )
    assert {job["job_id"] for job in found["ended"]} == ready
    assert found["waiting"] == 3


async def test_it_lingers_and_then_tells_of_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await event(
        lambda job_id, poll: done(job_id) if job_id == "a" else RUNNING,
        trigger("a", "b", wake_at=2, defer_after=0.05),
        monkeypatch,
    )
    assert ([job["job_id"] for job in found["ended"]], found["waiting"]) == (["a"], 1)


async def test_the_longest_wait_is_a_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    # As after a restart: what is over is over, however long this trigger has run itself.
    waits = trigger("a", "b", max_wait=60, started_at=time.time() - 61)
    found = await event(lambda job_id, poll: RUNNING, waits, monkeypatch)
    assert found == {"status": "success", "ended": [], "waiting": 2}


async def test_an_event_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_MAX_ENDED", 20)
    ids = [str(number) for number in range(50)]
    found = await event(lambda job_id, poll: done(job_id), trigger(*ids, wake_at=50, defer_after=60), monkeypatch)
    assert len(found["ended"]) == 20
    assert found["waiting"] == 30
    assert len(json.dumps(found)) < 20 * 300


def test_a_connection_without_a_key_is_no_fault_of_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, key=None)
    found = event_of(trigger("a", "b"))
    assert (found["status"], found["code"], found["job_id"]) == ("error", "authentication", None)


def test_a_batch_of_nothing_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch)
    assert event_of(trigger()) == {"status": "success", "ended": [], "waiting": 0}


async def test_a_fault_of_the_program_fails_the_trigger(monkeypatch: pytest.MonkeyPatch) -> None:
    async def faulty(self: AsyncModelsLabClient, job_id: str) -> Any:
        raise KeyError("a fault")

    monkeypatch.setattr(AsyncModelsLabClient, "fetch", faulty)
    with pytest.raises(KeyError, match="a fault"):
        await event(lambda job_id, poll: RUNNING, trigger("a"), monkeypatch)


async def test_a_kill_is_logged_and_cancels_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    await trigger("a", "b").on_kill()
    assert "The wait for 2 jobs was ended" in capsys.readouterr().out


def test_without_jobs_it_is_a_pause_that_survives_a_restart() -> None:
    begun = time.time()
    pause = ModelsLabBatchTrigger([], max_wait=0.3)
    assert event_of(in_the_triggerer(TaskDeferred(trigger=pause, method_name="execute_complete"))) == {
        "status": "success",
        "ended": [],
        "waiting": 0,
    }
    assert time.time() >= begun + 0.25
    assert event_of(pause)["ended"] == []  # its time is over, so another triggerer sends the event at once
