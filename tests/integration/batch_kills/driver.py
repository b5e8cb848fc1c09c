"""Airflow's part, and a person's: starts a process for each try, loses some, and decides about the next one.

A worker that dies is followed by the next try, which begins with ``execute``; a triggerer that dies by the same trigger
in another one. A task that fails for good is looked at by a person, who reads the results manifest and asks the vendor.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.kills.moments import Strike
from tests.support.kills.processes import Outcome, Process, Processes, soon

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Batch", "Plan", "draw_plan"]

Role = Literal["execute", "trigger", "resume"]

RETRIES = 60

_PLANNING = ("planning", "planned")
_SUBMITTING = ("claiming", "claimed", "submitting", "answered", "submitted", "recorded")
_WAITING = ("waiting",)
_WATCHING = ("watching",)
_LANDING = ("landing", "object written", "landed", "landing recorded")
_SAVING = ("saving", "saved")
_FINISHING = ("finishing", "finished")
_LATER_S: dict[tuple[str, ...], float] = {_WAITING: 0.2, _WATCHING: 0.4}


@dataclass
class Plan:
    """What happens to a batch.

    :param kills: by role, one for each process of that role as long as there are any.
    :param at_the_end: for the worker that comes so far when its own role has none; it has the kills that are left when
        the batch has come to its end sooner, too.
    :param twins: which resumptions are started twice, in the same instant.
    :param lost: which executions go on as zombies, while the next try begins.
    """

    kills: dict[Role, deque[Strike]] = field(default_factory=dict)
    at_the_end: deque[Strike] = field(default_factory=deque)
    twins: frozenset[int] = frozenset()
    lost: frozenset[int] = frozenset()

    def next(self, role: Role) -> tuple[Strike | None, bool]:
        """The kill of a process; whether it is killed when it ends at the latest."""
        if self.kills.get(role):
            return self.kills[role][0], True
        left = [*self.at_the_end, *itertools.chain.from_iterable(self.kills.values())]
        return (left[0] if self.at_the_end else _AT_THE_END) if left and role != "trigger" else None, False

    def struck(self, role: Role) -> None:
        """A process was killed."""
        (self.kills[role] or self.at_the_end or max(self.kills.values(), key=len)).popleft()


_AT_THE_END = Strike("finishing")


def draw_plan(seed: int, kills: int) -> Plan:
    """Draw the moments: some in each phase of a batch, and one at its end.

    :param kills: 5 or more.
    """
    rng = random.Random(seed)
    roles: dict[Role, deque[Strike]] = {"execute": deque(), "resume": deque(), "trigger": deque()}
    phases: tuple[tuple[Role, tuple[str, ...]], ...] = (
        ("execute", _SUBMITTING),
        ("trigger", _WATCHING),
        ("resume", _LANDING),
        (rng.choice(("execute", "resume")), _SAVING),
        ("execute", _PLANNING),
        ("resume", _SUBMITTING),
        ("execute", _WAITING),
        ("trigger", _WATCHING),
        ("resume", _LANDING),
    )
    for role, moments in itertools.islice(itertools.cycle(phases), kills - 1):
        nth = rng.choice((1, 2)) if moments in {_SUBMITTING, _LANDING} else 1
        late = moments is _WATCHING or rng.random() < 0.5
        delay = rng.uniform(0, _LATER_S.get(moments, 0.02)) if late else 0.0
        roles[role].append(Strike(rng.choice(moments), nth, delay))
    for strikes in roles.values():
        rng.shuffle(strikes)
    return Plan(
        roles, deque([Strike(rng.choice(_FINISHING))]), frozenset({1, 3}), frozenset({len(roles["execute"]) + 1})
    )


@dataclass
class Batch:
    """One task instance through its tries.

    :param task: the operator's arguments.
    :param bills: asks the vendor for the jobs that it was paid for.
    """

    processes: Processes
    task: dict[str, Any]
    run_id: str
    bills: Callable[[], list[dict[str, Any]]]
    plan: Plan = field(default_factory=Plan)
    try_number: int = 1
    conf: dict[str, Any] = field(default_factory=dict)
    variable: dict[str, str] = field(default_factory=dict)
    killed: int = 0
    strays: int = 0
    zombies: list[Process] = field(default_factory=list)
    _executions: int = 0
    _resumptions: int = 0

    def run(self) -> Outcome:
        """Until the task has succeeded, or failed for good."""
        while True:
            outcome = self._executed()
            while outcome is not None and outcome["end"] == "deferred":
                deferral = outcome
                event = None
                while event is None:
                    event = self._end_of("trigger", deferral=deferral)
                outcome = self._resumed(deferral, event["event"])
            if outcome is not None:
                for process in self.zombies:
                    assert self.processes.wait(process) is not None
                self.zombies.clear()
                return outcome
            self.try_number += 1

    def ask_a_person(self, s3: S3Client, outcome: Outcome) -> dict[str, str]:
        """Read the message, look the submissions of unknown outcome up, and say what was found; then clear.

        Half of the answers go to the run's conf and half to the Airflow Variable.
        """
        assert outcome["error"] == "BatchFailedError", outcome
        told = re.search(r"The outcome of each clip: (s3://\S+\.jsonl)", outcome["text"])
        assert told is not None, outcome
        place = S3Uri.parse(told[1])
        body = s3.get_object(Bucket=place.bucket, Key=place.key)["Body"].read()
        failed = [line for line in map(json.loads, body.splitlines()) if line["status"] == "failed"]
        assert {line["code"] for line in failed} == {"submission_unknown"}, failed
        time.sleep(1)  # a request that its process had sent before it was killed has arrived by then
        jobs = {str(job["track_id"]): str(job["id"]) for job in self.bills()}
        answers = {}
        for line in failed:
            advised = re.search(r'modelslab_submissions to \{"([^"]+)": "<the job\'s id>"\}', line["message"])
            tracked = re.search(r"dashboard for track_id '([^']+)'", line["message"])
            assert advised is not None, line
            assert tracked is not None, line
            answers[advised[1]] = jobs.get(tracked[1], "resubmit")
        assert len(answers) == len(failed)
        for number, (name, answer) in enumerate(answers.items()):
            (self.conf if number % 2 else self.variable)[name] = answer
        self.try_number += 1
        return answers

    def _end_of(self, role: Role, **more: Any) -> Outcome | None:
        outcome = self.processes.wait(self._start(role, **more))
        if outcome is None:
            self.killed += 1
            self.plan.struck(role)
        return outcome

    def _leave(self, process: Process) -> None:
        """Nobody cares how it ends."""
        self.zombies.append(process)
        self.strays += 1

    def _executed(self) -> Outcome | None:
        """Begin a try; ``None`` when it was killed, or Airflow believes so."""
        self._executions += 1
        if self._executions in self.plan.lost:
            self._leave(self._start("execute", unharmed=True))
            return None
        return self._end_of("execute")

    def _resumed(self, deferral: Outcome, event: dict[str, Any]) -> Outcome | None:
        """Resume, perhaps twice at once; ``None`` when it was killed."""
        self._resumptions += 1
        found: dict[str, Any] = {"deferral": deferral, "event": event}
        if self._resumptions in self.plan.twins:
            at = soon()
            self._leave(self._start("resume", unharmed=True, start_at=at, **found))
            return self._end_of("resume", start_at=at, **found)
        return self._end_of("resume", **found)

    def _start(self, role: Role, *, unharmed: bool = False, **more: Any) -> Process:
        strike, surely = (None, False) if unharmed else self.plan.next(role)
        return self.processes.start(
            role,
            strike=strike,
            surely=surely,
            operator="batch",
            task=self.task,
            run_id=self.run_id,
            try_number=self.try_number,
            max_tries=RETRIES,
            conf={"modelslab": {"submissions": self.conf}},
            environment={"AIRFLOW_VAR_MODELSLAB_SUBMISSIONS": json.dumps(self.variable)},
            **more,
        )
