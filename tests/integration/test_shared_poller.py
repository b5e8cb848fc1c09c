"""All that waits in one loop at one connection: one session, one limiter, one schedule."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from airflow_provider_modelslab.api.errors import (
    InvalidRequestError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
)
from airflow_provider_modelslab.api.polling import PollPolicy
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient
from airflow_provider_modelslab.client.config import Timeouts
from airflow_provider_modelslab.client.polling import poller as poller_module
from airflow_provider_modelslab.client.polling import rate_limiter, registry
from airflow_provider_modelslab.client.polling.poller import Ended, SharedPoller, Submitted, Watch
from airflow_provider_modelslab.client.polling.rate_limiter import RateLimiter
from airflow_provider_modelslab.client.polling.registry import shared_poller
from airflow_provider_modelslab.jobs.batch_jobs import PolledJobs
from tests.support.clients import KEY
from tests.support.job_server import LOST, RUNNING, done, job_server, refused, until

QUICK = PollPolicy(min_interval=0.01, max_interval=0.02)


def client_at(url: str, key: str = KEY) -> AsyncModelsLabClient:
    return AsyncModelsLabClient(key, base_url=url)


def when(seconds: float = 600.0) -> dict[str, float]:
    now = time.time()
    return {"submitted_at": now, "deadline": now + seconds}


def submitted(*job_ids: str, seconds: float = 600.0) -> list[Submitted]:
    return [Submitted(job_id, **when(seconds)) for job_id in job_ids]


def by_id(found: list[Ended]) -> dict[str, Finished | BaseException]:
    return {ended.job_id: ended.outcome for ended in found}


async def all_of(watch: Watch) -> list[Ended]:
    """What becomes of each job."""
    found: list[Ended] = []
    while ended := await watch.gather():
        found += ended
    return found


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.get_running_loop() not in registry._entries
    assert not registry._closing


@pytest.fixture
def connectors(monkeypatch: pytest.MonkeyPatch) -> list[aiohttp.TCPConnector]:
    """Every connector that is made."""
    made: list[aiohttp.TCPConnector] = []

    class Counted(aiohttp.TCPConnector):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(aiohttp, "TCPConnector", Counted)
    return made


async def test_one_job_and_what_can_become_of_it() -> None:
    failed = {"status": "failed", "id": "", "message": "the job ran into an error", "output": ""}

    async with job_server(
        lambda job_id, poll: {"good": done("good"), "bad": failed}[job_id] if poll > 2 else RUNNING
    ) as server:
        async with shared_poller(client_at(server.url)) as poller:
            finished = await poller.wait("good", **when(), policy=QUICK)
            assert finished.links == ("https://example.com/good.mp4?sig=1",)
            with pytest.raises(JobFailedError, match="ran into an error") as caught:
                await poller.wait("bad", **when(), policy=QUICK)
            assert caught.value.job_id == "bad"
            with pytest.raises(InvalidRequestError, match="job_id"):
                await poller.wait(" ", **when(), policy=QUICK)
        assert server.jobs == ["good"] * 3 + ["bad"] * 3
        assert server.paths == {"/api/v1/enterprise/video/fetch"}


async def test_many_callers_share_the_connections(connectors: list[aiohttp.TCPConnector]) -> None:
    async with job_server(lambda job_id, poll: done(job_id) if poll > 2 else RUNNING) as server:

        async def one(job_id: str) -> tuple[SharedPoller, str]:
            async with shared_poller(client_at(server.url)) as poller:
                finished = await poller.wait(job_id, **when(), policy=QUICK)
                return poller, finished.links[0]

        found = await asyncio.gather(*(one(str(number)) for number in range(300)))
        assert [link for _, link in found] == [f"https://example.com/{number}.mp4?sig=1" for number in range(300)]
        assert len({id(poller) for poller, _ in found}) == len(connectors) == 1
        assert len(server.peers) <= 200
        assert connectors[0].closed


async def test_two_keys_never_mix(connectors: list[aiohttp.TCPConnector]) -> None:
    async with job_server(lambda job_id, poll: done(job_id) if poll > 3 else RUNNING) as server:

        async def one(key: str, job_id: str) -> None:
            async with shared_poller(client_at(server.url, key)) as poller:
                await poller.wait(job_id, **when(), policy=QUICK)

        await asyncio.gather(*(one(f"key-{number % 2}", f"{number % 2}-{number}") for number in range(20)))
        assert server.keys == {(f"{number % 2}-{number}", f"key-{number % 2}") for number in range(20)}
    assert len(connectors) == 2


def test_what_makes_a_connection_another_one() -> None:
    same = AsyncModelsLabClient(f" {KEY} ", base_url="https://modelslab.com/api/v1/").connection
    assert AsyncModelsLabClient(KEY).connection == same
    for other in (
        AsyncModelsLabClient("another"),
        AsyncModelsLabClient(KEY, base_url="http://localhost"),
        AsyncModelsLabClient(KEY, verify=False),
        AsyncModelsLabClient(KEY, timeouts=Timeouts(read=1)),
    ):
        assert other.connection != same
        assert other.clone().connection == other.connection
    assert KEY not in repr(same)


async def test_no_repr_and_no_log_line_holds_the_key(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limiter, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(rate_limiter, "_SLOWEST", 30.0)
    caplog.set_level(logging.DEBUG)
    answers = [refused(0), web.Response(text=f"gateway: {KEY}", status=502), done("7")]
    async with (
        job_server(lambda job_id, poll: answers[poll - 1]) as server,
        shared_poller(client_at(server.url)) as poller,
        poller.watch(submitted("7"), policy=QUICK) as watch,
    ):
        await watch.gather()
        shown = repr(poller) + repr(watch) + repr(registry._entries)
    assert "2 failed poll(s) in a row" in caplog.text
    assert "per second" in caplog.text
    assert KEY not in shown + caplog.text


# -- many jobs of one caller --------------------------------------------------------------------------------------


async def test_a_batch_ends_job_by_job() -> None:
    def answer(job_id: str, poll: int) -> Any:
        return {"a": done("a"), "lost": LOST, "c": done("c") if poll > 3 else RUNNING}[job_id]

    old = Submitted("lost", time.time() - 3600, time.time() + 600)
    async with (
        job_server(answer) as server,
        shared_poller(client_at(server.url)) as poller,
        poller.watch([*submitted("a", "c"), old], policy=QUICK) as watch,
    ):
        found = by_id(await all_of(watch))
        assert watch.waiting == 0
        assert await watch.gather() == []
    assert isinstance(found["a"], Finished)
    assert isinstance(found["lost"], JobLostError)
    assert isinstance(found["c"], Finished)
    assert server.counts["c"] == 4


async def test_one_caller_waits_at_two_endpoints_that_give_out_the_same_ids() -> None:
    async with (
        job_server(lambda job_id, poll: done(job_id) if poll > 2 else RUNNING) as own,
        job_server(lambda job_id, poll: LOST if job_id == "2" else done(job_id)) as other,
        shared_poller(client_at(own.url)) as poller,
        shared_poller(client_at(other.url)) as second,
        poller.watch(submitted("1", "2"), policy=QUICK) as watch,
    ):
        branch = watch.at(second, "spare")
        for job in submitted("1", "2"):
            branch.add(replace(job, submitted_at=time.time() - 3600))
        assert watch.waiting == 4
        found = {(one.conn_id, one.job_id): type(one.outcome) for one in await all_of(watch)}
    assert found == {
        (None, "1"): Finished, (None, "2"): Finished, ("spare", "1"): Finished, ("spare", "2"): JobLostError,
    }  # fmt: skip


async def test_gather_waits_for_enough() -> None:
    release = asyncio.Event()

    def answer(job_id: str, poll: int) -> Any:
        return done(job_id) if job_id in "abc" or release.is_set() else RUNNING

    async with (
        job_server(answer) as server,
        shared_poller(client_at(server.url)) as poller,
        poller.watch(submitted(*"abcdef"), policy=QUICK) as watch,
    ):
        assert set(by_id(await watch.gather(3, defer_after=60))) == set("abc")
        assert await watch.gather(3, until=time.time() + 0.05) == []
        assert watch.waiting == 3
        release.set()
        assert set(by_id(await watch.gather(10, defer_after=60))) == set("def")  # there are no more


async def test_gather_lingers_after_the_first() -> None:
    async with (
        job_server(lambda job_id, poll: done(job_id) if job_id == "a" else RUNNING) as server,
        shared_poller(client_at(server.url)) as poller,
        poller.watch(submitted("a", "b"), policy=QUICK) as watch,
    ):
        assert set(by_id(await watch.gather(2, defer_after=0.05))) == {"a"}
        assert watch.waiting == 1


async def test_leaving_a_batch_drops_its_jobs() -> None:
    async with job_server(lambda job_id, poll: RUNNING) as server, shared_poller(client_at(server.url)) as poller:
        async with poller.watch(submitted("a", "b"), policy=QUICK):
            await until(lambda: server.counts["a"] and server.counts["b"])
        await until(lambda: not poller._due and not poller._in_flight)
        polls = len(server.polls)
        assert poller.polls == polls
        with pytest.raises(JobTimeoutError):
            await poller.wait("c", **when(0.05), policy=QUICK)
        assert set(server.jobs[polls:]) == {"c"}


async def test_adding_many_jobs_lets_the_loop_turn() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with shared_poller(client_at("http://127.0.0.1:9")) as poller:
        turning = asyncio.create_task(turn())
        slow = PollPolicy(min_interval=30, max_interval=30)
        async with poller.watch(submitted(*(str(n) for n in range(10_000))), policy=slow) as watch:
            assert watch.waiting == 10_000
            assert turns >= 40
        turning.cancel()


async def test_a_waiting_job_takes_little_memory() -> None:
    slow = PollPolicy(min_interval=30, max_interval=30)
    async with shared_poller(client_at("http://127.0.0.1:9")) as poller:
        jobs = submitted(*(str(n) for n in range(1000)))
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            async with poller.watch(jobs, policy=slow):
                in_a_batch = tracemalloc.get_traced_memory()[0] - before
            before = tracemalloc.get_traced_memory()[0]
            singles = [asyncio.create_task(poller.wait(str(n), **when(), policy=slow)) for n in range(1000)]
            await asyncio.sleep(0)
            alone = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        for single in singles:
            single.cancel()
        await asyncio.gather(*singles, return_exceptions=True)
    assert in_a_batch < 1_500_000  # 1.5 kB a job
    assert alone < 4_000_000


# -- the limiter --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
async def test_a_refusal_slows_everybody_down_and_good_answers_recover(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limiter, "_SLOWEST", 30.0)
    poller: SharedPoller
    in_pause: list[str] = []
    rates: list[float] = []

    def answer(job_id: str, poll: int) -> Any:
        limiter = poller.limiter
        if job_id == "0" and poll == 3:
            return refused(0.3, status=status)
        if asyncio.get_running_loop().time() < limiter.resume_at:
            in_pause.append(job_id)
        if limiter.slowed:
            rates.append(limiter.rate)
        return done(job_id) if len(rates) > 40 else RUNNING

    async with (
        job_server(answer) as server,
        shared_poller(client_at(server.url)) as poller,
        poller.watch(submitted(*(str(n) for n in range(10))), policy=QUICK) as watch,
    ):
        found = by_id(await all_of(watch))
    assert all(isinstance(outcome, Finished) for outcome in found.values())
    assert len(found) == 10
    # Those under way with the refused one may still arrive; nobody else does until the pause is over.
    assert len(in_pause) <= 9
    assert len(set(in_pause)) == len(in_pause)
    assert rates == sorted(rates)
    assert rates[0] < rates[-1] < 500


@pytest.mark.parametrize("jobs", [3, 12])
async def test_server_errors_slow_the_others_when_many_jobs_get_one(jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limiter, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(rate_limiter, "_SLOWEST", 100.0)
    broken = frozenset(str(n) for n in range(jobs))
    seen: set[str] = set()

    def answer(job_id: str, poll: int) -> Any:
        seen.add(job_id)
        fails = job_id in broken and (poll < 4 or not broken <= seen)
        return web.Response(text="<h1>Oops</h1>", status=500) if fails else done(job_id)

    async with (
        job_server(answer) as server,
        shared_poller(client_at(server.url)) as poller,
        poller.watch(submitted(*(str(n) for n in range(15))), policy=QUICK) as watch,
    ):
        found = by_id(await all_of(watch))
        assert (poller.limiter.resume_at > 0) == (jobs == 12)
    assert all(isinstance(outcome, Finished) for outcome in found.values())
    assert len(found) == 15


async def test_a_last_poll_goes_out_in_a_pause() -> None:
    async with (
        job_server(lambda job_id, poll: done(job_id) if job_id == "finished" else refused(600)) as server,
        shared_poller(client_at(server.url)) as poller,
        poller.watch(submitted("refused"), policy=PollPolicy(min_interval=0.05, max_interval=600)) as watch,
    ):
        await until(lambda: poller.limiter.resume_at > asyncio.get_running_loop().time() + 300)
        for job in (*submitted("finished", "unlucky", seconds=0.1), *submitted("later")):
            watch.add(job)
        found = by_id(await watch.gather(2, defer_after=60))
        assert watch.waiting == 2
    assert isinstance(found["finished"], Finished)
    assert isinstance(found["unlucky"], JobTimeoutError)
    assert server.counts == {"refused": 1, "finished": 1, "unlucky": 1}


async def test_no_more_polls_at_once_than_allowed() -> None:
    at_once = most = 0
    all_allowed = asyncio.Event()

    async def answer(job_id: str, poll: int) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == 7:
            all_allowed.set()
        await all_allowed.wait()
        await asyncio.sleep(0.02)  # one too many would come meanwhile
        at_once -= 1
        return done(job_id)

    async with job_server(answer) as server:
        poller = SharedPoller(client_at(server.url), limiter=RateLimiter(max_concurrent=7))
        poller._limiter._clock = asyncio.get_running_loop().time
        async with poller.watch(submitted(*(str(n) for n in range(40))), policy=QUICK) as watch:
            assert len(await all_of(watch)) == 40
        await poller.aclose()
    assert most == 7
    assert poller.polls == 40


async def test_an_endpoint_that_hangs_cannot_hold_a_job_past_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "GRACE", 0.05)
    monkeypatch.setattr(poller_module, "_SWEEP", 0.02)
    forever = asyncio.Event()

    async def answer(job_id: str, poll: int) -> Any:
        await forever.wait()
        return RUNNING

    async with job_server(answer) as server:
        poller = SharedPoller(client_at(server.url), limiter=RateLimiter(max_concurrent=1))
        async with poller.watch(submitted("1", "2", "3", seconds=0.05), policy=QUICK) as watch:
            found = by_id(await watch.gather(2, defer_after=60))
            await until(lambda: server.polls)
            assert len(server.polls) == watch.waiting == 1  # the one that hangs ends by its own time-out
        await poller.aclose()
        forever.set()
    assert len(found) == 2
    assert all(isinstance(outcome, JobTimeoutError) for outcome in found.values())


async def test_late_polls_are_counted() -> None:
    gate = asyncio.Event()

    async def answer(job_id: str, poll: int) -> Any:
        await gate.wait()
        return done(job_id)

    async with job_server(answer) as server:
        poller = SharedPoller(client_at(server.url), limiter=RateLimiter(max_concurrent=1))
        async with poller.watch(submitted("1", "2"), policy=QUICK) as watch:
            await until(lambda: server.polls)
            for _, _, job in poller._due:
                job.late_after -= 3600  # as if it had been due long ago
            gate.set()
            await watch.gather(2, defer_after=60)
        assert (poller.polls, poller.late) == (2, 1)
        await poller.aclose()


# -- the end ------------------------------------------------------------------------------------------------------


async def test_the_last_one_out_closes_the_session(connectors: list[aiohttp.TCPConnector]) -> None:
    async with job_server(lambda job_id, poll: RUNNING) as server:

        async def one(job_id: str) -> None:
            async with shared_poller(client_at(server.url)) as poller:
                await poller.wait(job_id, **when(), policy=QUICK)

        tasks = [asyncio.create_task(one(str(number))) for number in range(3)]
        await until(lambda: len(server.counts) == 3)
        for left, task in zip((2, 1, 0), tasks, strict=True):
            task.cancel("a word to the outside")
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert caught.value.args == ("a word to the outside",)  # Airflow tells a kill from a restart by it
            assert connectors[0].closed is (left == 0)
    assert len(connectors) == 1


async def test_a_poll_in_flight_is_cancelled_with_the_poller() -> None:
    arrived, forever = asyncio.Event(), asyncio.Event()

    async def answer(job_id: str, poll: int) -> Any:
        arrived.set()
        await forever.wait()
        return RUNNING

    async with job_server(answer) as server:
        async with shared_poller(client_at(server.url)) as poller, poller.watch(submitted("7"), policy=QUICK):
            await arrived.wait()
            (poll,) = poller._in_flight
        assert poll.cancelled()
        forever.set()


async def test_a_leaver_who_is_cancelled_again_still_closes(connectors: list[aiohttp.TCPConnector]) -> None:
    async with job_server(lambda job_id, poll: RUNNING) as server:
        held = asyncio.Event()

        async def one() -> None:
            async with shared_poller(client_at(server.url)) as poller:
                try:
                    await poller.wait("7", **when(), policy=QUICK)
                finally:
                    held.set()

        task = asyncio.create_task(one())
        await until(lambda: server.polls)
        task.cancel()
        await held.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not registry._closing)
    assert connectors[0].closed


async def test_a_user_that_comes_while_a_poller_closes_gets_a_new_one(connectors: list[aiohttp.TCPConnector]) -> None:
    async with job_server(lambda job_id, poll: done(job_id)) as server:
        client = client_at(server.url)
        async with shared_poller(client) as first:
            await first.wait("1", **when(), policy=QUICK)
            lease = shared_poller(client)
            await lease.__aenter__()
        assert not connectors[0].closed
        leaving = asyncio.ensure_future(lease.__aexit__(None, None, None))
        await asyncio.sleep(0)
        async with shared_poller(client) as second:
            assert second is not first
            await second.wait("2", **when(), policy=QUICK)
            await leaving
            await second.wait("3", **when(), policy=QUICK)
    assert [connector.closed for connector in connectors] == [True, True]


async def test_a_fault_of_the_program_ends_its_own_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = AsyncModelsLabClient.fetch

    async def faulty(self: AsyncModelsLabClient, job_id: str) -> Any:
        if job_id == "cursed":
            raise KeyError("a fault")
        return await fetch(self, job_id)

    monkeypatch.setattr(AsyncModelsLabClient, "fetch", faulty)
    async with job_server(lambda job_id, poll: done(job_id)) as server, shared_poller(client_at(server.url)) as poller:
        with pytest.raises(KeyError, match="a fault"):
            await poller.wait("cursed", **when(), policy=QUICK)
        assert (await poller.wait("fine", **when(), policy=QUICK)).links


class TimeIsUpError(BaseException):
    """Like Airflow's time-out: a signal raises it wherever the program is."""


