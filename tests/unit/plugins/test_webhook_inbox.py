"""Claims on their way: what is asked, what is told, and what is sent away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import ErrorCode, RateLimitError, TransportError
from airflow_provider_modelslab.api.response import Answer, Failed, Finished, Processing
from airflow_provider_modelslab.plugins.webhook.payload import Claim
from airflow_provider_modelslab.plugins.webhook.rate_limit import ClaimRateLimiter, ClosedError
from airflow_provider_modelslab.plugins.webhook.service import HandledClaim, WebhookService

LINKS = ("https://example.com/v.mp4",)


class World:
    """An endpoint that answers as told, and an Airflow that listens."""

    def __init__(self, answer: Callable[[str], Answer], **limits: Any) -> None:
        self.asked: list[str] = []
        self.told: list[tuple[str, str, Answer]] = []
        self._answer = answer
        self.woken: list[tuple[str, bool]] = []
        self.settled_at = 1
        gate = ClaimRateLimiter(**{"per_minute": 100, **limits})
        self.now = 0.0
        self.inbox = WebhookService(
            fetch=self._fetch, tell=self._tell, wake=self._wake, gate=gate, pauses=(0, 0), clock=lambda: self.now
        )

    def _fetch(self, conn_id: str, job_id: str) -> Answer:
        self.asked.append(job_id)
        return self._answer(job_id)

    def _tell(self, conn_id: str, claim: Claim, answer: Answer) -> None:
        self.told.append((conn_id, claim.job_id, answer))

    def _wake(self, conn_id: str, claim: Claim, answer: Answer, *, everywhere: bool) -> bool:
        self.woken.append((claim.job_id, everywhere))
        return len(self.woken) >= self.settled_at


async def test_what_is_done_is_told_once() -> None:
    world = World(lambda job_id: Finished(job_id, LINKS))
    assert await world.inbox.take("c", Claim("1")) is HandledClaim.TOLD
    assert await world.inbox.take("c", Claim("1")) is HandledClaim.DUPLICATE
    assert await world.inbox.take("d", Claim("1")) is HandledClaim.TOLD  # another account's job of the same number
    assert world.asked == ["1", "1"]
    assert world.told == [("c", "1", Finished("1", LINKS)), ("d", "1", Finished("1", LINKS))]


async def test_a_number_that_is_given_again_after_two_days_is_another_job() -> None:
    world = World(lambda job_id: Finished(job_id, LINKS))
    taken = []
    for hours in (0, 47, 49):
        world.now = hours * 3600.0
        taken.append(await world.inbox.take("c", Claim("1")))
    assert taken == [HandledClaim.TOLD, HandledClaim.DUPLICATE, HandledClaim.TOLD]


async def test_one_question_at_a_time_for_a_job() -> None:
    asking, go_on = threading.Event(), threading.Event()

    def answer(job_id: str) -> Answer:
        asking.set()
        assert go_on.wait(60)
        return Finished(job_id, LINKS)

    world = World(answer)
    first = asyncio.create_task(world.inbox.take("c", Claim("1")))
    await asyncio.to_thread(asking.wait, 60)
    assert (
        await asyncio.gather(*(world.inbox.take("c", Claim("1")) for _ in range(19))) == [HandledClaim.DUPLICATE] * 19
    )
    go_on.set()
    assert await first is HandledClaim.TOLD
    assert len(world.asked) == len(world.told) == 1


async def test_what_is_not_done_is_asked_again_and_not_told() -> None:
    answers: list[Answer] = [Processing(None), Processing(None, "queued"), Finished(None, LINKS)]
    world = World(lambda _: answers.pop(0))
    taken = [await world.inbox.take("c", Claim("1")) for _ in range(4)]
    assert taken == [HandledClaim.NOT_DONE, HandledClaim.NOT_DONE, HandledClaim.TOLD, HandledClaim.DUPLICATE]
    assert len(world.told) == 1


async def test_a_claim_that_says_itself_that_it_is_not_done_costs_nothing() -> None:
    world = World(lambda _: pytest.fail("asked"))
    assert await world.inbox.take("c", Claim("1", says_running=True)) is HandledClaim.NOT_DONE


async def test_an_answer_about_another_job_is_not_believed() -> None:
    world = World(lambda _: Finished("2", LINKS))
    assert await world.inbox.take("c", Claim("1")) is HandledClaim.UNCONFIRMED
    assert world.told == []


async def test_a_failure_is_told_to_who_waits_and_may_come_again() -> None:
    world = World(lambda _: Failed(ErrorCode.JOB_FAILED, "bad clip"))
    assert await world.inbox.take("c", Claim("1")) is HandledClaim.UNCONFIRMED
    assert [answer for _, _, answer in world.told] == [Failed(ErrorCode.JOB_FAILED, "bad clip")]


async def test_an_unknown_job_is_told_to_nobody() -> None:
    world = World(lambda _: Failed(ErrorCode.JOB_LOST, "Request not found"))
    assert await world.inbox.take("c", Claim("1")) is HandledClaim.UNCONFIRMED
    assert (world.told, world.woken) == ([], [])


async def test_an_endpoint_that_is_asked_too_often() -> None:
    world = World(lambda _: Failed(ErrorCode.RATE_LIMIT, "too many"))
    with pytest.raises(RateLimitError):
        await world.inbox.take("c", Claim("1"))


async def test_an_endpoint_that_does_not_answer() -> None:
    answers: list[Answer | None] = [None, Finished("1", LINKS)]

    def answer(_: str) -> Answer:
        found = answers.pop(0)
        if found is None:
            raise TransportError("no answer")
        return found

    world = World(answer)
    with pytest.raises(TransportError):
        await world.inbox.take("c", Claim("1"))
    assert world.told == []
    assert await world.inbox.take("c", Claim("1")) is HandledClaim.TOLD


@pytest.mark.parametrize(("settled_at", "looks"), [(1, 1), (2, 2), (3, 3), (99, 3)])
async def test_who_begins_to_wait_later_is_woken_later(settled_at: int, looks: int) -> None:
    world = World(lambda job_id: Finished(job_id, LINKS))
    world.settled_at = settled_at
    assert await world.inbox.take("c", Claim("1")) is HandledClaim.TOLD
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others)
    assert world.woken == [("1", False), ("1", False), ("1", True)][:looks]  # the last look is at all waiting tasks
    assert len(world.told) == len(world.asked) == 1


async def test_so_many_in_a_minute() -> None:
    now = [0.0]
    world = World(lambda _: Processing(None), per_minute=3, clock=lambda: now[0])
    for job_id in "123":
        await world.inbox.take("c", Claim(job_id))
    now[0] = 20.0
    with pytest.raises(ClosedError) as closed:
        await world.inbox.take("c", Claim("4"))
    assert closed.value.retry_after == 40.0
    now[0] = 60.0
    assert await world.inbox.take("c", Claim("4")) is HandledClaim.NOT_DONE
    assert world.asked == ["1", "2", "3", "4"]


async def test_so_many_at_a_time() -> None:
    inside, most, lock, go_on = 0, 0, threading.Lock(), threading.Event()

    def answer(job_id: str) -> Answer:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        assert go_on.wait(60)
        with lock:
            inside -= 1
        return Finished(job_id, LINKS)

    world = World(answer, at_once=2, waiting=3)
    tasks = [asyncio.create_task(world.inbox.take("c", Claim(str(number)))) for number in range(8)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    go_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results].count(ClosedError) == 3
    assert results.count(HandledClaim.TOLD) == 5
    assert most <= 2
    assert done
