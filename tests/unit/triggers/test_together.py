"""Triggers of one triggerer, side by side in one loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_modelslab.api.polling import PollPolicy
from airflow_provider_modelslab.client.polling import registry
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.triggers import connections
from airflow_provider_modelslab.triggers.batch import ModelsLabBatchTrigger
from airflow_provider_modelslab.triggers.connections import client_of
from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger
from tests.support.connections import set_modelslab
from tests.support.job_server import RUNNING, done, job_server, until
from tests.support.tasks import aevent_of

QUICK = PollPolicy(min_interval=0.01, max_interval=0.02).to_dict()


def trigger(job_id: str, **changes: Any) -> ModelsLabVideo2VideoTrigger:
    now = time.time()
    arguments = {"submitted_at": now, "deadline": now + 600, "poll_policy": QUICK, **changes}
    return ModelsLabVideo2VideoTrigger(job_id, **arguments)


def again(waits: BaseTrigger) -> BaseTrigger:
    """The trigger that another triggerer makes of it."""
    return type(waits)(**waits.serialize()[1])


@pytest.fixture
def connectors(monkeypatch: pytest.MonkeyPatch) -> list[aiohttp.TCPConnector]:
    made: list[aiohttp.TCPConnector] = []

    class Counted(aiohttp.TCPConnector):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(aiohttp, "TCPConnector", Counted)
    return made


@pytest.fixture
def look_ups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The connections that were asked of Airflow."""
    asked: list[str] = []
    get = ModelsLabHook.get_async_client

    async def counted(self: ModelsLabHook) -> Any:
        asked.append(self.modelslab_conn_id)
        return await get(self)

    monkeypatch.setattr(ModelsLabHook, "get_async_client", counted)
    return asked


async def test_five_hundred_triggers_and_a_batch_share_one_session(
    connectors: list[aiohttp.TCPConnector], look_ups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_CACHE_SECONDS", 3600)
    ids = [str(number) for number in range(500)]
    now = time.time()
    batch = ModelsLabBatchTrigger(
        [{"job_id": f"b{job_id}", "submitted_at": now, "deadline": now + 600} for job_id in ids[:50]],
        wake_at=50,
        defer_after=60,
        poll_policy=QUICK,
    )
    async with job_server(lambda job_id, poll: done(job_id) if poll > 1 else RUNNING) as server:
        set_modelslab(monkeypatch, server.url)
        told, *events = await asyncio.gather(aevent_of(batch), *(aevent_of(trigger(job_id)) for job_id in ids))
    assert [event["links"] for event in events] == [[f"https://example.com/{job_id}.mp4?sig=1"] for job_id in ids]
    assert (len(told["ended"]), told["waiting"]) == (50, 0)
    assert len(connectors) == 1
    assert connectors[0].closed
    assert len(server.peers) <= 200
    assert look_ups == ["modelslab_default"]
    assert asyncio.get_running_loop() not in registry._entries


async def test_a_changed_connection_is_noticed_and_makes_a_group_of_its_own(
    connectors: list[aiohttp.TCPConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_CACHE_SECONDS", 0)
    ended = asyncio.Event()
    async with job_server(lambda job_id, poll: done(job_id) if ended.is_set() else RUNNING) as server:
        set_modelslab(monkeypatch, server.url, key="old-key")
        old = asyncio.create_task(aevent_of(trigger("old")))
        await until(lambda: server.polls)
        set_modelslab(monkeypatch, server.url, key="new-key")
        new = asyncio.create_task(aevent_of(trigger("new")))
        await until(lambda: server.counts["new"])
        ended.set()
        assert [(await wait)["status"] for wait in (old, new)] == ["success", "success"]
    assert server.keys == {("old", "old-key"), ("new", "new-key")}
    assert [connector.closed for connector in connectors] == [True, True]


async def test_a_looked_up_connection_is_kept_for_a_moment_alone(
    look_ups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_CACHE_SECONDS", 0.01)
    set_modelslab(monkeypatch)
    set_modelslab(monkeypatch, conn_id="other")
    await asyncio.gather(*(client_of(conn_id) for conn_id in ("modelslab_default", "other") * 20))
    assert sorted(look_ups) == ["modelslab_default", "other"]
    kept = connections._caches[asyncio.get_running_loop()]
    await until(lambda: not kept)
    await client_of("other")
    assert look_ups[2:] == ["other"]


async def test_one_who_is_cancelled_in_the_look_up_leaves_it_to_the_next(
    look_ups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_modelslab(monkeypatch)
    first, second = (asyncio.create_task(client_of("modelslab_default")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    await asyncio.gather(first, return_exceptions=True)
    assert len(look_ups) <= 2


async def test_a_restarted_triggerer_goes_on_where_the_other_stopped(
    connectors: list[aiohttp.TCPConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = asyncio.Event()
    sent = [trigger(str(number), eta=0.01) for number in range(5)]
    async with job_server(lambda job_id, poll: done(job_id) if finished.is_set() else RUNNING) as server:
        set_modelslab(monkeypatch, server.url)
        runs = [asyncio.create_task(aevent_of(waits)) for waits in sent]
        await until(lambda: len(server.counts) == 5)
        for run, waits in zip(runs, sent, strict=True):
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            await waits.cleanup()
        assert connectors[0].closed
        finished.set()
        events = await asyncio.gather(*(aevent_of(again(waits)) for waits in sent))
    assert [event["status"] for event in events] == ["success"] * 5
    assert server.paths == {"/api/v1/enterprise/video/fetch"}
    assert len(connectors) == 2


async def test_a_kill_reaches_the_trigger_with_airflows_own_word(monkeypatch: pytest.MonkeyPatch) -> None:
    async with job_server(lambda job_id, poll: RUNNING) as server:
        set_modelslab(monkeypatch, server.url)
        run = asyncio.create_task(aevent_of(trigger("7")))
        await until(lambda: server.polls)
        run.cancel("user-action")
        with pytest.raises(asyncio.CancelledError) as caught:
            await run
    assert caught.value.args == ("user-action",)


def test_one_triggerer_after_the_other_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def life() -> dict[str, Any]:
        async with job_server(lambda job_id, poll: done(job_id)) as server:
            set_modelslab(monkeypatch, server.url)
            return await aevent_of(trigger("7"))

    assert [asyncio.run(life())["status"] for _ in range(2)] == ["success", "success"]
    assert not registry._entries
