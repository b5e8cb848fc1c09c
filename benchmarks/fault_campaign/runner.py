"""Airflow's part: starts a process for each try, reads how it ended, and decides about the next as Airflow does."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from benchmarks.fault_campaign import attempt
from benchmarks.fault_campaign.child import fork
from benchmarks.fault_campaign.journal import FAULT, Journal
from benchmarks.fault_campaign.loop import Loop
from benchmarks.fault_campaign.person import Person
from benchmarks.fault_campaign.phases import Role
from benchmarks.fault_campaign.plan import KILLS, Adversity, Planner
from benchmarks.fault_campaign.probe import Probe
from benchmarks.fault_campaign.report import endpoint_faults
from benchmarks.fault_campaign.run import Outcome, Process, Run
from benchmarks.fault_campaign.stage import Stage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["CampaignStuckError", "Runner"]

_RETRY_S = 0.05
_PERSON_S = 1.0  # a person looks this much later; a request that is under way has arrived by then
_GRACE_S = 0.5  # between SIGTERM and SIGKILL; Airflow's is 5 s
_DOWN_S = 0.2
_BILLS_EVERY_S = 5.0
_STEP_S = 0.1
_MOST_TRIES = 60


class CampaignStuckError(RuntimeError):
    """A run does not come to its end."""


class Runner:
    """Runs what it is given until all of it has landed.

    :param planner: says what happens to each process, and hears what came of it.
    :param lanes: processes of workers and commands at once; most of them wait.
    :param journal: where every process notes what it does.
    :param logs: folder for the tasks' logs.
    """

    def __init__(
        self, stage: Stage, s3: S3Client, planner: Planner, *, lanes: int, journal: Journal, logs: Path
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.runs: list[Run] = []
        self.faults = 0
        """So many have acted, as far as is known."""
        self._stage = stage
        self._planner = planner
        self._lanes = lanes
        self._journal = journal
        self._logs = logs
        self._rng = random.Random(f"{planner.seed}/runner")
        self._person = Person(stage, s3, journal)
        self._loop = Loop()
        self._queue: deque[Callable[[], None]] = deque()
        self._active: list[Run] = []
        self._noted = self._asked_for = 0
        self._bills_at = 0.0
        self._watch_endpoint()

    def run(self, faults: int, *, runs: int, limit_s: float) -> None:
        """Make runs until so many faults have acted, and land all of them.

        :param runs: so many at least.
        :raises CampaignStuckError: when that takes longer than ``limit_s`` seconds, or a run too many tries.
        """
        deadline = time.monotonic() + limit_s
        while True:
            self._read_journal()
            is_enough = self.faults >= faults and len(self.runs) >= runs
            self._planner.is_quiet = is_enough
            while not is_enough and sum(run.state != "parked" for run in self._active) < self._lanes:
                self._begin(Run(self._planner.run(len(self.runs))))
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

    def _begin(self, run: Run) -> None:
        self.runs.append(run)
        self._active.append(run)
        self._enqueue(run)

    def _step(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            late = [f"{run.plan.name} ({run.state}, try {run.try_number})" for run in self._active]
            raise CampaignStuckError(f"Not done in time: {', '.join(late)}. Logs: {self._logs}")
        working = sum(
            process.who.role != "trigger" and not process.stopped for run in self._active for process in run.running
        )
        while self._queue and working < self._lanes:
            self._queue.popleft()()
            working += 1
        self._unpark()
        self._loop.step(_STEP_S)
        self._active = [run for run in self._active if run.unfinished]

    def _read_journal(self) -> None:
        for fault in self._journal.new_faults():
            self._noted += 1
            if fault["kind"] in KILLS:
                self._planner.hit(fault["phase"])
        if time.monotonic() > self._bills_at + _BILLS_EVERY_S:
            self._bills_at = time.monotonic()
            try:
                self._asked_for = sum(endpoint_faults(self._stage.bills()).values())
            except requests.RequestException:
                self._bills_at = 0.0
        self.faults = self._noted + self._asked_for

    # -- starting -------------------------------------------------------------------------------------------------

    def _enqueue(self, run: Run) -> None:
        self._queue.append(lambda: self._execute(run))

    def _execute(self, run: Run) -> None:
        if run.try_number > _MOST_TRIES:
            raise CampaignStuckError(f"{run.plan.name} is at try {run.try_number}; its log is in {self._logs}")
        planned = run.adversity(self._planner, "execute")
        if not planned.is_twin:
            self._fork(run, "execute", planned)
            return
        self._journal.note(FAULT, kind="twin", phase="start", run=run.plan.name)
        start_at = time.monotonic() + 0.05
        self._fork(run, "execute", Adversity(troubles=planned.troubles), start_at=start_at)
        self._fork(run, "execute", replace(planned, troubles=()), start_at=start_at, stray=True)

    def _resume(self, run: Run, event: dict[str, Any]) -> None:
        self._fork(run, "resume", run.adversity(self._planner, "resume"), event=event)

    def _wait(self, run: Run) -> None:
        self._fork(run, "trigger", run.adversity(self._planner, "trigger"))

    def _fork(
        self,
        run: Run,
        role: Role,
        adversity: Adversity,
        *,
        event: dict[str, Any] | None = None,
        start_at: float = 0.0,
        stray: bool = False,
    ) -> None:
        task, deferral, who = run.attempt(), run.deferral, run.who(role)
        bodies: dict[Role, Callable[[Probe], Outcome]] = {
            "execute": lambda probe: attempt.execute(task, probe),
            "trigger": lambda probe: attempt.trigger(deferral["trigger"], probe),
            "resume": lambda probe: attempt.resume(task, deferral, event or {}, probe),
        }
        pid, pipe = fork(
            bodies[role],
            seed=self._planner.seed,
            plan=run.plan,
            journal=self._journal,
            who=who,
            adversity=adversity,
            log=self._logs / f"{run.plan.name}.log",
            start_at=start_at,
        )
        self.counts["processes"] += 1
        process = Process(pid, pipe, who, adversity, stray=stray)
        run.running.append(process)
        self._loop.listen(
            process,
            told=lambda message: self._told(run, process, message),
            ended=lambda status: self._gone(run, process, status),
        )

    # -- what happens to processes --------------------------------------------------------------------------------

    def _told(self, run: Run, process: Process, message: Outcome) -> None:
        if "outcome" in message:
            process.outcome = message["outcome"]
        elif "paid" in message:
            run.paid = True
        elif "stopped" in message:
            self._stopped(run, process, message["stopped"])
        elif "term" in message:
            self._loop.later(_GRACE_S, lambda: self._kill(run, process))
        elif "clear" in message and not process.stray:
            self._clear_waiting(run, process)

    def _stopped(self, run: Run, process: Process, pause: float) -> None:
        """The process is silent, so Airflow gives it up; later it wakes and goes on where it was."""
        process.stopped = True
        self._loop.later(pause, lambda: self._wake(run, process))
        if not process.stray:
            process.stray = True
            self._again(run, process.who.role)

    def _wake(self, run: Run, process: Process) -> None:
        if process in run.running:
            process.stopped = False
            os.kill(process.pid, signal.SIGCONT)
            self._journal.note("woken", process.who, pid=process.pid)

    def _kill(self, run: Run, process: Process) -> None:
        if process in run.running:
            os.kill(process.pid, signal.SIGKILL)

    def _clear_waiting(self, run: Run, process: Process) -> None:
        """A person clears the task while it waits."""
        self.counts["cleared while waiting"] += 1
        process.stray = True
        self._kill(run, process)
        run.next_try()
        run.clear()
        self._enqueue(run)

    def _watch_endpoint(self) -> None:
        self._loop.watch(self._stage.endpoint.pid, self._endpoint_down)

    def _endpoint_down(self) -> None:
        self._stage.endpoint.ended()
        self._journal.note("the endpoint is killed")
        self._loop.later(_DOWN_S, self._endpoint_up)

    def _endpoint_up(self) -> None:
        self._stage.endpoint.start()
        self._watch_endpoint()

    def _gone(self, run: Run, process: Process, status: int) -> None:
        run.running.remove(process)
        outcome = process.outcome
        self._journal.note("ended", process.who, pid=process.pid, status=status, outcome=_short(outcome))
        if outcome and outcome["end"] == "failed" and not outcome["expected"]:
            run.unexpected.append(f"{process.who}: {outcome['error']}: {outcome['text'][:600]}")
        if not process.stray:
            self._decide(run, process)
        elif outcome and outcome["end"] == "success":
            run.returned.append(outcome["returned"])

    # -- deciding -------------------------------------------------------------------------------------------------

    def _decide(self, run: Run, process: Process) -> None:
        outcome = process.outcome
        if outcome is None:
            self._again(run, process.who.role)
        elif outcome["end"] == "event":
            event = outcome["event"]
            self._queue.append(lambda: self._resume(run, event))
        elif outcome["end"] == "deferred":
            run.deferral = outcome
            self._wait(run)
        elif outcome["end"] == "success":
            self._landed(run, outcome)
        else:
            self._failed(run, outcome)

    def _again(self, run: Run, role: str) -> None:
        """The process is gone or silent: a trigger is started elsewhere, a task has its next try."""
        if role == "trigger":
            self._wait(run)
            return
        run.counts["retries"] += 1
        if not run.next_try():
            run.counts["cleared after the last retry"] += 1
            run.clear()
        self._enqueue(run)

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


def _short(outcome: Outcome | None) -> dict[str, Any] | None:
    return outcome and {name: outcome.get(name) for name in ("end", "error", "text") if name in outcome}
