"""The runner's decisions, with steps that end at once: what a step does is tested where it is."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import (
    EndpointSettingsError,
    EndpointUnreachableError,
    InputRefusedError,
    JobFailedError,
    LandingError,
    ModelsLabError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    StorageConfigurationError,
    StorageUnavailableError,
    TransportError,
    error_class,
)
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.batch.running.circuit_breaker import cause_of
from airflow_provider_modelslab.batch.running.protocols import InFlight
from airflow_provider_modelslab.batch.running.runner import BatchRunner
from airflow_provider_modelslab.batch.running.window import Window
from airflow_provider_modelslab.ledger.chain import RunHere
from airflow_provider_modelslab.ledger.model import Stored, Submission
from airflow_provider_modelslab.storage.result_manifest import Job

Refusal = Callable[[str, int], Exception | None]


class World:
    """An endpoint that takes jobs, ends them when asked, and counts."""

    def __init__(
        self,
        *,
        at_once: bool = False,
        refuse: Refusal = lambda clip, n: None,
        landed_before: Mapping[str, dict[str, Any]] | None = None,
        fails: Callable[[str, int], ModelsLabError | None] = lambda clip, n: None,
        ends: bool = True,
        may_resubmit: bool = False,
        landing_fails: frozenset[str] = frozenset(),
        here: frozenset[str] = frozenset(),
    ) -> None:
        self.at_once, self.refuse, self.fails, self.ends = at_once, refuse, fails, ends
        self.landed_before = landed_before or {}
        self.may_resubmit, self.landing_fails, self.here = may_resubmit, landing_fails, here
        self.running_here, self.most_here, self.stopped = 0, 0, False
        self.submitted: dict[str, int] = {}
        self.asked: dict[str, int] = {}
        self.running: set[str] = set()
        self.most = 0
        self.lock = threading.Lock()
        self.ended: asyncio.Queue[tuple[tuple[str, str], Finished | ModelsLabError]] = asyncio.Queue()
        self.added = asyncio.Semaphore(0)
        self.outcomes: dict[str, Any] = {}
        self.max_failed = 10**6

    # jobs
    def acquire(self, clip: str) -> Stored | Submission | RunHere:
        if clip in self.landed_before:
            return Stored(1, self.landed_before[clip])
        with self.lock:
            self.asked[clip] = self.asked.get(clip, 0) + 1
            error = self.refuse(clip, self.asked[clip])
            if error is not None:
                raise error
            if clip in self.here:
                return RunHere({})
            self.submitted[clip] = self.submitted.get(clip, 0) + 1
            job = f"{clip}/{self.submitted[clip]}"
            self.running.add(job)
            self.most = max(self.most, len(self.running))
        if self.at_once:
            self.running.discard(job)
            return Submission(1, Job(job, "c"), Finished(job, ("https://x",)))
        return Submission(1, Job(job, "c"))

    def land(self, clip: str, submission: Submission, finished: Finished) -> dict[str, Any]:
        if clip in self.landing_fails:
            raise LandingError("no", job_id=submission.job.job_id)
        return {"job_id": submission.job.job_id}

    def close(self, clip: str, submission: Submission, error: ModelsLabError) -> bool:
        return self.may_resubmit

    def run_here(self, clip: str, found: RunHere) -> dict[str, Any]:
        with self.lock:
            self.running_here += 1
            self.most_here = max(self.most_here, self.running_here)
        time.sleep(0.001)  # long enough for another one to begin
        with self.lock:
            self.running_here -= 1
        if clip in self.landing_fails:
            raise JobFailedError("no GPU")
        return {"job_id": "local-1"}

    def stop(self) -> None:
        self.stopped = True

    # waiter
    def add(self, submission: Submission) -> None:
        self.added.release()
        if self.ends:
            job = submission.job.job_id
            asyncio.get_running_loop().call_later(0.002, self.end, job)

    def end(self, job: str) -> None:
        clip, _, n = job.rpartition("/")
        self.running.discard(job)
        self.ended.put_nowait((("c", job), self.fails(clip, int(n)) or Finished(job, ("https://x",))))

    async def next(self) -> tuple[tuple[str, str], Finished | ModelsLabError]:
        return await self.ended.get()

    # outcomes
    def landed(self, clip: str, manifest: dict[str, Any]) -> None:
        assert clip not in self.outcomes
        self.outcomes[clip] = "landed"

    def stored(self, clip: str, found: Stored) -> None:
        assert clip not in self.outcomes
        self.outcomes[clip] = "skipped"

    def failed(self, clip: str, error: Exception, submission: Submission | None) -> None:
        assert clip not in self.outcomes
        self.outcomes[clip] = error

    def too_many(self) -> str | None:
        failed = [clip for clip, outcome in self.outcomes.items() if isinstance(outcome, Exception)]
        return "too many" if len(failed) > self.max_failed else None


CLIPS = [f"c{i}" for i in range(40)]


def runner(world: World, *, most: int = 8, clips: list[str] = CLIPS, **options: Any) -> BatchRunner[str]:
    return BatchRunner(clips, world, world, world, Window(most), **options)


@pytest.mark.parametrize("at_once", [True, False])
async def test_every_clip_is_submitted_once_and_lands_within_the_window(at_once: bool) -> None:
    world = World(at_once=at_once)
    assert await runner(world).run() == ()
    assert world.outcomes == dict.fromkeys(CLIPS, "landed")
    assert set(world.submitted.values()) == {1}
    assert 1 <= world.most <= 8


async def test_what_landed_before_is_skipped() -> None:
    world = World(landed_before={"c3": {"uri": "s3://b/c3"}})
    await runner(world).run()
    assert (world.outcomes["c3"], list(world.outcomes.values()).count("landed")) == ("skipped", 39)


async def test_refused_clips_wait_and_lose_nothing() -> None:
    world = World(refuse=lambda clip, n: RateLimitError("full", retry_after=0.01) if n == 1 and clip == "c5" else None)
    work = runner(world, most=4)
    work._window = Window(4, clock=iter(range(0, 10**9, 5)).__next__)  # every look at the clock is 5 s later
    await work.run()
    assert world.outcomes == dict.fromkeys(CLIPS, "landed")
    assert world.asked["c5"] == 2


async def test_a_clip_that_is_refused_for_too_long_fails() -> None:
    world = World(refuse=lambda clip, n: RateLimitError("full"))
    work = runner(world, clips=["a"], refusal_timeout=20)
    work._window = Window(4, clock=iter(range(0, 10**9, 5)).__next__)
    await work.run()
    assert isinstance(world.outcomes["a"], RateLimitError)


async def test_patience_ends_the_batch_after_few_submits() -> None:
    world = World(refuse=lambda clip, n: RateLimitError("full"))
    work = runner(world, most=4, refusal_timeout=0.0)
    await work.run()
    assert work.stopped is not None
    assert work.stopped.startswith("rate_limit: ")
    assert "refused every submit" in work.stopped
    assert sum(world.asked.values()) <= 4
    assert {*world.outcomes, *work.todo} == set(CLIPS)


async def test_an_endpoint_that_is_down_for_a_moment_costs_no_clip_and_few_submits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_modelslab.batch.running.window._FIRST_PAUSE", 0.02)
    up = threading.Event()
    world = World(refuse=lambda clip, n: None if up.is_set() else EndpointUnreachableError("Connection refused"))
    asyncio.get_running_loop().call_later(0.3, up.set)
    await runner(world, most=4).run()
    assert world.outcomes == dict.fromkeys(CLIPS, "landed")
    assert sum(world.asked.values()) <= len(CLIPS) + 40


async def test_settings_with_which_no_clip_gets_through_stop_at_once() -> None:
    world = World(refuse=lambda clip, n: EndpointSettingsError("Check the base URL"))
    work = runner(world, most=1)
    await work.run()
    assert work.stopped == "endpoint_settings: Check the base URL"
    assert sum(world.asked.values()) == 1


@pytest.mark.parametrize("error", [InputRefusedError("HTTP 403"), PermissionDeniedError("not this model")])
async def test_what_is_refused_for_one_clip_is_its_own(error: Exception) -> None:
    world = World(refuse=lambda clip, n: error if clip in {"c3", "c4", "c30"} else None)
    work = runner(world)
    await work.run()
    assert work.stopped is None
    assert {clip for clip, outcome in world.outcomes.items() if outcome is error} == {"c3", "c4", "c30"}
    assert list(world.outcomes.values()).count("landed") == 37


@pytest.mark.parametrize(
    ("error", "most"), [(InputRefusedError("HTTP 403"), 100), (PermissionDeniedError("no such plan"), 20)]
)
async def test_what_is_refused_for_one_clip_after_the_other_is_no_clips_own(error: ModelsLabError, most: int) -> None:
    world = World(refuse=lambda clip, n: error)
    work = runner(world, most=1, clips=[f"c{i}" for i in range(300)])
    await work.run()
    assert work.stopped == f"{error.code}: {error} ({most} in a row)"
    assert len(world.outcomes) == most


async def test_one_busy_ledger_write_ends_no_batch() -> None:
    def refuse(clip: str, n: int) -> Exception | None:
        return StorageUnavailableError("SlowDown") if clip == "c3" and n == 1 else None

    world = World(refuse=refuse)
    work = runner(world)
    await work.run()
    assert work.stopped is None
    assert set(world.outcomes.values()) == {"landed"}
    assert (world.asked["c3"], world.submitted["c3"]) == (2, 1)


async def test_a_store_that_stays_busy_ends_the_batch_and_may_be_retried() -> None:
    world = World(refuse=lambda clip, n: StorageUnavailableError("SlowDown"))
    work = runner(world)
    await work.run()
    cause = cause_of(work.stopped)
    assert cause is StorageUnavailableError.code
    assert error_class(cause).retryable
    assert len(world.outcomes) < len(CLIPS)
    assert world.submitted == {}


async def test_a_ledger_that_cannot_be_used_stops_at_once() -> None:
    cls = StorageConfigurationError
    world = World(refuse=lambda clip, n: cls("the ledger could not be written"))
    work = runner(world, most=1)
    await work.run()
    assert cause_of(work.stopped) is cls.code
    assert (len(world.outcomes), len(work.todo)) == (1, 39)


async def test_trouble_on_the_way_to_one_clip_is_tried_three_times() -> None:
    world = World(refuse=lambda clip, n: TransportError("gone") if clip == "c1" else None)
    await runner(world).run()
    assert world.asked["c1"] == 3
    assert isinstance(world.outcomes["c1"], TransportError)


async def test_no_credits_stop_the_submits_and_land_what_runs() -> None:
    world = World(refuse=lambda clip, n: PaymentRequiredError("none left") if clip == "c9" else None)
    work = runner(world, most=3)
    await work.run()
    assert work.stopped == "payment: none left"
    assert isinstance(world.outcomes["c9"], PaymentRequiredError)
    assert set(world.submitted) == {clip for clip, outcome in world.outcomes.items() if outcome == "landed"}
    assert {*world.outcomes, *work.todo} == set(CLIPS)
    assert len(work.todo) >= 25


async def test_a_job_that_failed_is_submitted_again_only_where_the_step_says_so() -> None:
    def fails(clip: str, n: int) -> ModelsLabError | None:
        return JobFailedError("bad") if clip == "c2" and n == 1 else None

    world = World(fails=fails)
    await runner(world).run()
    assert isinstance(world.outcomes["c2"], JobFailedError)
    world = World(fails=fails, may_resubmit=True)
    await runner(world).run()
    assert (world.outcomes["c2"], world.submitted["c2"]) == ("landed", 2)


async def test_too_many_failures_stop_the_submits() -> None:
    world = World(fails=lambda clip, n: JobFailedError("bad"))
    world.max_failed = 2
    work = runner(world, most=2)
    await work.run()
    assert work.stopped == "too many"
    assert 3 <= len(world.outcomes) <= 12  # those that were under way meanwhile
    assert {*world.outcomes, *work.todo} == set(CLIPS)


async def test_a_landing_that_fails_is_one_clips_failure() -> None:
    world = World(landing_fails=frozenset({"c7"}))
    await runner(world).run()
    assert isinstance(world.outcomes["c7"], LandingError)
    assert list(world.outcomes.values()).count("landed") == 39


async def test_a_defect_in_a_step_fails_its_clip_alone() -> None:
    world = World(refuse=lambda clip, n: KeyError("x") if clip == "c0" else None)
    await runner(world).run()
    assert isinstance(world.outcomes["c0"], KeyError)
    assert len(world.outcomes) == 40


async def test_it_suspends_when_only_waiting_is_left_and_another_process_goes_on() -> None:
    world = World(ends=False)
    first = runner(world, most=4, defer_after=0.0)
    in_flight = await first.run()
    assert [item.clip for item in in_flight] == CLIPS[:4] or {item.clip for item in in_flight} == set(CLIPS[:4])
    assert (len(first.todo), world.outcomes) == (36, {})

    world.ends = True
    second = runner(world, most=4, clips=list(first.todo), defer_after=5.0)
    ended: list[tuple[InFlight[str], Finished | ModelsLabError]] = [
        (in_flight[0], Finished(in_flight[0].submission.job.job_id, ("https://x",))),
        (in_flight[1], JobFailedError("bad")),
    ]
    second.resume(in_flight[2:])
    assert await second.run(ended) == ()
    assert isinstance(world.outcomes[in_flight[1].clip], JobFailedError)
    assert sum(outcome == "landed" for outcome in world.outcomes.values()) == 39
    assert set(world.submitted.values()) == {1}


async def test_it_suspends_while_the_endpoint_takes_no_job_at_all() -> None:
    world = World(refuse=lambda clip, n: RateLimitError("full", retry_after=60))
    work = runner(world, most=4, defer_after=0.0)
    assert await work.run() == ()
    assert work.suspended
    assert (set(work.todo), world.outcomes) == (set(CLIPS), {})


async def test_without_linger_it_stays_to_the_end() -> None:
    world = World(ends=False)
    work = runner(world, clips=["a"])
    running = asyncio.ensure_future(work.run())
    await world.added.acquire()
    world.end("a/1")
    assert await running == ()
    assert not work.suspended
    assert world.outcomes == {"a": "landed"}


async def test_what_is_running_when_the_task_is_killed_writes_down_what_it_paid_for() -> None:
    world = World(ends=False)
    work = runner(world, most=4)
    running = asyncio.ensure_future(work.run())
    for _ in range(4):
        await world.added.acquire()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(work.waiting) == 4


async def test_a_kill_begins_nothing_more() -> None:
    world = World(ends=False)
    work = runner(world, most=4)
    running = asyncio.ensure_future(work.run())
    for _ in range(4):
        await world.added.acquire()
    work.interrupt(InterruptedError("killed"))  # as a signal handler does, in the loop's own thread
    for job in sorted(world.running):
        world.end(job)  # makes room
    with pytest.raises(InterruptedError, match="killed"):
        await running
    assert sum(world.asked.values()) == 4
    assert len(work.todo) == 36
    work.interrupt(InterruptedError("again"))  # it has ended: without effect


async def test_a_submission_that_was_held_back_by_a_kill_ends_the_batch_and_fails_no_clip() -> None:
    world = World(refuse=lambda clip, n: InterruptedError("killed") if clip == "c5" else None)
    with pytest.raises(InterruptedError, match="killed"):
        await runner(world).run()
    assert "c5" not in world.outcomes


class TimeIsUpError(BaseException):
    """Like Airflow's time-out: a signal raises it wherever the program is."""


