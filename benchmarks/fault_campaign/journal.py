"""One file in which every process of the campaign notes what it does, so that it is known how far a killed one came."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Journal", "Who"]


@dataclass(frozen=True, slots=True)
class Who:
    """One process: the clip's name, which of the clip's processes it is, and its role."""

    clip: str
    ordinal: int
    role: str


class Journal:
    """JSON lines, appended whole by any number of processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    def note(self, event: str, who: Who | None = None, **more: Any) -> None:
        """Write one line."""
        named = {"clip": who.clip, "ordinal": who.ordinal, "role": who.role} if who else {}
        os.write(self._file, json.dumps({"at": time.time(), "event": event, **named, **more}).encode() + b"\n")

    def read(self) -> list[dict[str, Any]]:
        """All lines, in the order of writing."""
        return [json.loads(line) for line in self.path.read_text().splitlines()]
