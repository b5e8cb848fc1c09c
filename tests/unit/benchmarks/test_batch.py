"""What the batch benchmark calls a failure, and that its Dags are what it says."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from benchmarks.batch import DAGS, _problems


def figures(**changes: Any) -> dict[str, dict[str, Any]]:
    ours = {"clips": 1000, "cpu_s_per_clip": 0.015, "processes": 1, "duplicates": 0, **changes}
    return {"ours": ours, "today": {"clips": 12, "cpu_s_per_clip": 1.2, "processes": 36, "duplicates": 0}}


def test_what_was_asked_for_is_no_problem() -> None:
    assert _problems(figures()) == []
    assert _problems(figures(processes=10)) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"duplicates": 1}, "ours: 1 jobs more than clips"),
        ({"processes": 11}, "11 task processes for 1000 clips"),
        ({"cpu_s_per_clip": 0.06}, "20 times less CPU"),
    ],
)
def test_problems_are_named(changes: dict[str, Any], problem: str) -> None:
    (told,) = _problems(figures(**changes))
    assert problem in told


def test_the_dags_are_mapped_over_the_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "settings.json"
    clips = {"mapped": ["in/mapped/1.mp4"], "today": ["in/today/1.mp4", "in/today/2.mp4"]}
    settings.write_text(json.dumps({"bucket": "clips", "public_url": "https://s3.example.com/clips", **clips}))
    monkeypatch.setenv("BENCHMARK_BATCH", str(settings))
    tasks = {}
    for name in ("ours", "mapped", "today"):
        dag = runpy.run_path(str(DAGS / f"{name}.py"))["dag"]
        assert dag.dag_id == name
        tasks[name] = {task.task_id: task for task in dag.tasks}
    assert {name: sorted(found) for name, found in tasks.items()} == {
        "ours": ["restyle"],
        "mapped": ["restyle"],
        "today": ["land", "submit", "wait"],
    }
    assert [
        len(tasks[name][task].expand_input.value[field])
        for name, task, field in (
            ("mapped", "restyle", "init_video"),
            ("today", "submit", "data"),
        )
    ] == [1, 2]
