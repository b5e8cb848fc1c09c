"""Names of results and batches, made of the ids of a task instance: two that differ never share one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_modelslab.operators.arguments import instance_name
from airflow_provider_modelslab.plugins.authorization.locations import is_result, is_results_manifest
from airflow_provider_modelslab.plugins.task_results import TaskResult
from airflow_provider_modelslab.storage.s3_profile import S3Profile

PROFILE = S3Profile("clips", "styled")


def named(dag_id: str = "clips", task_id: str = "restyle", run_id: str = "r1", map_index: int = -1) -> str:
    return instance_name(SimpleNamespace(dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index))


AS_THEY_ARE = [
    ("manual__2026-11-23T10:00:00+00:00", "manual__2026-11-23T10_00_00_00_00"),
    ("scheduled__2026-11-23T10:00:00.123456+00:00", "scheduled__2026-11-23T10_00_00.123456_00_00"),
    ("asset_triggered__2026-11-23T10:00:00-05:00_Ab3dEf9h", "asset_triggered__2026-11-23T10_00_00-05_00_Ab3dEf9h"),
    ("day-1_of.week", "day-1_of.week"),
]


@pytest.mark.parametrize(("run_id", "name"), AS_THEY_ARE)
def test_plain_ids_and_airflows_own_runs_are_readable(run_id: str, name: str) -> None:
    assert named("my.dag-1", "group.restyle", run_id) == f"my.dag-1/group.restyle/{name}"


ALIKE = [
    ({"task_id": "猫"}, {"task_id": "犬"}),
    ({"task_id": "größe"}, {"task_id": "grüße"}),
    ({"dag_id": "видео_ж"}, {"dag_id": "видео_я"}),
    ({"run_id": "day:1"}, {"run_id": "day+1"}),
    ({"run_id": "day~1"}, {"run_id": "day_1"}),
    ({"run_id": "manual__2026-11-23T10:00:00+00:00~"}, {"run_id": "manual__2026-11-23T10:00:00+00:00:"}),
    ({"run_id": "manual__٢٠٢٦-11-23T10:00:00+00:00"}, {"run_id": "manual__٢٠٢٥-11-23T10:00:00+00:00"}),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_ids_that_look_alike_in_a_key_stay_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert named(**one) != named(**other)
    assert named(**one) == named(**one)
    assert named(**one).isascii()


def test_a_replaced_letter_leaves_the_rest_readable() -> None:
    assert named(task_id="größe") == "clips/gr__e-d353a267/r1"


def test_the_places_of_a_task_with_such_a_name_are_its_own() -> None:
    def task(task_id: str) -> TaskResult:
        return TaskResult("clips", "day:1", task_id, -1, "x", "success", 1, None, None)

    name = named(task_id="猫", run_id="day:1")
    result, manifest = PROFILE.uri(f"{name}.mp4"), PROFILE.uri(f"_modelslab/batches/{name}.jsonl")
    assert is_result(task("猫"), PROFILE, result)
    assert is_results_manifest(task("猫"), PROFILE, manifest)
    assert not is_result(task("犬"), PROFILE, result)
    assert not is_results_manifest(task("犬"), PROFILE, manifest)