async def test_a_time_out_that_strikes_in_a_callback_of_the_loop_ends_the_batch() -> None:
    world = World(ends=False)
    running = asyncio.ensure_future(runner(world, clips=["a"]).run())
    await world.added.acquire()

    def strike() -> None:
        raise TimeIsUpError

    asyncio.get_running_loop().call_soon(strike)
    with pytest.raises(TimeIsUpError):
        await asyncio.wait_for(running, 5)


async def test_what_has_not_begun_when_the_batch_breaks_off_is_left() -> None:
    begun: list[str] = []
    goes_on, full = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Slow(World):
        def land(self, clip: str, submission: Submission, finished: Finished) -> dict[str, Any]:
            with self.lock:
                begun.append(clip)
                if len(begun) == 16:
                    loop.call_soon_threadsafe(full.set)
            goes_on.wait(5)
            return {}

        async def next(self) -> tuple[tuple[str, str], Finished | ModelsLabError]:
            await full.wait()
            threading.Timer(0.1, goes_on.set).start()
            raise TimeIsUpError

    ended = [(InFlight(clip, Submission(1, Job(clip, "c"))), Finished(clip, ("https://x",))) for clip in CLIPS]
    with pytest.raises(TimeIsUpError):
        await runner(Slow(), clips=[]).run(ended)
    assert len(begun) == 16


