"""One file in which every process of the campaign notes what it does, so that it is known how far a killed one came."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fault_campaign import clock
from benchmarks.fault_campaign.phases import Role

__all__ = ["FAULT", "Journal", "Who"]

FAULT = "fault"
"""The event of a fault that acted: ``kind``, ``phase`` and, where a process had it, its ``pid``."""


@dataclass(frozen=True, slots=True)
class Who:
    """One process: the run's name, which of the run's processes it is, and its role."""

    run: str
    ordinal: int
    role: Role


class Journal:
    """JSON lines, appended whole by any number of processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        self._read = 0

    def note(self, event: str, who: Who | None = None, **more: Any) -> None:
        """Write one line."""
        named = {"run": who.run, "ordinal": who.ordinal, "role": who.role} if who else {}
        os.write(self._file, json.dumps({"at": clock.now(), "event": event, **named, **more}).encode() + b"\n")

    def read(self) -> list[dict[str, Any]]:
        """All lines, in the order of writing."""
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def new_faults(self) -> Iterator[dict[str, Any]]:
        """The faults that acted since the last call."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if b'"event": "fault"' in line:
                yield json.loads(line)
