from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import ExitStack

from airflow_provider_modelslab.endpoint.http.long_poll import LongPolls

FOREVER = 1000.0


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_hold_ends_when_another_thread_says_that_the_job_ended() -> None:
    holds = LongPolls()
    holds.expect(7)
    threading.Thread(target=holds.job_ended, args=(7,)).start()
    await holds.wait(7, FOREVER, never())
    holds.job_ended(7)  # nobody listens any more


async def test_a_job_that_ends_between_expecting_and_waiting_is_not_missed() -> None:
    holds = LongPolls()
    holds.expect(7)
    holds.job_ended(7)
    await asyncio.sleep(0)
    await holds.wait(7, FOREVER, never())


async def test_a_hold_ends_when_the_client_leaves() -> None:
    holds, left = LongPolls(), asyncio.Event()
    hold = asyncio.create_task(holds.wait(7, FOREVER, left.wait()))
    await asyncio.sleep(0)
    assert not hold.done()
    left.set()
    await hold


async def test_other_jobs_and_time() -> None:
    holds = LongPolls()
    holds.expect(7)
    holds.job_ended(8)
    await holds.wait(7, 0.01, never())


async def test_release_ends_all_holds_and_close_allows_no_more() -> None:
    holds = LongPolls()
    waiting = [asyncio.create_task(holds.wait(job_id, FOREVER, never())) for job_id in (1, 2)]
    await asyncio.sleep(0)
    holds.release()
    await asyncio.gather(*waiting)
    holds.close()
    await holds.wait(3, FOREVER, never())


async def test_release_of_some_ends_no_other() -> None:
    holds = LongPolls()
    mine, yours = (asyncio.create_task(holds.wait(job_id, FOREVER, never())) for job_id in (1, 2))
    await asyncio.sleep(0)
    holds.release([1, 3])
    await mine
    assert not yours.done()
    holds.release()
    await yours


async def test_places_are_limited_for_a_key_and_for_all() -> None:
    holds = LongPolls()
    with ExitStack() as stack:
        taken = Counter({key: sum(stack.enter_context(holds.place(key)) for _ in range(150)) for key in "abc"})
        assert taken == {"a": 100, "b": 100, "c": 56}
    with holds.place("c") as free:
        assert free


def test_a_job_may_end_after_the_loop() -> None:
    async def make() -> LongPolls:
        return LongPolls()

    asyncio.run(make()).job_ended(1)
