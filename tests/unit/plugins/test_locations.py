"""Which places in S3 are a task's own."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_modelslab.plugins.authorization.dag_arguments import UNKNOWN, DagArguments
from airflow_provider_modelslab.plugins.authorization.locations import is_result, is_results_manifest, manifest_folder
from airflow_provider_modelslab.plugins.task_results import TaskResult
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri

NAME = "films/restyle/manual_1"
PROFILE = S3Profile("clips", "styled")
NOWHERE = S3Profile()


def task(destination: str | None, *, map_index: int = -1, declared: bool = False) -> TaskResult:
    """A task instance; ``declared``: Airflow has forgotten how it was rendered."""
    given = {"destination": destination}
    known: dict[str, Any] = {"declared": DagArguments(given)} if declared else {"fields": given}
    return TaskResult("films", "manual_1", "restyle", map_index, "x", "success", 1, None, None, **known)


RESULTS = [
    (PROFILE, None, f"s3://clips/styled/{NAME}.mp4"),
    (PROFILE, None, f"s3://clips/styled/{NAME}.gif"),
    (PROFILE, "day/", f"s3://clips/styled/day/{NAME}.mp4"),
    (PROFILE, "day.mp4", "s3://clips/styled/day.mp4"),
    (PROFILE, "s3://films", f"s3://films/{NAME}.mp4"),
    (NOWHERE, "s3://films/a/", f"s3://films/a/{NAME}.mp4"),
    (NOWHERE, "s3://films/a.mp4", "s3://films/a.mp4"),
]


@pytest.mark.parametrize(("profile", "destination", "own"), RESULTS)
@pytest.mark.parametrize("declared", [False, True])
def test_a_result(profile: S3Profile, destination: str | None, own: str, declared: bool) -> None:
    asked = task(destination, declared=declared)
    assert is_result(asked, profile, S3Uri.parse(own))
    for other in (
        own.replace("s3://", "s3://x", 1),
        own.replace("manual_1", "manual_2").replace("day.mp4", "b.mp4").replace("a.mp4", "b.mp4"),
        own + ".json",
        own.replace(".", "/."),
    ):
        assert not is_result(asked, profile, S3Uri.parse(other)), other


def test_a_result_of_a_mapped_task() -> None:
    mapped = task(None, map_index=3)
    assert is_result(mapped, PROFILE, S3Uri("clips", f"styled/{NAME}/3.mp4"))
    assert not is_result(mapped, PROFILE, S3Uri("clips", f"styled/{NAME}/2.mp4"))


def test_nothing_is_own_where_neither_task_nor_connection_names_a_bucket() -> None:
    place = S3Uri("clips", f"{NAME}.mp4")
    assert not is_result(task(None), NOWHERE, place)
    assert not is_result(task("day/"), NOWHERE, place)
    assert not is_result(task(UNKNOWN), NOWHERE, place)
    assert manifest_folder(task(None), NOWHERE) is None


@pytest.mark.parametrize(
    ("destination", "own", "others"),
    [
        ("s3://films/{{ ds }}/", ["s3://films/2026-11-23/a.mp4"], ["s3://films-of-others/a.mp4", "s3://clips/styled/a.mp4"]),
        ("s3://films/a/{% if x %}y{% endif %}", ["s3://films/a/y.mp4"], ["s3://films/b/y.mp4"]),
        # The bucket itself comes from the template, or may: then only the connection's own place is believed.
        ("s3://films{{ n }}/a/", ["s3://clips/styled/a.mp4"], ["s3://films1/a/a.mp4", "s3://films-of-others/a.mp4"]),
        ("{{ params.to }}", ["s3://clips/styled/a.mp4"], ["s3://clips/a.mp4", "s3://clips/styled-by-others/a.mp4"]),
        (UNKNOWN, ["s3://clips/styled/a.mp4"], ["s3://films/a.mp4"]),
    ],
)  # fmt: skip
def test_a_template_bounds_the_place(destination: str, own: list[str], others: list[str]) -> None:
    asked = task(destination, declared=True)
    assert all(is_result(asked, PROFILE, S3Uri.parse(place)) for place in own)
    assert not any(is_result(asked, PROFILE, S3Uri.parse(place)) for place in others)


@pytest.mark.parametrize(
    ("destination", "folder"),
    [
        (None, "s3://clips/styled/_modelslab/batches"),
        ("day/", "s3://clips/styled/day/_modelslab/batches"),
        ("s3://films/a/", "s3://films/a/_modelslab/batches"),
        ("s3://films", "s3://films/_modelslab/batches"),
    ],
)
def test_a_results_manifest(destination: str | None, folder: str) -> None:
    asked = task(destination)
    assert str(manifest_folder(asked, PROFILE)) == folder
    assert is_results_manifest(asked, PROFILE, S3Uri.parse(f"{folder}/{NAME}.jsonl"))
    for other in (f"{folder}/{NAME}2.jsonl", f"{folder}/x/{NAME}.jsonl", f"s3://x{folder[5:]}/{NAME}.jsonl"):
        assert not is_results_manifest(asked, PROFILE, S3Uri.parse(other)), other


def test_a_results_manifest_of_a_forgotten_template() -> None:
    asked = task("s3://films/{{ ds }}/", declared=True)
    assert manifest_folder(asked, PROFILE) is None
    assert is_results_manifest(asked, PROFILE, S3Uri("films", f"2026-11-23/_modelslab/batches/{NAME}.jsonl"))
    assert not is_results_manifest(asked, PROFILE, S3Uri("films", "2026-11-23/_modelslab/batches/films/other/1.jsonl"))
