"""The process in which the triggers of the waiting benchmark run: Airflow's own ``TriggerRunner``.

What its supervisor would send through a socket, which triggers to start, is handed to it here; no database and no
scheduler take part. Started by ``benchmarks.waiting``; the figures go to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import airflow.sdk.execution_time.supervisor
import requests
from airflow.executors.workloads.trigger import RunTrigger
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.models.trigger import Trigger
from airflow.providers.http.triggers.http import HttpEventTrigger
from airflow.triggers.base import BaseTrigger, TriggerEvent

import airflow_provider_modelslab.client.async_client
from airflow_provider_modelslab.client.polling import registry
from airflow_provider_modelslab.triggers.batch import ModelsLabBatchTrigger
from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger

INTERVAL = 27.0
"""Seconds between two looks of the rivals: the mean of ours, whose longest pause is 30 s less 0 to 20 %."""
FEED = 500
"""Triggers started a second; a real triggerer is sent 50 at a time."""
KEY = "key-of-the-waiting-benchmark"
_BEAT = 0.01
_LONG_GC = 0.05
_BACKLOG = 0.1
"""Seconds after a collection of 50 ms or more in which the loop does what came meanwhile."""
# A triggerer has these loaded before its first trigger: no part of what a job costs.
_LOADED = (airflow.sdk.execution_time.supervisor, airflow_provider_modelslab.client.async_client)


class IdleTrigger(BaseTrigger):
    """Waits for nothing: what Airflow itself spends on a trigger."""

    def __init__(self, job_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return f"{__name__}.{type(self).__name__}", {"job_id": self.job_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for ever."""
        await asyncio.get_running_loop().create_future()
        yield TriggerEvent({})


class ThreadTrigger(IdleTrigger):
    """A blocking call in a thread for each look, as triggers do whose library has no asynchronous client."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until the job is done."""
        url = f"{os.environ['BENCHMARK_URL']}/enterprise/video/fetch/{self.job_id}"
        while True:
            answer = await asyncio.to_thread(requests.post, url, json={"key": KEY}, timeout=30)
            if answer.json()["status"] == "success":
                break
            await asyncio.sleep(INTERVAL)
        yield TriggerEvent({"status": "success"})


def triggers(contender: str, jobs: int) -> list[BaseTrigger]:
    """What the tasks of so many jobs would defer to."""
    now = time.time()
    ids = [f"{number:07d}" for number in range(jobs)]
    if contender == "idle":
        return [IdleTrigger(job_id) for job_id in ids]
    if contender == "thread":
        return [ThreadTrigger(job_id) for job_id in ids]
    if contender == "http":
        return [
            HttpEventTrigger(
                "benchmarks.waiting_check.is_done",
                http_conn_id="endpoint",
                method="POST",
                endpoint=f"enterprise/video/fetch/{job_id}",
                headers={"Content-Type": "application/json"},
                data=json.dumps({"key": KEY}),
                poll_interval=INTERVAL,
            )
            for job_id in ids
        ]
    if contender == "batch":
        waits = [{"job_id": job_id, "submitted_at": now, "deadline": now + 3600} for job_id in ids]
        return [ModelsLabBatchTrigger(waits, wake_at=jobs, defer_after=60)]
    return [ModelsLabVideo2VideoTrigger(job_id, submitted_at=now, deadline=now + 3600) for job_id in ids]


class Runner(TriggerRunner):
    """Airflow's runner, fed from a list, with a probe in its loop."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._arguments = arguments
        self._workloads = [
            RunTrigger(id=number, classpath=path, encrypted_kwargs=Trigger.encrypt_kwargs(kwargs))
            for number, (path, kwargs) in enumerate(
                (trigger.serialize() for trigger in triggers(arguments.contender, arguments.jobs)), start=1
            )
        ]
        self._fed = asyncio.Event()
        self._blocks: list[tuple[float, float, float, bool]] = []
        self._collections: list[tuple[float, float]] = []
        self._long_gc_ended = -math.inf

    async def init_comms(self) -> None:
        """There is no supervisor."""
        forever = asyncio.create_task(asyncio.Event().wait())
        self.comms_decoder = cast("Any", SimpleNamespace(_reader_task=forever))
        self._probe = [asyncio.create_task(self._beat()), asyncio.create_task(self._measure())]

    async def sync_state_to_supervisor(self, finished_ids: list[int]) -> None:
        """Take the next triggers; called each second."""
        assert not finished_ids, "a trigger ended, which none should here"
        self.to_create.extend(self._workloads[:FEED])
        del self._workloads[:FEED]
        if not self._workloads:
            self._fed.set()

    async def _beat(self) -> None:
        """Every 10 ms; what it comes later is how long the loop was blocked, or the process not run."""
        gc.callbacks.append(self._note_collection)
        last, busy, seen = time.monotonic(), time.thread_time(), 0
        while True:
            await asyncio.sleep(_BEAT)
            now, spent = time.monotonic(), time.thread_time()
            wall, cpu = (sum(times) for times in zip((0.0, 0.0), *self._collections[seen:], strict=True))
            backlog = last - _BACKLOG < self._long_gc_ended
            self._blocks.append((now - last - _BEAT, now - last - _BEAT - wall, spent - busy - cpu, backlog))
            last, busy, seen = now, spent, len(self._collections)

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.monotonic(), time.thread_time()
        else:
            wall, cpu = self._collecting
            now = time.monotonic()
            self._collections.append((now - wall, time.thread_time() - cpu))
            if now - wall >= _LONG_GC:
                self._long_gc_ended = now

    async def _measure(self) -> None:
        gc.collect()  # as a triggerer that has run for a while has done
        began = time.thread_time()
        gc.collect()
        own = (time.thread_time() - began) * 1000
        await asyncio.sleep(2 * _BEAT)
        self._blocks.clear()
        before = len(self._collections)
        memory = _memory()
        await self._fed.wait()
        await asyncio.sleep(self._arguments.settle)
        looks, late = _looks()
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(self._arguments.window)
        ended = time.monotonic()
        found = {
            "began": began,
            "ended": ended,
            "cpu_s": time.process_time() - cpu,
            "memory_kb": _memory() - memory,
            "longest_block_ms": max(wall for wall, *_ in self._blocks) * 1000,
            "longest_block_cpu_ms": max(cpu for _, _, cpu, _ in self._blocks) * 1000,
            "longest_block_without_gc_ms": max(wall for _, wall, _, backlog in self._blocks if not backlog) * 1000,
            "longest_backlog_of_gc_ms": max((wall for _, wall, _, backlog in self._blocks if backlog), default=0.0)
            * 1000,
            "longest_gc_ms": max((wall for wall, _ in self._collections[before:]), default=0.0) * 1000,
            "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "gc_of_airflow_ms": own,
            "looks": [now - before for now, before in zip(_looks(), (looks, late), strict=True)],
        }
        self._arguments.out.write_text(json.dumps(found))
        os._exit(0)  # there are thousands of triggers that wait for ever


def _looks() -> tuple[int, int]:
    """The polls of our own poller, and those that began late by its own count."""
    pollers = [entry.poller for entries in registry._entries.values() for entry in entries.values()]
    return sum(poller.polls for poller in pollers), sum(poller.late for poller in pollers)


def _memory() -> float:
    """Resident memory in KB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=("idle", "ours", "batch", "http", "thread"))
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--settle", type=float, required=True)
    parser.add_argument("--window", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    Runner(parser.parse_args()).run()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
