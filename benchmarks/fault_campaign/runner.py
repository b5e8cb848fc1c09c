"""Airflow's part: starts a process for each try, reads how it ended, and decides about the next as Airflow does."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.fault_campaign import attempt
from benchmarks.fault_campaign.attempt import Outcome
from benchmarks.fault_campaign.clip import Clip, Process
from benchmarks.fault_campaign.journal import Journal
from benchmarks.fault_campaign.loop import Loop
from benchmarks.fault_campaign.person import Person
from benchmarks.fault_campaign.plan import Adversity, Role
from benchmarks.fault_campaign.probe import Probe
from benchmarks.fault_campaign.stage import Stage

__all__ = ["CampaignStuckError", "Runner"]

_WORKERS = 10  # processes of workers at once; most of them wait
_RETRY_S = 0.1
_PERSON_S = 2.0  # a person looks this much later; a request that is under way has arrived by then
_DOWN_S = 0.3
_DOWN_EVERY = (20, 35)  # submits
_MOST_TRIES = 40


class CampaignStuckError(RuntimeError):
    """A clip does not come to its end."""


class Runner:
    """Runs clips until all have landed.

    :param journal: where every process notes what it does.
    :param logs: folder for the tasks' logs.
    """

    def __init__(self, stage: Stage, *, journal: Journal, logs: Path, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._stage = stage
        self._journal = journal
        self._logs = logs
        self._rng = random.Random(f"{seed}/runner")
        self._person = Person(stage, journal)
        self._loop = Loop()
        self._queue: deque[Callable[[], None]] = deque()
        self._clips: list[Clip] = []
        self._until_down = self._rng.randint(2, 8)

    def run(self, clips: list[Clip], *, limit_s: float, clear: bool = False) -> None:
        """Land all clips.

        :param clear: they have landed, and are cleared instead.
        :raises CampaignStuckError: when that takes longer than ``limit_s`` seconds, or a clip too many tries.
        """
        self._clips = clips
        deadline = time.monotonic() + limit_s
        for clip in clips:
            if clear:
                self._clear_landed(clip)
            else:
                clip.state = "active"
                self._enqueue(clip)
        while self._queue or self._loop.has_timers or any(clip.unfinished for clip in clips):
            if time.monotonic() > deadline:
                late = [f"{clip.plan.name} ({clip.state}, try {clip.try_number})" for clip in clips if clip.unfinished]
                raise CampaignStuckError(f"Not done after {limit_s:.0f} s: {', '.join(late)}. Logs: {self._logs}")
            while self._queue and sum(1 for _ in self._workers()) < _WORKERS:
                self._queue.popleft()()
            self._unpark()
            self._loop.step()

    def close(self) -> None:
        """Kill what still runs."""
        self._loop.close([process for clip in self._clips for process in clip.running])

    # -- starting -------------------------------------------------------------------------------------------------

    def _enqueue(self, clip: Clip) -> None:
        self._queue.append(lambda: self._execute(clip))

    def _workers(self) -> Iterator[Process]:
        for clip in self._clips:
            yield from (one for one in clip.running if one.who.role != "trigger" and not one.stopped)

    def _execute(self, clip: Clip) -> None:
        if clip.try_number > _MOST_TRIES:
            raise CampaignStuckError(f"{clip.plan.name} is at try {clip.try_number}; its log is in {self._logs}")
        planned = clip.planned("execute")
        if planned is None or planned.kind != "twin":
            self._fork(clip, "execute", planned)
            return
        self.counts["twin"] += 1
        start_at = time.time() + 0.05
        killed = Adversity("kill", planned.at, planned.delay) if planned.at else None
        self._fork(clip, "execute", None, start_at=start_at)
        self._fork(clip, "execute", killed, start_at=start_at, stray=True)

    def _resume(self, clip: Clip, event: dict[str, Any]) -> None:
        self._fork(clip, "resume", clip.planned("resume"), event=event)

    def _wait(self, clip: Clip) -> None:
        self._fork(clip, "trigger", clip.planned("trigger"))

    def _fork(
        self,
        clip: Clip,
        role: Role,
        adversity: Adversity | None,
        *,
        event: dict[str, Any] | None = None,
        start_at: float = 0.0,
        stray: bool = False,
    ) -> None:
        task, deferral, who = clip.attempt(), clip.deferral, clip.who(role)
        bodies: dict[Role, Callable[[Probe], Outcome]] = {
            "execute": lambda probe: attempt.execute(task, probe),
            "trigger": lambda probe: attempt.trigger(deferral["trigger"], probe),
            "resume": lambda probe: attempt.resume(task, deferral, event or {}, probe),
        }
        log = self._logs / f"{clip.plan.name}.log"
        pid, pipe = attempt.fork(
            bodies[role], journal=self._journal, who=who, adversity=adversity, log=log, start_at=start_at
        )
        process = Process(pid, pipe, who, adversity, stray=stray)
        clip.running.append(process)
        self._loop.listen(
            process,
            told=lambda message: self._told(clip, process, message),
            ended=lambda status: self._gone(clip, process, status),
        )

    # -- what happens to processes --------------------------------------------------------------------------------

    def _told(self, clip: Clip, process: Process, message: Outcome) -> None:
        if "outcome" in message:
            process.outcome = message["outcome"]
        elif "submitting" in message:
            self._until_down -= 1
            if self._until_down == 0:
                self._until_down = self._rng.randint(*_DOWN_EVERY)
                self._loop.later(self._rng.uniform(0, 0.01), self._endpoint_down)
        elif "stopped" in message:
            self._stopped(clip, process)
        elif process.adversity is not None:
            planned = process.adversity
            self._loop.later(planned.delay, lambda: self._strike(clip, process, planned))

    def _strike(self, clip: Clip, process: Process, planned: Adversity) -> None:
        if process not in clip.running or process.outcome is not None:
            return
        if planned.kind == "stop":
            os.kill(process.pid, signal.SIGSTOP)
            self._stopped(clip, process)
        else:
            os.kill(process.pid, signal.SIGKILL)
            if planned.kind == "clear" and not process.stray:
                self._journal.note("a person clears the waiting task", process.who)
                self.counts["cleared while waiting"] += 1
                process.stray = True
                clip.next_try()
                clip.clear()
                self._enqueue(clip)

    def _stopped(self, clip: Clip, process: Process) -> None:
        """The process is silent, so Airflow gives it up; later it wakes and goes on where it was."""
        pause = process.adversity.pause if process.adversity else 0.0
        process.stopped = True
        self.counts["stop"] += 1
        self._journal.note("stopped", process.who, pid=process.pid)
        self._loop.later(pause, lambda: self._wake(clip, process))
        if not process.stray:
            process.stray = True
            self._again(clip, process.who.role)

    def _wake(self, clip: Clip, process: Process) -> None:
        if process in clip.running:
            process.stopped = False
            os.kill(process.pid, signal.SIGCONT)
            self._journal.note("woken", process.who, pid=process.pid)

    def _endpoint_down(self) -> None:
        """Kill the endpoint while a submit is under way, and start it again."""
        self._journal.note("the endpoint is killed")
        self.counts["endpoint killed"] += 1
        self._stage.endpoint.process.kill()
        self._loop.later(_DOWN_S, self._stage.endpoint.process.start)

    def _gone(self, clip: Clip, process: Process, status: int) -> None:
        clip.running.remove(process)
        outcome = process.outcome
        self._journal.note("ended", process.who, pid=process.pid, status=status, outcome=outcome)
        if outcome and outcome["end"] == "failed" and not outcome["expected"]:
            clip.unexpected.append(f"{process.who}: {outcome['error']}: {outcome['text']}")
        if not process.stray:
            self._decide(clip, process)
        elif outcome and outcome["end"] == "success":
            clip.manifests.append(outcome["manifest"])

    # -- deciding -------------------------------------------------------------------------------------------------

    def _decide(self, clip: Clip, process: Process) -> None:
        outcome = process.outcome
        if outcome is None:
            self._again(clip, process.who.role)
        elif outcome["end"] == "event":
            event = outcome["event"]
            self._queue.append(lambda: self._resume(clip, event))
        elif outcome["end"] == "deferred":
            clip.deferral = outcome
            self._wait(clip)
        elif outcome["end"] == "success":
            self._landed(clip, outcome)
        elif clip.next_try() and not outcome["final"]:
            clip.counts["retries"] += 1
            self._loop.later(_RETRY_S, lambda: self._enqueue(clip))
        else:
            self._journal.note("the task failed", process.who, text=outcome["text"])
            self._loop.later(_PERSON_S, lambda: self._ask_person(clip, outcome))

    def _again(self, clip: Clip, role: str) -> None:
        """The process is gone or silent: a trigger is started elsewhere, a task has its next try."""
        if role == "trigger":
            self._wait(clip)
            return
        clip.counts["retries"] += 1
        if not clip.next_try():
            clip.counts["cleared after the last retry"] += 1
            clip.clear()
        self._enqueue(clip)

    def _ask_person(self, clip: Clip, outcome: Outcome) -> None:
        done = self._person.look(clip, outcome)
        if done == "later":
            self._loop.later(0.5, lambda: self._ask_person(clip, outcome))
        elif done == "park":
            clip.state = "parked"
        else:
            clip.counts[done] += 1
            clip.clear()
            self._enqueue(clip)

    def _landed(self, clip: Clip, outcome: Outcome) -> None:
        clip.manifests.append(outcome["manifest"])
        if clip.state == "landed":
            clip.calls_when_cleared.append(outcome["calls"])
        else:
            clip.state = "landed"
        if clip.cleared < clip.plan.clears:
            clip.cleared += 1
            self._loop.later(self._rng.uniform(0, 1), lambda: self._clear_landed(clip))

    def _clear_landed(self, clip: Clip) -> None:
        self.counts["cleared when landed"] += 1
        clip.next_try()
        clip.clear()
        self._enqueue(clip)

    def _unpark(self) -> None:
        """When only jobs that never end are left, the person has the vendor clear its queue, and then the tasks."""
        parked = [clip for clip in self._clips if clip.state == "parked"]
        if not parked or any(clip.state not in {"parked", "landed"} or clip.running for clip in self._clips):
            return
        if self._queue or self._loop.has_timers or not self._person.has_queue_cleared():
            return
        for clip in parked:
            clip.state = "active"
            clip.counts["cleared after the vendor's queue"] += 1
            clip.clear()
            self._enqueue(clip)
