"""The processes of runs: started, heard, woken and killed; what follows for a run is decided by :mod:`.runner`."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from benchmarks.fault_campaign import attempt
from benchmarks.fault_campaign.child import fork
from benchmarks.fault_campaign.journal import FAULT, Journal
from benchmarks.fault_campaign.loop import Loop
from benchmarks.fault_campaign.phases import Role
from benchmarks.fault_campaign.plan import Adversity, Planner
from benchmarks.fault_campaign.probe import Probe
from benchmarks.fault_campaign.run import Outcome, Process, Run

__all__ = ["Scheduler", "Workers"]

_GRACE_S = 0.5  # between SIGTERM and SIGKILL; Airflow's is 5 s
_LONGEST_S = 20.0


class Scheduler(Protocol):
    """Who decides what comes next."""

    def ended(self, run: Run, process: Process) -> None:
        """A process that Airflow counts on is gone."""

    def again(self, run: Run, role: Role) -> None:
        """The process is gone or silent: a trigger is started elsewhere, a task has its next try."""

    def clear_waiting(self, run: Run) -> None:
        """A person clears the task while it waits; its trigger is gone."""


@dataclass
class Workers:
    """Workers, triggerers and commands.

    :param logs: folder for the tasks' logs.
    """

    loop: Loop
    scheduler: Scheduler
    planner: Planner
    journal: Journal
    logs: Path
    counts: Counter[str]

    def execute(self, run: Run) -> None:
        """Begin a try; now and then twice in the same instant."""
        planned = run.adversity(self.planner, "execute")
        if not planned.is_twin:
            self._fork(run, "execute", planned)
            return
        self.journal.note(FAULT, kind="twin", phase="start", run=run.plan.name)
        start_at = time.monotonic() + 0.05
        self._fork(run, "execute", Adversity(troubles=planned.troubles), start_at=start_at)
        self._fork(run, "execute", replace(planned, troubles=()), start_at=start_at, stray=True)

    def trigger(self, run: Run) -> None:
        """Wait in the triggerer."""
        self._fork(run, "trigger", run.adversity(self.planner, "trigger"))

    def resume(self, run: Run, event: dict[str, Any]) -> None:
        """Go on after the trigger."""
        self._fork(run, "resume", run.adversity(self.planner, "resume"), event=event)

    def end_the_slow(self, runs: list[Run]) -> None:
        """A person does not wait for minutes because a clock was wrong by minutes: clears a trigger, kills a worker."""
        latest = time.monotonic() - _LONGEST_S
        for run in runs:
            for process in [one for one in run.running if one.started < latest and not one.stopped]:
                process.started = math.inf
                run.counts["ended a long wait"] += 1
                if process.who.role == "trigger" and not process.stray:
                    self._clear(run, process)
                else:
                    _kill(run, process)

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
            seed=self.planner.seed,
            plan=run.plan,
            journal=self.journal,
            who=who,
            adversity=adversity,
            log=self.logs / f"{run.plan.name}.log",
            start_at=start_at,
        )
        self.counts["processes"] += 1
        process = Process(pid, pipe, who, stray=stray)
        run.running.append(process)
        self.loop.listen(
            process,
            told=lambda message: self._told(run, process, message),
            ended=lambda status: self._gone(run, process, status),
        )

    def _told(self, run: Run, process: Process, message: Outcome) -> None:
        if "outcome" in message:
            process.outcome = message["outcome"]
        elif "paid" in message:
            run.paid = True
        elif "stopped" in message:
            self._stopped(run, process, message["stopped"])
        elif "term" in message:
            self.loop.later(_GRACE_S, lambda: _kill(run, process))
        elif "clear" in message and not process.stray:
            self._clear(run, process)

    def _stopped(self, run: Run, process: Process, pause: float) -> None:
        """The process is silent, so Airflow gives it up; later it wakes and goes on where it was."""
        process.stopped = True
        self.loop.later(pause, lambda: self._wake(run, process))
        if not process.stray:
            process.stray = True
            self.scheduler.again(run, process.who.role)

    def _wake(self, run: Run, process: Process) -> None:
        if process in run.running:
            process.stopped = False
            os.kill(process.pid, signal.SIGCONT)
            self.journal.note("woken", process.who, pid=process.pid)

    def _clear(self, run: Run, process: Process) -> None:
        self.counts["cleared while waiting"] += 1
        process.stray = True
        _kill(run, process)
        self.scheduler.clear_waiting(run)

    def _gone(self, run: Run, process: Process, status: int) -> None:
        run.running.remove(process)
        outcome = process.outcome
        shown = outcome and {name: outcome[name] for name in ("end", "error", "text") if name in outcome}
        self.journal.note("ended", process.who, pid=process.pid, status=status, outcome=shown)
        if outcome and outcome["end"] == "failed" and not outcome["expected"]:
            run.unexpected.append(f"{process.who}: {outcome['error']}: {outcome['text'][:600]}")
        if not process.stray:
            self.scheduler.ended(run, process)
        elif outcome and outcome["end"] == "success":
            run.returned.append(outcome["returned"])


def _kill(run: Run, process: Process) -> None:
    if process in run.running:
        os.kill(process.pid, signal.SIGKILL)
