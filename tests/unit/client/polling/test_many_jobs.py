"""5,000 jobs at one connection in a loop with a fake clock: what some bad ones, or an outage, mean for the others."""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import mean
from types import SimpleNamespace
from typing import Any, cast

import pytest

from airflow_provider_modelslab.api.errors import ErrorCode
from airflow_provider_modelslab.api.polling import JobPoller
from airflow_provider_modelslab.api.response import Answer, Failed, Finished, Processing
from airflow_provider_modelslab.client.polling import poller as poller_module
from airflow_provider_modelslab.client.polling.poller import SharedPoller, Submitted
from airflow_provider_modelslab.client.polling.rate_limiter import RateLimiter
from tests.support.fake_time import FakeTimeLoop

SUBMITTED_WITHIN = 100.0
LATENCY = 0.1
RUNNING = Processing(None)
BROKEN = Failed(ErrorCode.TRANSPORT, "internal server error", http_status=500)


@dataclass(repr=False)
class World:
    """An endpoint, and who waits for its jobs. Times are those of the loop.

    :param bad: jobs whose polls are always answered with HTTP 500.
    :param down: whether the endpoint is down at a time; then it answers HTTP 500 for all.
    """

    loop: FakeTimeLoop
    bad: frozenset[str] = frozenset()
    down: Callable[[float], bool] = lambda at: False
    done_at: dict[str, float] = field(default_factory=dict)
    ended_at: dict[str, float] = field(default_factory=dict)
    polls: list[tuple[float, str]] = field(default_factory=list)
    all_ended: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    async def fetch(self, job_id: str) -> Answer:
        self.polls.append((self.loop.time(), job_id))
        await asyncio.sleep(LATENCY)
        now = self.loop.time()
        if job_id in self.bad or self.down(now):
            return BROKEN
        return Finished(job_id, ("https://h/a.mp4",)) if now >= self.done_at[job_id] else RUNNING

    async def aclose(self) -> None:
        """Nothing is open."""

    def put(self, job_id: str, outcome: Any) -> None:
        assert isinstance(outcome, Finished), outcome
        self.ended_at[job_id] = self.loop.time()
        if len(self.ended_at) == len(self.done_at) - len(self.bad):
            self.all_ended.set()

    @property
    def delays(self) -> list[float]:
        return [self.ended_at[job] - self.done_at[job] for job in self.done_at if job not in self.bad]

    def polls_of(self, jobs: frozenset[str]) -> list[tuple[float, str]]:
        return [(at, job) for at, job in self.polls if job in jobs]


Simulate = Callable[..., tuple[World, RateLimiter]]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Simulate:
    def run(jobs: int, **options: Any) -> tuple[World, RateLimiter]:
        chance = random.Random(7)
        loop = FakeTimeLoop()
        monkeypatch.setattr(poller_module, "time", SimpleNamespace(time=loop.time))
        monkeypatch.setattr(poller_module, "JobPoller", partial(JobPoller, clock=loop.time, uniform=chance.uniform))
        world = World(loop, **options)

        async def wait() -> RateLimiter:
            limiter = RateLimiter(clock=loop.time, uniform=chance.uniform)
            poller = SharedPoller(cast("Any", world), limiter=limiter)
            for number in range(jobs):
                at = loop.time() + number * SUBMITTED_WITHIN / jobs
                world.done_at[str(number)] = at + 20 + 30 * (number % 97) / 97
                job = Submitted(str(number), at, at + 3600)
                loop.call_at(at, poller.add, job, cast("Any", world), None)
            await world.all_ended.wait()
            await poller.aclose()
            return limiter

        try:
            return world, loop.run_until_complete(wait())
        finally:
            loop.close()

    return run


@pytest.mark.slow
def test_bad_jobs_delay_no_other(simulate: Simulate, capsys: pytest.CaptureFixture[str]) -> None:
    alone, _ = simulate(5000)
    bad = frozenset(str(number) for number in range(0, 5000, 100))
    world, limiter = simulate(5000, bad=bad)
    with capsys.disabled():
        print(  # noqa: T201 - a figure to look at; what has to hold is asserted
            f"\n{len(bad)} of 5000 jobs always answer 500: the others are found done after {mean(world.delays):.2f} s "
            f"on average, {mean(alone.delays):.2f} s without these"
        )
    assert (limiter.resume_at, limiter.slowed) == (-math.inf, False)
    assert mean(world.delays) == pytest.approx(mean(alone.delays), rel=0.02)
    good = frozenset(world.done_at) - bad
    assert len(world.polls_of(good)) == pytest.approx(len(alone.polls_of(good)), rel=0.01)
    # Each bad one backs off by itself, to a poll every 30 s, shortened by a fifth at most.
    first = [job for job in bad if int(job) < 1000]
    in_the_end = Counter(job for at, job in world.polls_of(frozenset(first)) if at > world.loop.now - 48)
    assert max(in_the_end.values()) <= 2


def test_an_outage_slows_all_and_passes(simulate: Simulate) -> None:
    begin, end = 1_000_060.0, 1_000_090.0
    alone, _ = simulate(1000)
    world, limiter = simulate(1000, down=lambda at: begin <= at < end)

    def polls(world: World, start: float, stop: float) -> int:
        return sum(start <= at < stop for at, _ in world.polls)

    assert limiter.resume_at > begin
    assert polls(world, begin, begin + 2) < polls(alone, begin, begin + 2) / 2
    assert polls(world, begin + 2, end) < polls(alone, begin + 2, end) / 10
    assert mean(world.delays) < mean(alone.delays) + 30
