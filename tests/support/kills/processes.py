"""Workers, triggerers and commands in processes of their own, started and waited for from a test."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from tests.support.kills.moments import Strike

__all__ = ["Outcome", "Process", "Processes", "soon"]

ROOT = Path(__file__).parents[3]

Outcome = dict[str, Any]
"""How a process ended, as plain JSON: ``{"end": "success" | "deferred" | "failed" | "event", ...}``."""


@dataclass
class Process:
    """A process that was started."""

    number: int
    name: str
    strike: Strike | None


@dataclass
class Processes:
    """Forks of one process that has loaded Airflow.

    :param folder: for what they write.
    :param environment: Airflow connections and variables, as environment variables.
    """

    folder: Path
    environment: Mapping[str, str]
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _ended: dict[int, int] = field(default_factory=dict)
    _warm: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._warm = subprocess.Popen(
                [sys.executable, "-m", "tests.support.kills.warm"],
                cwd=ROOT,
                env=dict(self.environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._warm is not None:
            for pipe in (self._orders, self._told):
                pipe.close()
            self._warm.wait(30)

    @property
    def log(self) -> Path:
        """What all of them log."""
        return self.folder / "tasks.log"

    @property
    def journal(self) -> Path:
        """The moments that they passed."""
        return self.folder / "journal.jsonl"

    def start(
        self,
        role: str,
        *,
        strike: Strike | None = None,
        surely: bool = True,
        start_at: float = 0.0,
        environment: Mapping[str, str] | None = None,
        **order: Any,
    ) -> Process:
        """Start one.

        :param role: ``execute``, ``trigger`` or ``resume`` for a task, ``command`` for the command line.
        :param start_at: seconds since the epoch at which its work begins, so that two can begin at once.
        :param order: what it is to do, see :mod:`.warm`.
        """
        number = next(self._numbers)
        name = f"{number}: {role}, try {order.get('try_number', '-')} of {order.get('run_id', '-')}"
        whole = {
            **order,
            "number": number,
            "role": role,
            "name": name,
            "strike": strike,
            "surely": surely,
            "start_at": start_at,
            "environment": dict(environment or {}),
            "journal": str(self.journal),
            "log": str(self.log),
            "outcome": str(self._outcome(number)),
        }
        self._orders.write(json.dumps(whole).encode() + b"\n")
        self._orders.flush()
        return Process(number, name, strike)

    def wait(self, process: Process) -> Outcome | None:
        """Wait for its end: its outcome; ``None`` when it was killed."""
        while process.number not in self._ended:
            line = self._told.readline()
            assert line, f"the warm process is gone; see {self.log}"
            told = json.loads(line)
            self._ended[told["number"]] = told["status"]
        status = self._ended[process.number]
        if status == -9:
            return None
        outcome = self._outcome(process.number)
        assert status == 0, process
        assert outcome.exists(), f"{process} left no outcome; see {self.log}:\n{self.log.read_text()[-3000:]}"
        found: Outcome = json.loads(outcome.read_text())
        return found

    def kills_of(self, run: str) -> list[str]:
        """The moments at which processes of the runs whose names begin so were killed."""
        lines = map(json.loads, self.journal.read_text().splitlines())
        return [line["at"] for line in lines if line["moment"] == "killed" and f" of {run}" in line["process"]]

    def _outcome(self, number: int) -> Path:
        return self.folder / f"outcome-{number}.json"

    @property
    def _orders(self) -> IO[bytes]:
        assert self._warm is not None
        assert self._warm.stdin is not None
        return self._warm.stdin

    @property
    def _told(self) -> IO[bytes]:
        assert self._warm is not None
        assert self._warm.stdout is not None
        return self._warm.stdout


def soon() -> float:
    """A moment at which processes that are started now can begin together."""
    return time.time() + 0.1
