"""The benchmark of what parsing costs: what it loads, what it writes, and when it says no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.parse import ALLOWED_MS, EXAMPLES, Program, Sample, Taken, find_programs, main, measure, too_dear


def taken(kind: str, *cpu: float, heavy: list[str] | None = None) -> Taken:
    samples = [Sample(milliseconds, 2 * milliseconds, 10, heavy or []) for milliseconds in cpu]
    return Taken(Program("something", kind, ""), samples)


def test_every_example_and_the_others_are_measured() -> None:
    programs = {program.name: program.kind for program in find_programs()}
    for path in EXAMPLES.glob("*.py"):
        assert programs[f"dags_examples/{path.name}"] == "example Dag"
    assert programs["airflow_provider_modelslab.operators.batch"] == "operators"
    assert programs["airflow_provider_modelslab.sensors.video2video"] == "sensors"
    assert programs["airflow.providers.amazon.aws.operators.s3"] == "amazon"


@pytest.mark.slow
def test_it_measures_over_the_sdk_and_writes_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "parse.json"
    assert main(["--rounds", "1", "--only", "operators.s3", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    ours, theirs = "airflow_provider_modelslab.operators.s3_settings", "airflow.providers.amazon.aws.operators.s3"
    assert set(figures["ms_over_sdk"]) == {ours, theirs}
    assert all(milliseconds > 0 for milliseconds in figures["ms_over_sdk"].values())
    assert (figures["heavy"][ours], figures["heavy"][theirs]) == ("", "requests, botocore, boto3")
    assert 0 < figures["modules"][ours] < figures["modules"][theirs]
    assert ours in capsys.readouterr().out


@pytest.mark.slow
def test_what_cannot_be_loaded_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)broken cannot be loaded.*ZeroDivisionError"):
        measure([Program("broken", "example Dag", "1 / 0")], 1)


def test_the_median_of_an_example_counts() -> None:
    allowed = ALLOWED_MS["example Dag"]
    assert allowed == 60.0
    assert too_dear([taken("example Dag", 10.0, 20.0, 10 * allowed)]) == []
    (finding,) = too_dear([taken("example Dag", 10.0, allowed + 1, 10 * allowed)])
    assert finding == "something takes 61.0 ms over airflow.sdk; allowed are 60 ms"
    assert too_dear([taken("amazon", 500.0)]) == []


def test_torch_is_never_allowed() -> None:
    assert too_dear([taken("operators", 1.0, heavy=["torch"])]) == ["something has loaded torch"]
    assert too_dear([taken("amazon", 1.0, heavy=["torch"])]) == []
