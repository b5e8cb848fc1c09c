"""How claims are handled: what is polled, what is reported, and what is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import ErrorCode, RateLimitError, TransportError
from airflow_provider_modelslab.api.response import Answer, Failed, Finished, Processing
from airflow_provider_modelslab.plugins.webhook.payload import Claim
from airflow_provider_modelslab.plugins.webhook.rate_limit import ClaimRateLimiter, TooManyClaimsError
from airflow_provider_modelslab.plugins.webhook.service import HandledClaim, WebhookService

LINKS = ("https://example.com/v.mp4",)


class World:
    """An endpoint with given answers, and an Airflow that records what it receives."""

    def __init__(self, answer: Callable[[str], Answer], **limits: Any) -> None:
        self.polled: list[str] = []
        self.reported: list[tuple[str, str, Answer]] = []
        self._answer = answer
        self.woken: list[tuple[str, bool]] = []
        self.complete_at = 1
        limiter = ClaimRateLimiter(**{"per_minute": 100, **limits})
        self.now = 0.0
        self.service = WebhookService(
            fetch=self._fetch,
            report=self._report,
            wake=self._wake,
            limiter=limiter,
            pauses=(0, 0),
            clock=lambda: self.now,
        )

    def _fetch(self, conn_id: str, job_id: str) -> Answer:
        self.polled.append(job_id)
        return self._answer(job_id)

    def _report(self, conn_id: str, claim: Claim, answer: Answer) -> None:
        self.reported.append((conn_id, claim.job_id, answer))

    def _wake(self, conn_id: str, claim: Claim, answer: Answer, *, everywhere: bool) -> bool:
        self.woken.append((claim.job_id, everywhere))
        return len(self.woken) >= self.complete_at


async def test_a_finished_job_is_reported_once() -> None:
    world = World(lambda job_id: Finished(job_id, LINKS))
    assert await world.service.handle("c", Claim("1")) is HandledClaim.REPORTED
    assert await world.service.handle("c", Claim("1")) is HandledClaim.DUPLICATE
    assert (
        await world.service.handle("d", Claim("1")) is HandledClaim.REPORTED
    )  # another account's job of the same number
    assert world.polled == ["1", "1"]
    assert world.reported == [("c", "1", Finished("1", LINKS)), ("d", "1", Finished("1", LINKS))]


async def test_a_number_that_is_given_again_after_two_days_is_another_job() -> None:
    world = World(lambda job_id: Finished(job_id, LINKS))
    handled = []
    for hours in (0, 47, 49):
        world.now = hours * 3600.0
        handled.append(await world.service.handle("c", Claim("1")))
    assert handled == [HandledClaim.REPORTED, HandledClaim.DUPLICATE, HandledClaim.REPORTED]


async def test_one_poll_at_a_time_for_a_job() -> None:
    polling, go_on = threading.Event(), threading.Event()

    def answer(job_id: str) -> Answer:
        polling.set()
        assert go_on.wait(60)
        return Finished(job_id, LINKS)

    world = World(answer)
    first = asyncio.create_task(world.service.handle("c", Claim("1")))
    await asyncio.to_thread(polling.wait, 60)
    assert (
        await asyncio.gather(*(world.service.handle("c", Claim("1")) for _ in range(19)))
        == [HandledClaim.DUPLICATE] * 19
    )
    go_on.set()
    assert await first is HandledClaim.REPORTED
    assert len(world.polled) == len(world.reported) == 1


async def test_a_running_job_is_polled_again_and_not_reported() -> None:
    answers: list[Answer] = [Processing(None), Processing(None, "queued"), Finished(None, LINKS)]
    world = World(lambda _: answers.pop(0))
    handled = [await world.service.handle("c", Claim("1")) for _ in range(4)]
    assert handled == [HandledClaim.NOT_DONE, HandledClaim.NOT_DONE, HandledClaim.REPORTED, HandledClaim.DUPLICATE]
    assert len(world.reported) == 1


async def test_a_claim_that_says_itself_that_it_is_not_done_costs_nothing() -> None:
    world = World(lambda _: pytest.fail("polled"))
    assert await world.service.handle("c", Claim("1", says_running=True)) is HandledClaim.NOT_DONE


async def test_an_answer_about_another_job_is_ignored() -> None:
    world = World(lambda _: Finished("2", LINKS))
    assert await world.service.handle("c", Claim("1")) is HandledClaim.UNCONFIRMED
    assert world.reported == []


async def test_a_failure_wakes_the_waiting_task_and_may_be_claimed_again() -> None:
    world = World(lambda _: Failed(ErrorCode.JOB_FAILED, "bad clip"))
    assert await world.service.handle("c", Claim("1")) is HandledClaim.UNCONFIRMED
    assert [answer for _, _, answer in world.reported] == [Failed(ErrorCode.JOB_FAILED, "bad clip")]


async def test_an_unknown_job_is_not_reported() -> None:
    world = World(lambda _: Failed(ErrorCode.JOB_LOST, "Request not found"))
    assert await world.service.handle("c", Claim("1")) is HandledClaim.UNCONFIRMED
    assert (world.reported, world.woken) == ([], [])


async def test_an_endpoint_that_refuses_because_of_load() -> None:
    world = World(lambda _: Failed(ErrorCode.RATE_LIMIT, "too many"))
    with pytest.raises(RateLimitError):
        await world.service.handle("c", Claim("1"))


async def test_an_endpoint_that_does_not_answer() -> None:
    answers: list[Answer | None] = [None, Finished("1", LINKS)]

    def answer(_: str) -> Answer:
        found = answers.pop(0)
        if found is None:
            raise TransportError("no answer")
        return found

    world = World(answer)
    with pytest.raises(TransportError):
        await world.service.handle("c", Claim("1"))
    assert world.reported == []
    assert await world.service.handle("c", Claim("1")) is HandledClaim.REPORTED


@pytest.mark.parametrize(("complete_at", "tries"), [(1, 1), (2, 2), (3, 3), (99, 3)])
async def test_a_task_that_begins_to_wait_later_is_woken_later(complete_at: int, tries: int) -> None:
    world = World(lambda job_id: Finished(job_id, LINKS))
    world.complete_at = complete_at
    assert await world.service.handle("c", Claim("1")) is HandledClaim.REPORTED
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others)
    assert world.woken == [("1", False), ("1", False), ("1", True)][:tries]  # the last try searches all waiting tasks
    assert len(world.reported) == len(world.polled) == 1


async def test_claims_per_minute_are_limited() -> None:
    now = [0.0]
    world = World(lambda _: Processing(None), per_minute=3, clock=lambda: now[0])
    for job_id in "123":
        await world.service.handle("c", Claim(job_id))
    now[0] = 20.0
    with pytest.raises(TooManyClaimsError) as closed:
        await world.service.handle("c", Claim("4"))
    assert closed.value.retry_after == 40.0
    now[0] = 60.0
    assert await world.service.handle("c", Claim("4")) is HandledClaim.NOT_DONE
    assert world.polled == ["1", "2", "3", "4"]


async def test_concurrent_claims_are_limited() -> None:
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
    tasks = [asyncio.create_task(world.service.handle("c", Claim(str(number)))) for number in range(8)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    go_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results].count(TooManyClaimsError) == 3
    assert results.count(HandledClaim.REPORTED) == 5
    assert most <= 2
    assert done
