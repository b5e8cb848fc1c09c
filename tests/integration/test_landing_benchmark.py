"""The landing benchmark, small, with its real servers and processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_both_tables_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "landing.json"
    small = ["--mib", "9", "--runs", "1", "--results", "4", "--result-mib", "1", "--threads", "2"]
    methods = ["--methods", "ours", "upload_fileobj", "--json", str(out)]
    command = [sys.executable, "-m", "benchmarks.landing", *small, *methods]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert sorted(figures.keys() - {"command", "date", "machine"}) == ["many", "ours", "upload_fileobj"]
    assert sorted(figures["many"]) == ["ours", "upload_fileobj"]
    assert all(value > 0 for method in figures["many"].values() for value in method.values())
    assert figures["ours"]["mib_per_s"] > 0
    assert "4 results of 1 MiB, 2 at once" in done.stdout
