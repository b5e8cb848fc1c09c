"""A short campaign of faults and kills, as ``python -m benchmarks.faults`` runs it; the long one is run by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("unknown", "clips", "faults"), [("fail", 8, 24), ("resubmit", 4, 10)])
def test_nothing_is_paid_twice_or_lost(unknown: str, clips: int, faults: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--seed", "13", "--on-unknown-submission", unknown]
    command += ["--clips", str(clips), "--faults", str(faults), "--json", str(tmp_path / "figures.json")]
    command += ["--skip", "lost_id", "never_ending"]  # these two show only after a minute
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["faults"] >= faults
    assert figures["landed"] == figures["clips"] >= clips
    assert (figures["lost"], figures["modes"][unknown]["unexplained_duplicates"]) == (0, 0)
    assert figures["paid"] >= figures["clips"]
    if unknown == "fail":
        assert figures["duplicates"] == 0
        assert figures["paid"] == figures["clips"] + figures["modes"]["fail"]["resubmitted_after_failure"]
