"""What a result says of itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.report import about, machine
from benchmarks.waiting import _write


def test_it_names_a_command_that_can_be_typed() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    told = about("landing", ["--mib", "512", "--json", "a file.json"])
    assert told["command"] == "python -m benchmarks.landing --mib 512 --json 'a file.json'"
    assert told["machine"] == machine()
    assert before <= datetime.fromisoformat(told["date"]) <= datetime.now(UTC)


def test_of_several_rows_the_first_one_tells(tmp_path: Path) -> None:
    file = tmp_path / "waiting.json"
    rows = [{"jobs": 5000, "machine": "busy"}, {"jobs": 1000, "machine": "idle"}]
    _write(file, rows, ["--jobs", "5000", "1000"])
    first, second = json.loads(file.read_text())
    assert (first["jobs"], first["machine"]) == (1000, "idle")  # with the load, as it was then
    assert first["command"] == "python -m benchmarks.waiting --jobs 5000 1000"
    assert first["date"]
    assert second == rows[0]