async def test_a_time_out_that_strikes_in_a_poll_is_raised_where_the_job_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def struck(self: AsyncModelsLabClient, job_id: str) -> Any:
        raise TimeIsUpError

    monkeypatch.setattr(AsyncModelsLabClient, "fetch", struck)
    async with shared_poller(client_at("http://127.0.0.1:9")) as poller:
        with pytest.raises(TimeIsUpError):
            await asyncio.wait_for(poller.wait("alone", **when(), policy=QUICK), 60)
        async with poller.watch(submitted("7"), policy=QUICK) as watch:
            with pytest.raises(TimeIsUpError):
                await asyncio.wait_for(PolledJobs(watch, {}, timeout=60).next(), 60)


async def test_nobody_listens() -> None:
    async with shared_poller(client_at("http://127.0.0.1:9")) as poller:
        with pytest.raises(JobTimeoutError, match="ConnectionRefusedError"):
            await poller.wait("7", **when(0.1), policy=QUICK)
        assert not poller.limiter.slowed  # no answer says nothing about load


def test_each_loop_has_its_own(connectors: list[aiohttp.TCPConnector]) -> None:
    async def life() -> SharedPoller:
        async with (
            job_server(lambda job_id, poll: done(job_id)) as server,
            shared_poller(client_at(server.url)) as poller,
        ):
            await poller.wait("7", **when(), policy=QUICK)
            return poller

    assert asyncio.run(life()) is not asyncio.run(life())
    assert [connector.closed for connector in connectors] == [True, True]
    assert not registry._entries


