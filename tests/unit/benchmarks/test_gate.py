"""What the gate reads from results, and what it calls worse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gate
from benchmarks.gate import COMMANDS, RATIOS, compare, main, ratios_of

RESULTS: dict[str, Mapping[str, Any]] = {
    "parse": {"least_ms_over_sdk": {"a Dag of Airflow alone": 40, "dags_examples/a.py": 20, "dags_examples/b.py": 30}},
    "batch_plan": {"listing": {"cpu_s": 0.5}, "plan": {"cpu_s": 1.0}, "rerun": {"cpu_s": 2.0}},
    "landing": {
        "ours": {"mib_per_s": 400.0},
        "upload_fileobj": {"mib_per_s": 600.0},
        "many": {"ours": {"cpu_ms_per_result": 20.0}, "upload_fileobj": {"cpu_ms_per_result": 10.0}},
    },
    "batch": {"ours": {"cpu_s_per_clip": 0.02, "s3_calls_per_clip": 6.1}, "today": {"cpu_s_per_clip": 1.0}},
}
EACH = [0.75, 2.0, 4.0, 2.0, 1.5, 0.02, 6.1]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kept file, in a folder of its own; the benchmarks are not run."""
    path = tmp_path / "benchmarks" / "results" / "gate.json"
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(gate, "KEPT", path)
    monkeypatch.setattr(gate, "_run", RESULTS.__getitem__)
    return path


def test_each_benchmark_gives_its_ratios() -> None:
    assert list(ratios_of({name: [figures] for name, figures in RESULTS.items()}).values()) == EACH
    assert {ratio.benchmark for ratio in RATIOS} == set(COMMANDS)


def test_the_median_of_the_rounds_counts() -> None:
    rounds = [
        {"ours": {"cpu_s_per_clip": cpu, "s3_calls_per_clip": 6}, "today": {"cpu_s_per_clip": 1}} for cpu in (9, 1, 2)
    ]
    assert list(ratios_of({"batch": rounds}).values()) == [2, 6]


@pytest.mark.parametrize(
    ("ratio", "times", "is_worse"),
    [(ratio, times, times > ratio.allowed) for ratio in RATIOS for times in (0.1, 1.0, 1.02, 1.04, 1.49, 1.51)],
)
def test_what_is_worse_by_more_than_it_may_be_is_named(ratio: gate.Ratio, times: float, is_worse: bool) -> None:
    kept = {one.name: 1.0 for one in RATIOS}
    worse = compare(kept, {**kept, ratio.name: times})
    assert [text.startswith(ratio.name) for text in worse] == [True] * is_worse


def test_what_is_not_kept_or_not_measured_is_not_worse() -> None:
    assert compare({}, {ratio.name: 99.0 for ratio in RATIOS}) == []
    assert compare({ratio.name: 1.0 for ratio in RATIOS}, {}) == []


def test_it_keeps_and_compares(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0  # nothing is kept yet
    assert main(["--keep", "--rounds", "3"]) == 0
    file = json.loads(kept.read_text())
    assert list(file["ratios"].values()) == EACH
    assert file["command"] == "python -m benchmarks.gate --keep --rounds 3"
    assert main([]) == 0
    file["ratios"][RATIOS[-1].name] /= 1.1
    kept.write_text(json.dumps(file))
    capsys.readouterr()
    assert main(["--only", "batch"]) == 1
    shown = capsys.readouterr()
    assert "+10%" in shown.out
    assert shown.err.startswith(RATIOS[-1].name)
    assert main(["--only", "parse"]) == 0


def test_what_is_kept_of_other_benchmarks_stays(kept: Path) -> None:
    assert main(["--keep"]) == 0
    assert main(["--keep", "--only", "parse"]) == 0
    assert list(json.loads(kept.read_text())["ratios"].values()) == EACH
