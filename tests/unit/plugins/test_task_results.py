from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_modelslab.plugins.task_results import kind_of, shown_fields, xcom_value

MANIFEST = {"schema_version": 1, "status": "landed", "job_id": "1", "uri": "s3://bucket/a.mp4"}
SUMMARY = {"schema_version": 1, "found": 2, "landed": 2, "manifest": "s3://bucket/_modelslab/batches/a.jsonl"}


@pytest.mark.parametrize(
    ("operator", "returned", "kind"),
    [
        ("ModelsLabVideo2VideoOperator", None, "single"),
        ("ModelsLabVideo2VideoOperator", MANIFEST, "single"),
        ("LocalVideo2VideoBatchOperator", None, "batch"),
        ("@task.modelslab_video2video_batch", None, "batch"),
        ("@task.modelslab_local_video2video", None, "single"),
        ("OurOwnSubclass", MANIFEST, "single"),
        ("OurOwnSubclass", SUMMARY, "batch"),
        ("BashOperator", "landed", "other"),
        ("BashOperator", {"status": "landed", "job_id": 1}, "other"),
        ("EmptyOperator", None, "other"),
    ],
)
def test_what_a_task_made(operator: str, returned: Any, kind: str) -> None:
    assert kind_of(operator, returned) == kind


def test_fields_that_say_something() -> None:
    cut = "Truncated. You can change this behaviour in [core]max_templated_field_length. 'a very long prompt'..."
    assert shown_fields({"prompt": "a boat", "seed": 0, "fps": None, "webhook": "", "negative_prompt": cut}) == {
        "prompt": "a boat",
        "seed": 0,
    }
    assert shown_fields(None) == {}


@pytest.mark.parametrize("stored", [MANIFEST, json.dumps(MANIFEST)])
def test_xcoms_as_both_ways_of_storing_have_them(stored: Any) -> None:
    assert xcom_value(stored) == MANIFEST


def test_a_text_stays_a_text() -> None:
    assert xcom_value("no JSON") == "no JSON"
