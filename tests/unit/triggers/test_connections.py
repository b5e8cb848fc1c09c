"""Looking up the connection in a triggerer: Airflow's database or API may be away for a moment; the jobs go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.triggers.base import BaseTrigger

from airflow_provider_modelslab.api.errors import ErrorCode, TransportError
from airflow_provider_modelslab.api.polling import PollPolicy
from airflow_provider_modelslab.hooks import modelslab
from airflow_provider_modelslab.triggers import connections
from airflow_provider_modelslab.triggers.batch import ModelsLabBatchTrigger
from airflow_provider_modelslab.triggers.connections import client_of
from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger
from tests.support.connections import set_modelslab
from tests.support.job_server import done, job_server
from tests.support.tasks import aevent_of

QUICK = PollPolicy(min_interval=0.01, max_interval=0.02).to_dict()
AWAY = RuntimeError("API_SERVER_ERROR: 503")
NOT_FOUND = AirflowNotFoundException("The conn_id `modelslab_default` isn't defined")  # Airflow 3.2 says so then, too


def single() -> BaseTrigger:
    now = time.time()
    return ModelsLabVideo2VideoTrigger("7", submitted_at=now, deadline=now + 600, poll_policy=QUICK)


def batch() -> BaseTrigger:
    now = time.time()
    jobs = [{"job_id": "7", "submitted_at": now, "deadline": now + 600}]
    return ModelsLabBatchTrigger(jobs, poll_policy=QUICK)


Trouble = Callable[[Exception, int], list[str]]


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Trouble:
    """Makes so many look-ups fail, and returns the list of all."""
    asked: list[str] = []

    def begin(error: Exception, times: int) -> list[str]:
        async def failing(conn_id: str, hook: Any) -> Any:
            asked.append(conn_id)
            if len(asked) <= times:
                raise error
            return await get_async_connection(conn_id, hook=hook)

        monkeypatch.setattr(modelslab, "get_async_connection", failing)
        return asked

    monkeypatch.setattr(connections, "_PAUSE", 0.01)
    return begin


@pytest.mark.parametrize("make", [single, batch])
@pytest.mark.parametrize("error", [AWAY, NOT_FOUND], ids=["away", "not-found"])
async def test_a_failed_look_up_is_repeated(
    make: Callable[[], BaseTrigger], error: Exception, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = trouble(error, 3)
    async with job_server(lambda job_id, poll: done(job_id)) as server:
        set_modelslab(monkeypatch, server.url)
        assert (await aevent_of(make()))["status"] == "success"
    assert len(asked) == 4


@pytest.mark.parametrize("make", [single, batch])
async def test_after_some_minutes_it_is_an_error_that_names_the_cause(
    make: Callable[[], BaseTrigger], trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_READ_TIMEOUT", 0.05)
    trouble(AWAY, 1000)
    event = await aevent_of(make())
    assert (event["status"], event["code"]) == ("error", ErrorCode.TRANSPORT)
    for part in ("'modelslab_default'", "API_SERVER_ERROR: 503", "clear"):
        assert part in event["message"]


async def test_all_waiting_triggers_get_the_error_together(trouble: Trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_READ_TIMEOUT", 0.05)
    monkeypatch.setattr(connections, "_CACHE_SECONDS", 3600)
    asked = trouble(NOT_FOUND, 1000)
    found = await asyncio.gather(*(client_of("modelslab_default") for _ in range(200)), return_exceptions=True)
    assert {type(error) for error in found} == {TransportError}
    assert len(asked) < 10


@pytest.mark.parametrize("make", [single, batch])
async def test_a_missing_key_is_told_at_once(
    make: Callable[[], BaseTrigger], trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = trouble(AWAY, 0)
    set_modelslab(monkeypatch, key=None)
    event = await aevent_of(make())
    assert (event["status"], event["code"]) == ("error", ErrorCode.AUTHENTICATION)
    assert len(asked) == 1