# -- places to fall back to -------------------------------------------------------------------------------------------


async def test_clips_that_are_made_here_are_made_one_by_one_beside_the_others() -> None:
    world = World(here=frozenset(CLIPS[::2]), landing_fails=frozenset({"c4"}))
    work = runner(world)
    await work.run()
    assert isinstance(world.outcomes.pop("c4"), JobFailedError)
    assert world.outcomes == dict.fromkeys([clip for clip in CLIPS if clip != "c4"], "landed")
    assert (set(world.submitted), world.most_here) == (set(CLIPS[1::2]), 1)


async def test_nothing_more_is_made_here_when_the_batch_was_given_up() -> None:
    def refuse(clip: str, n: int) -> Exception | None:
        return PaymentRequiredError("none left") if clip == "c9" else None

    world = World(here=frozenset(CLIPS), refuse=refuse)
    work = runner(world, most=1)
    await work.run()
    assert (work.stopped, world.stopped) == ("payment: none left", True)
    assert world.outcomes.keys() < set(CLIPS)


def refused_at_a_later_place(error: ModelsLabError, earlier: ModelsLabError) -> ModelsLabError:
    error.chain = {"made_by": {}, "fallback_from": [earlier.to_event()]}
    return error


@pytest.mark.parametrize(
    ("earlier", "stopped"), [(JobFailedError("bad"), None), (PaymentRequiredError("none"), "payment: none left")]
)
async def test_a_place_that_is_of_no_use_ends_the_batch_only_where_the_others_need_it(
    earlier: ModelsLabError, stopped: str | None
) -> None:
    def refuse(clip: str, n: int) -> Exception | None:
        return refused_at_a_later_place(PaymentRequiredError("none left"), earlier) if clip == "c3" else None

    work = runner(World(refuse=refuse), most=1)
    await work.run()
    assert work.stopped == stopped


async def test_a_clip_that_a_later_place_refuses_for_now_does_not_hold_up_the_others() -> None:
    def refuse(clip: str, n: int) -> Exception | None:
        full = RateLimitError("full", retry_after=0.01)
        return refused_at_a_later_place(full, JobFailedError("bad")) if clip == "c0" and len(world.asked) < 40 else None

    world = World(refuse=refuse)
    work = runner(world, most=1)
    work._window = Window(1, clock=iter(range(0, 10**9, 5)).__next__)  # every look at the clock is 5 s later
    await work.run()
    assert (world.outcomes, world.asked["c0"]) == (dict.fromkeys(CLIPS, "landed"), 2)