def test_a_loop_that_ended_without_goodbye_is_forgotten() -> None:
    rude = asyncio.new_event_loop()
    lease = shared_poller(client_at("http://127.0.0.1:9"))
    rude.run_until_complete(lease.__aenter__())
    assert rude in registry._entries
    rude.close()

    async def next_one() -> None:
        async with shared_poller(client_at("http://127.0.0.1:9")):
            assert rude not in registry._entries

    asyncio.run(next_one())


async def test_log_lines_belong_to_who_waits() -> None:
    task: contextvars.ContextVar[str] = contextvars.ContextVar("task", default="nobody")
    lines: list[tuple[str, str]] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((task.get(), record.getMessage()))

    listener = Listener(logging.INFO)
    log = logging.getLogger("airflow_provider_modelslab.client.polling.poller")
    log.addHandler(listener)
    log.setLevel(logging.INFO)
    try:
        async with job_server(lambda job_id, poll: refused(0) if poll == 1 else done(job_id)) as server:

            async def one(name: str) -> None:
                task.set(name)
                async with shared_poller(client_at(server.url)) as poller:
                    await poller.wait(name, **when(), policy=QUICK)

            await asyncio.gather(one("a"), one("b"))
    finally:
        log.removeHandler(listener)
        log.setLevel(logging.NOTSET)
    assert {(who, text[:6]) for who, text in lines} == {("a", "Job a:"), ("b", "Job b:"), ("nobody", lines[0][1][:6])}


async def test_an_error_without_an_answer_goes_on() -> None:
    async def answer(job_id: str, poll: int) -> Any:
        if poll == 1:
            raise web.HTTPMovedPermanently("https://elsewhere.example.com/")
        return done(job_id)

    async with job_server(answer) as server, shared_poller(client_at(server.url)) as poller:
        assert (await poller.wait("7", **when(), policy=QUICK)).links
        assert not poller.limiter.slowed
