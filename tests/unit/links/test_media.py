"""What a task stores for its links, and what it never stores."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.sdk import BaseOperator

from airflow_provider_modelslab import get_provider_info
from airflow_provider_modelslab.links import media
from airflow_provider_modelslab.links.media import FACTS_KEY, media_url, push_links, push_manifest_links
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.land import ModelsLabVideo2VideoToS3Operator
from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.sensors.video2video import ModelsLabVideo2VideoSensor
from tests.support.tasks import TaskInstance, context_of

NAMES: dict[str, Any] = {"model_id": "tiny", "prompt": "a woodcut"}


class Ti(TaskInstance):
    """Remembers what was pushed in which order."""

    def __init__(self, **names: Any) -> None:
        super().__init__(**names)
        self.pushed: list[str] = []

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed.append(key)
        super().xcom_push(key, value)


def operator(**kwargs: Any) -> ModelsLabVideo2VideoOperator:
    return ModelsLabVideo2VideoOperator(task_id="restyle", init_video="s3://in/clip.mp4", **NAMES, **kwargs)


def links(task: BaseOperator, ti: Ti) -> dict[str, str]:
    """What Airflow asks for at the end of each stretch of work."""
    found: Any = task.operator_extra_links
    return {link.name: link.get_link(task, ti_key=ti) for link in found}


def test_links_are_stored_before_the_task_waits() -> None:
    ti, task = Ti(), operator()
    facts = {"source": "s3://in/clip.mp4", "result": "s3://out/a.mp4", "manifest": "s3://out/a.mp4.json"}
    push_links(context_of(ti), task, **facts, job_id="17", conn_id="modelslab_default")
    assert ti.xcoms[FACTS_KEY] == {**facts, "job_id": "17", "conn_id": "modelslab_default"}
    stored = {key for key in ti.xcoms if key != FACTS_KEY}
    assert stored == {f"_link_ModelsLab{kind}Link" for kind in ("Job", "Manifest", "Result", "Source")}
    assert links(task, ti) == {
        "Result": media_url(ti, "result"),
        "Source": media_url(ti, "source"),
        "Manifest": media_url(ti, "manifest"),
        "Job at the endpoint": media_url(ti, "job"),
    }


def test_nothing_is_stored_twice() -> None:
    ti, task = Ti(), operator()
    push_links(context_of(ti), task, job_id="17", conn_id="modelslab_default")
    push_links(context_of(ti), task, job_id="17", conn_id="modelslab_default", result=None)
    assert ti.pushed == [FACTS_KEY, "_link_ModelsLabJobLink"]
    push_links(context_of(ti), task, result="s3://out/a.mp4")
    assert ti.pushed[2:] == [FACTS_KEY, "_link_ModelsLabResultLink"]


def test_a_resumed_task_keeps_what_was_told_before() -> None:
    ti = Ti()
    push_links(context_of(ti), operator(), source="s3://in/clip.mp4", job_id="17", conn_id="modelslab_default")
    resumed = operator()
    assert links(resumed, ti)["Source"] == media_url(ti, "source")  # also when it fails before it tells anything
    manifest = {"uri": "s3://out/a.mp4", "sidecar_uri": "s3://out/a.mp4.json", "job_id": "17", "conn_id": "c"}
    push_manifest_links(context_of(ti), resumed, manifest)
    assert ti.xcoms[FACTS_KEY]["source"] == "s3://in/clip.mp4"
    assert ti.xcoms[FACTS_KEY]["result"] == "s3://out/a.mp4"
    assert all(links(resumed, ti).values())


@pytest.mark.parametrize(
    "source",
    [
        "https://host/clip.mp4?X-Amz-Signature=abc",
        "https://user:password@host/clip.mp4",
        "https://host/clip.mp4#token",
        "/data/clip.mp4",
        "clip.mp4",
        "s3://bucket/prefix/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "",
        "  ",
        None,
        7,
    ],
)
def test_what_no_link_may_lead_to(source: object) -> None:
    ti, task = Ti(), operator()
    push_links(context_of(ti), task, source=source)
    assert ti.xcoms == {}
    assert links(task, ti)["Source"] == ""


def test_public_links_lead_straight_there() -> None:
    ti, task = Ti(), operator()
    push_manifest_links(context_of(ti), task, {"job_id": "17", "links": ["https://cdn.example/a.mp4"], "conn_id": "c"})
    assert links(task, ti)["Result"] == "https://cdn.example/a.mp4"


def test_a_job_of_ones_own_machine_is_at_no_endpoint() -> None:
    ti = Ti()
    task = LocalVideo2VideoOperator(task_id="restyle", init_video="s3://in/clip.mp4", **NAMES)
    push_manifest_links(context_of(ti), task, {"uri": "s3://out/a.mp4", "job_id": "local-1", "conn_id": "c"})
    assert "job_id" not in ti.xcoms[FACTS_KEY]
    assert sorted(links(task, ti)) == ["Manifest", "Result", "Source"]


def test_a_task_that_pushes_no_xcoms_has_no_links() -> None:
    ti, task = Ti(), operator(do_xcom_push=False)
    push_links(context_of(ti), task, job_id="17")
    assert ti.xcoms == {}
    assert set(links(task, ti).values()) == {""}


def test_a_failing_xcom_does_not_fail_a_paid_task(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Ti):
        def xcom_push(self, key: str, value: Any) -> None:
            raise ConnectionError("the API server is away")

    push_links(context_of(Broken()), operator(), job_id="17")
    assert "The task's links are not stored: ConnectionError: the API server is away" in caplog.text


def test_the_url_names_the_task_instance_and_survives_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    ti = Ti(dag_id="a&b", task_id="group.täsk", run_id="manual__2026-11-23T04:00:00+00:00", map_index=3)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://host/airflow/")
    parts = urlsplit(media_url(ti, "result"))
    assert (parts.netloc, parts.path) == ("", "/airflow/modelslab/media/")
    assert {name: value for name, [value] in parse_qs(parts.query).items()} == {
        "dag_id": "a&b",
        "run_id": ti.run_id,
        "task_id": "group.täsk",
        "map_index": "3",
        "what": "result",
    }


def test_every_link_is_registered_and_every_operator_has_some() -> None:
    kinds = {name for name in media.__all__ if name.endswith("Link")}
    listed = get_provider_info()["extra-links"]
    assert listed == sorted(f"{media.__name__}.{name}" for name in kinds)
    tasks = (
        ModelsLabVideo2VideoOperator,
        ModelsLabVideo2VideoToS3Operator,
        ModelsLabVideo2VideoBatchOperator,
        ModelsLabVideo2VideoSensor,
        LocalVideo2VideoOperator,
        LocalVideo2VideoBatchOperator,
    )
    used: set[str] = set()
    for task in tasks:
        found: Any = task.operator_extra_links
        assert found
        used |= {type(link).__name__ for link in found}
    assert used == kinds
