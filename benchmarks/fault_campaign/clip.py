"""What the runner knows of one clip's task instance, as Airflow's database would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.fault_campaign.attempt import RETRIES, Outcome, Try
from benchmarks.fault_campaign.journal import Who
from benchmarks.fault_campaign.plan import Adversity, ClipPlan, Role

__all__ = ["Clip", "Process"]


@dataclass
class Process:
    """A child that runs.

    :param stray: Airflow has given it up, or never wanted it: what it says counts no more.
    """

    pid: int
    pipe: int
    who: Who
    adversity: Adversity | None
    stray: bool = False
    stopped: bool = False
    heard: bytes = b""
    outcome: Outcome | None = None


@dataclass
class Clip:
    """A task instance through its tries.

    :param state: ``parked``: its job never ends, and a person waits for the vendor.
    """

    plan: ClipPlan
    unknown: str
    state: Literal["waiting", "active", "parked", "landed"] = "waiting"
    try_number: int = 1
    max_tries: int = RETRIES
    conf: dict[str, Any] = field(default_factory=dict)
    deferral: dict[str, Any] = field(default_factory=dict)
    manifests: list[dict[str, Any]] = field(default_factory=list)
    calls_when_cleared: list[int] = field(default_factory=list)
    cleared: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    running: list[Process] = field(default_factory=list)
    _ordinal: int = 0
    _planned: dict[Role, Iterator[Adversity | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._planned = {role: iter(found) for role, found in self.plan.adversities.items()}

    @property
    def unfinished(self) -> bool:
        """Whether there is more to come."""
        return self.state != "landed" or bool(self.running)

    def who(self, role: Role) -> Who:
        """The name of the clip's next process."""
        self._ordinal += 1
        return Who(self.plan.name, self._ordinal, role)

    def planned(self, role: Role) -> Adversity | None:
        """What happens to the next process of a role."""
        return next(self._planned[role], None)

    def attempt(self) -> Try:
        """The try that is due."""
        return Try(self.plan, self.unknown, self.try_number, self.max_tries, self.conf)

    def next_try(self) -> bool:
        """Count a try that came to nothing; says whether there is another one without a person."""
        self.try_number += 1
        return self.try_number <= self.max_tries + 1

    def clear(self) -> None:
        """As Airflow's clear does: as many tries more as the task has retries. The try itself is already counted."""
        self.max_tries = self.try_number + RETRIES - 1

    def answer(self, submission: str, found: str) -> None:
        """Put what a person found out about a submission into the run's conf."""
        told = {**self.conf.get("modelslab", {}).get("submissions", {}), submission: found}
        self.conf = {"modelslab": {"submissions": told}}
