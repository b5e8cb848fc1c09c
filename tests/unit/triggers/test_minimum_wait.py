"""No event comes before Airflow's executor has had the time to report the end of the process that deferred."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_modelslab import get_provider_info
from airflow_provider_modelslab.triggers.batch import ModelsLabBatchTrigger
from airflow_provider_modelslab.triggers.minimum_wait import min_deferral
from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger
from tests.support.connections import set_modelslab
from tests.support.scripted_server import Answer, ScriptedServer
from tests.support.tasks import event_of

SETTING = "AIRFLOW__MODELSLAB__MIN_DEFERRAL"
DONE = {"status": "success", "id": 7, "output": ["https://example.com/out.mp4"]}
FAILED = {"status": "failed", "id": 7, "message": "no luck"}


def single() -> BaseTrigger:
    now = time.time()
    return ModelsLabVideo2VideoTrigger("7", submitted_at=now, deadline=now + 600, eta=0)


def batch() -> BaseTrigger:
    now = time.time()
    return ModelsLabBatchTrigger([{"job_id": "7", "submitted_at": now, "deadline": now + 600, "eta": 0}])


def ends(trigger: BaseTrigger, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[float]]:
    """Its event, and how long the loop was told to sleep for after the poll."""
    naps: list[float] = []
    sleep = asyncio.sleep

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        await sleep(min(seconds, 0.01))

    monkeypatch.setattr(asyncio, "sleep", nap)
    return event_of(trigger), [seconds for seconds in naps if seconds > 20]


@pytest.mark.parametrize("make", [single, batch])
@pytest.mark.parametrize("body", [DONE, FAILED])
def test_what_has_ended_at_once_is_told_later(make: Any, body: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "3000")
    with ScriptedServer(Answer(body)) as server:
        set_modelslab(monkeypatch, server.url)
        event, naps = ends(make(), monkeypatch)
    assert "status" in event
    assert naps == [pytest.approx(3000, abs=60)]


@pytest.mark.parametrize("setting", ["0", "-1"])
def test_it_can_be_switched_off(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, setting)
    with ScriptedServer(Answer(DONE)) as server:
        set_modelslab(monkeypatch, server.url)
        event, naps = ends(single(), monkeypatch)
    assert (event["status"], naps) == ("success", [])


def test_an_event_of_a_batch_without_a_usable_connection_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "3000")
    set_modelslab(monkeypatch, "https://localhost", key=None)
    event, naps = ends(batch(), monkeypatch)
    assert event["status"] == "error"
    assert naps == [pytest.approx(3000, abs=60)]


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING)
    info: Any = get_provider_info()
    assert min_deferral() == float(info["config"]["modelslab"]["options"]["min_deferral"]["default"]) == 10
    monkeypatch.setenv(SETTING, "2.5")
    assert min_deferral() == 2.5
    monkeypatch.setenv(SETTING, "soon")
    with pytest.raises(Exception, match=r'"min_deferral" key in "modelslab".*soon'):
        min_deferral()
