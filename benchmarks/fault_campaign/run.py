"""What the runner knows of one run, as Airflow's database and a person's notes would."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_provider_modelslab.storage.uri import S3Uri
from benchmarks.fault_campaign.journal import Who
from benchmarks.fault_campaign.phases import Role
from benchmarks.fault_campaign.plan import Adversity, Planner, RunPlan

__all__ = ["BATCH_CLIPS", "BUCKET", "BUDGET", "DAG_ID", "LEDGERS", "PREFIX", "RETRIES"]
__all__ += ["Outcome", "Process", "Result", "Run", "Try"]

BUCKET, PREFIX = "clips", "landed"
LEDGERS = S3Uri(BUCKET, f"{PREFIX}/_modelslab/ledger")
BUDGET = "campaign"
DAG_ID = "campaign"
BATCH_CLIPS = ("a", "b", "c")
RETRIES = 2
_FAULTY_PROCESSES = 10

Outcome = dict[str, Any]
"""How a process ended, as plain JSON: ``{"end": "success" | "deferred" | "failed" | "event", ...}``."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result of a run.

    :param key: where it lands.
    :param track: the names of its submissions, but for the number.
    """

    key: str
    track: str

    @property
    def name(self) -> str:
        """For messages and as the seed of what happens to it."""
        return self.key.removesuffix(".mp4")

    def submission(self, number: int) -> str:
        """The name under which the vendor has a submission, as the message about it says."""
        return f"{self.track}/submission{number}"


@dataclass(frozen=True, slots=True)
class Try:
    """A try of a run.

    :param conf: the Dag run's.
    :param options: more options of the command.
    """

    plan: RunPlan
    number: int = 1
    max_tries: int = RETRIES
    conf: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    @property
    def results(self) -> tuple[Result, ...]:
        """Where its results land."""
        name = self.plan.name
        if self.plan.kind == "single":
            return (Result(f"{PREFIX}/{DAG_ID}/single/{name}.mp4", f"{DAG_ID}.single/{name}"),)
        if self.plan.kind == "command":
            key = f"{PREFIX}/commands/{name}.mp4"
            return (Result(key, f"cli/{BUCKET}/{key}"),)
        keys = [f"{PREFIX}/batches/{name}/{clip}.mp4" for clip in BATCH_CLIPS]
        return tuple(Result(key, f"{DAG_ID}.batch/{name}/{key}") for key in keys)


@dataclass
class Process:
    """A child that runs.

    :param stray: Airflow has given it up, or never wanted it: what it says counts no more.
    """

    pid: int
    pipe: int
    who: Who
    stray: bool = False
    stopped: bool = False
    started: float = field(default_factory=time.monotonic)
    heard: bytes = b""
    outcome: Outcome | None = None


@dataclass
class Run:
    """A run through its tries.

    :param state: ``parked``: its job never ends, and a person waits for the vendor.
    :param paid: whether the ledger knows a job that has not landed, as far as anybody has noted it.
    """

    plan: RunPlan
    state: Literal["active", "parked", "landed"] = "active"
    try_number: int = 1
    max_tries: int = RETRIES
    conf: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    deferral: dict[str, Any] = field(default_factory=dict)
    returned: list[Any] = field(default_factory=list)
    paid: bool = False
    cleared: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    running: list[Process] = field(default_factory=list)
    _ordinal: int = 0

    @property
    def unfinished(self) -> bool:
        """Whether there is more to come."""
        return self.state != "landed" or bool(self.running)

    @property
    def results(self) -> tuple[Result, ...]:
        """Where its results land."""
        return Try(self.plan).results

    def who(self, role: Role) -> Who:
        """The name of the run's next process."""
        self._ordinal += 1
        return Who(self.plan.name, self._ordinal, role)

    def adversity(self, planner: Planner, role: Role) -> Adversity:
        """What happens to the next process; nothing after so many that it would never end."""
        if self._ordinal >= _FAULTY_PROCESSES:
            return Adversity()
        return planner.process(self.plan, role, self._ordinal, paid=self.paid)

    def attempt(self) -> Try:
        """The try that is due; a command's options are for one try."""
        due = Try(self.plan, self.try_number, self.max_tries, self.conf, self.options)
        self.options = ()
        return due

    def next_try(self) -> bool:
        """Count a try that came to nothing; says whether there is another one without a person."""
        self.try_number += 1
        return self.try_number <= self.max_tries + 1

    def clear(self) -> None:
        """As Airflow's clear does: as many tries more as the task has retries. The try itself is already counted."""
        self.max_tries = self.try_number + RETRIES - 1

    def answer(self, found: dict[str, str]) -> None:
        """Put what a person found out about submissions into the Dag run's conf."""
        told = {**self.conf.get("modelslab", {}).get("submissions", {}), **found}
        self.conf = {"modelslab": {"submissions": told}}
