"""Short campaigns of faults and kills, as ``python -m benchmarks.faults`` runs them; the long one is run by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_is_paid_twice_or_lost(tmp_path: Path) -> None:
    least = {"fail": (8, 24), "resubmit": (4, 10)}  # clips and faults
    running = {mode: _start(mode, clips, faults, tmp_path) for mode, (clips, faults) in least.items()}
    told = {mode: process.communicate()[0] for mode, process in running.items()}
    for mode, (clips, faults) in least.items():
        assert running[mode].returncode == 0, told[mode][-6000:]
        figures = json.loads((tmp_path / f"{mode}.json").read_text())
        assert figures["faults"] >= faults
        assert figures["landed"] == figures["clips"] >= clips
        assert (figures["lost"], figures["modes"][mode]["unexplained_duplicates"]) == (0, 0)
        again = figures["modes"][mode]["resubmitted_after_failure"]
        assert figures["paid"] == figures["clips"] + again + figures["duplicates"]
        assert figures["duplicates"] == 0 or mode == "resubmit"


def _start(mode: str, clips: int, faults: int, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.faults", "--seed", "13", "--on-unknown-submission", mode]
    command += ["--clips", str(clips), "--faults", str(faults), "--json", str(folder / f"{mode}.json")]
    command += ["--skip", "lost_id", "never_ending"]  # these two show only after a minute
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
