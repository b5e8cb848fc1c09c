"""A short campaign of faults and kills, as ``python -m benchmarks.faults`` runs it; the long one is run by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = 50


@pytest.mark.slow
def test_nothing_is_paid_twice_or_lost(tmp_path: Path) -> None:
    report = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.faults", "--seed", "13", "--faults", str(FAULTS)]
    # A job that never ends shows only after the time-out of its task.
    command += ["--skip", "never_ending", "--budget", "8", "--json", str(report)]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-6000:]
    figures = json.loads(report.read_text())
    assert figures["faults"] >= FAULTS
    assert figures["kills"] >= figures["faults"] / 5  # of so few, the share varies
    assert set(figures["runs"]) == {"single", "batch", "command"}
    assert figures["landed"] == figures["clips"] > 0
    assert (figures["duplicates"], figures["lost"], figures["wrong"]) == (0, 0, [])
    assert figures["paid"] == figures["clips"] + sum(figures["second_payments"].values())
    assert (figures["overspent"], figures["budget"]["raised"] > 0) == (0, True)
    assert figures["least_hit_phase"]["hits"] == min(figures["hits"].values())
