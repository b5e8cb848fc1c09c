"""The GPU benchmark, in small on the CPU: no card is needed to see that it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import local
from benchmarks.local_cases import CASES

# diffusers 0.42's Euler schedule under numpy 2.4
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.slow
def test_every_request_and_variant_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "gpu.json"
    options = ["--skip", "load", "overhead", "gif", "--table", "--dry-run", "--rounds", "1"]
    assert local.main([*options, "--folder", str(tmp_path), "--json", str(report)]) == 0
    figures = json.loads(report.read_text())
    assert {"warm_speedup", "warm_s", "stock_s", "matmul_share", "card", "torch", "command"} <= set(figures)
    assert figures["card"] == "none (dry run)"
    assert list(figures["requests"]) == [case.name for case in CASES]
    for row in figures["requests"].values():
        assert row["speedup"] == row["stock_s"] / row["ours_s"] > 0
        assert row["tflop"] > 0
    guided, few = (figures["requests"][name]["tflop"] for name in ("default", "Lightning"))
    assert few < guided * 2  # four steps of one row each, beside two of two rows
    assert next(iter(figures["variants"])) == "compile"
    assert "Requests on none (dry run)" in capsys.readouterr().out
