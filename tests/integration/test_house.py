from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_figures_of_the_package(tmp_path: Path) -> None:
    """In a process of its own: the operators run with an Airflow that is configured for them."""
    command = [sys.executable, "-m", "tools.house", "--limits", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr  # 1 when a figure is above its limit
    figures = json.loads((tmp_path / "figures.json").read_text())
    for kind in ("single", "batch"):
        path = figures[f"path_{kind}"]
        assert figures[f"frames_{kind}"] == len(path) > 0
        assert figures[f"frames_{kind}_with_wrappers"] == len(path) + len(figures[f"wrappers_{kind}"])
        assert path[0].startswith("airflow_provider_modelslab.")
        assert path[0].endswith(".execute")
        assert path[-1].startswith("airflow_provider_modelslab.client.")
        assert all(frame in done.stdout for frame in path)
    assert figures["circles"] == len(figures["circles_modules"])
    assert figures["widest_room"] > 0
    assert all((ROOT / folder).is_dir() for folder in figures["widest_rooms"])
