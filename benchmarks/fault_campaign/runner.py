"""Airflow's part: reads how each process ended, and decides about tries, deferrals and clears as Airflow does."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from benchmarks.fault_campaign.allowance import Allowance
from benchmarks.fault_campaign.journal import Journal
from benchmarks.fault_campaign.loop import Loop
from benchmarks.fault_campaign.person import Person
from benchmarks.fault_campaign.phases import Role
from benchmarks.fault_campaign.plan import KILLS, Planner
from benchmarks.fault_campaign.report import endpoint_faults
from benchmarks.fault_campaign.run import Outcome, Process, Run
from benchmarks.fault_campaign.stage import Stage
from benchmarks.fault_campaign.workers import Workers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["CampaignStuckError", "Runner"]

_RETRY_S = 0.05
_PERSON_S = 1.0  # a person looks this much later; a request that is under way has arrived by then
_DOWN_S = 0.2
_BILLS_EVERY_S = 5.0
_STEP_S = 0.1
_MOST_TRIES = 60


class CampaignStuckError(RuntimeError):
    """A run does not come to its end."""


class Runner:
    """Runs what it is given until all of it has landed.

    :param planner: says what happens to each process, and hears what came of it.
    :param allowance: the budget of all jobs.
    :param processes: of workers and commands at once; most of them wait.
    :param journal: where every process notes what it does.
    :param logs: folder for the tasks' logs.
    """

    def __init__(
        self,
        stage: Stage,
        s3: S3Client,
        planner: Planner,
        *,
        allowance: Allowance,
        processes: int,
        journal: Journal,
        logs: Path,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.runs: list[Run] = []
        self._stage = stage
        self._planner = planner
        self._processes = processes
        self._journal = journal
        self._logs = logs
        self._person = Person(stage, s3, journal, allowance)
        self._loop = Loop()
        self._workers = Workers(self._loop, self, planner, journal, logs, self.counts)
        self._queue: deque[Callable[[], None]] = deque()
        self._active: list[Run] = []
        self._noted = self._endpoint_faults = 0
        self._bills_at = 0.0
        self._loop.watch(stage.endpoint.pid, self._endpoint_down)

    def run(self, faults: int, *, runs: int, limit_s: float) -> None:
        """Make runs until so many faults have acted, and land all of them.

        :param runs: so many at least.
        :raises CampaignStuckError: when that takes longer than ``limit_s`` seconds, or a run too many tries.
        """
        deadline = time.monotonic() + limit_s
        while True:
            is_enough = self._count_faults() >= faults and len(self.runs) >= runs
            self._planner.is_quiet = is_enough
            while not is_enough and sum(run.state != "parked" for run in self._active) < self._processes:
                run = Run(self._planner.run(len(self.runs)))
                self.runs.append(run)
                self._active.append(run)
                self._enqueue(run)
            if is_enough and not self._active and not self._loop.has_timers:
                return
            self._step(deadline)

    def clear(self, runs: list[Run], *, limit_s: float) -> None:
        """Clear what has landed, and wait until it has returned again."""
        deadline = time.monotonic() + limit_s
        for run in runs:
            self._clear_landed(run)
        while self._active or self._loop.has_timers:
            self._step(deadline)

    def close(self) -> None:
        """Kill what still runs."""
        self._loop.close([process for run in self._active for process in run.running])

    def _step(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            late = [f"{run.plan.name} ({run.state}, try {run.try_number})" for run in self._active]
            raise CampaignStuckError(f"Not done in time: {', '.join(late)}. Logs: {self._logs}")
        working = sum(
            process.who.role != "trigger" and not process.stopped for run in self._active for process in run.running
        )
        while self._queue and working < self._processes:
            self._queue.popleft()()
            working += 1
        self._unpark()
        self._workers.end_the_slow(self._active)
        self._loop.step(_STEP_S)
        self._active = [run for run in self._active if run.unfinished]

    def _count_faults(self) -> int:
        """How many have acted, as far as is known."""
        for fault in self._journal.new_faults():
            self._noted += 1
            if fault["kind"] in KILLS:
                self._planner.hit(fault["phase"])
        if time.monotonic() > self._bills_at + _BILLS_EVERY_S:
            try:
                self._endpoint_faults = sum(endpoint_faults(self._stage.bills()).values())
                self._bills_at = time.monotonic()
            except requests.RequestException:  # it is down; asked again at the next step
                return self._noted + self._endpoint_faults
        return self._noted + self._endpoint_faults

    def _endpoint_down(self) -> None:
        self._stage.endpoint.ended()
        self._journal.note("the endpoint is killed")
        self._loop.later(_DOWN_S, self._endpoint_up)

    def _endpoint_up(self) -> None:
        self._stage.endpoint.start()
        self._loop.watch(self._stage.endpoint.pid, self._endpoint_down)

    # -- deciding -------------------------------------------------------------------------------------------------

    def ended(self, run: Run, process: Process) -> None:
        """See :class:`.workers.Scheduler`."""
        outcome = process.outcome
        if outcome is None:
            self.again(run, process.who.role)
        elif outcome["end"] == "event":
            event = outcome["event"]
            self._queue.append(lambda: self._workers.resume(run, event))
        elif outcome["end"] == "deferred":
            run.deferral = outcome
            self._workers.trigger(run)
        elif outcome["end"] == "success":
            self._landed(run, outcome)
        else:
            self._failed(run, outcome)

    def again(self, run: Run, role: Role) -> None:
        """See :class:`.workers.Scheduler`."""
        if role == "trigger":
            self._workers.trigger(run)
            return
        run.counts["retries"] += 1
        if not run.next_try():
            run.counts["cleared after the last retry"] += 1
            run.clear()
        self._enqueue(run)

    def clear_waiting(self, run: Run) -> None:
        """See :class:`.workers.Scheduler`."""
        run.next_try()
        run.clear()
        self._enqueue(run)

    def _enqueue(self, run: Run) -> None:
        if run.try_number > _MOST_TRIES:
            raise CampaignStuckError(f"{run.plan.name} is at try {run.try_number}; its log is in {self._logs}")
        self._queue.append(lambda: self._workers.execute(run))

    def _failed(self, run: Run, outcome: Outcome) -> None:
        if outcome["error"] in {"JobFailedError", "JobLostError"}:
            run.paid = False
        if run.next_try() and not outcome["final"]:
            run.counts["retries"] += 1
            self._loop.later(_RETRY_S, lambda: self._enqueue(run))
        else:
            self._loop.later(_PERSON_S, lambda: self._ask_person(run, outcome))

    def _ask_person(self, run: Run, outcome: Outcome) -> None:
        done = self._person.look(run, outcome)
        if done == "later":
            self._loop.later(0.5, lambda: self._ask_person(run, outcome))
        elif done == "park":
            run.state = "parked"
        else:
            run.counts[done] += 1
            run.clear()
            self._enqueue(run)

    def _landed(self, run: Run, outcome: Outcome) -> None:
        run.returned.append(outcome["returned"])
        run.state = "landed"
        run.paid = False
        if run.cleared < run.plan.clears:
            run.cleared += 1
            self._clear_landed(run)

    def _clear_landed(self, run: Run) -> None:
        self.counts["cleared when landed"] += 1
        run.state = "active"
        run.next_try()
        run.clear()
        if run not in self._active:
            self._active.append(run)
        self._enqueue(run)

    def _unpark(self) -> None:
        """When only jobs that never end are left, the person has the vendor clear its queue, and then the tasks."""
        if not self._active or any(run.state != "parked" or run.running for run in self._active):
            return
        if self._queue or self._loop.has_timers or not self._person.has_queue_cleared():
            return
        for run in self._active:
            run.state = "active"
            run.counts["cleared after the vendor's queue"] += 1
            run.clear()
            self._enqueue(run)
