"""What tasks tell OpenLineage and Airflow's assets of their work, against a real endpoint and a real S3 server."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors
from openlineage.client.serde import Serde

from airflow_provider_modelslab.api.errors import BatchFailedError, ErrorCode, JobFailedError
from airflow_provider_modelslab.lineage import batch as batch_report
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.land import ModelsLabVideo2VideoToS3Operator
from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from tests.integration.tasks.conftest import FRAMES, Restyle, WatchedEngine
from tests.support.connections import KEY
from tests.support.samples import small_mp4
from tests.support.tasks import TaskInstance, context_of, deferral_of, event_of, execute, in_the_triggerer, resume

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")

DECLARED, ALIAS = Asset("restyled"), AssetAlias("videos")
OUTLETS: dict[str, Any] = {"outlets": [DECLARED, ALIAS]}


class Told:
    """A context with asset events, and what a task has put there."""

    def __init__(self, ti: TaskInstance | None = None) -> None:
        self.events = OutletEventAccessors()
        self.context = context_of(ti)
        self.context["outlet_events"] = self.events

    @property
    def declared(self) -> dict[str, Any]:
        return self.events[DECLARED].extra

    @property
    def assets(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event.dest_asset_key.uri, event.extra) for event in self.events[ALIAS].asset_alias_events]


def lineage(found: OperatorLineage[Any, Any] | None) -> dict[str, Any]:
    """As it is sent."""
    assert found is not None
    sent: dict[str, Any] = json.loads(Serde.to_json(found))
    assert KEY not in json.dumps(sent)
    return sent


def facet(found: OperatorLineage[Any, Any] | None) -> dict[str, Any]:
    run_facet: dict[str, Any] = lineage(found)["run_facets"]["modelslab"]
    return run_facet


def test_a_clip_is_told_after_a_deferral(restyle: Restyle, clip: str, bucket: str, gate: threading.Event) -> None:
    secret = {"webhook": "http://127.0.0.1:9/hook?token=secret", "init_video": f"{clip}?X-Amz-Signature=secret"}
    first = restyle(deferrable=True, **OUTLETS, **secret)
    deferred = deferral_of(first)
    gate.set()
    host = clip.rpartition("/")[0]
    started = lineage(first.get_openlineage_facets_on_start())
    assert [(place["namespace"], place["name"]) for place in started["inputs"]] == [(host, "/in.mp4")]
    assert started.get("outputs", []) == []

    told, resumed = Told(), restyle(deferrable=True, **OUTLETS, **secret)
    manifest = resume(resumed, deferred, event_of(in_the_triggerer(deferred)), told.context)
    key = manifest["uri"].removeprefix(f"s3://{bucket}/")
    done = lineage(resumed.get_openlineage_facets_on_complete(told.context["ti"]))
    assert [(place["namespace"], place["name"]) for place in done["inputs"]] == [(host, "/in.mp4")]
    (output,) = done["outputs"]
    assert (output["namespace"], output["name"]) == (f"s3://{bucket}", key)
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["size"], statistics["fileCount"]) == (manifest["bytes"], 1)
    about = done["run_facets"]["modelslab"]
    assert (about["status"], about["job_id"], about["seed"]) == ("landed", manifest["job_id"], 11)
    assert (about["model_id"], about["conn_id"]) == ("dark-sushi-mix", "modelslab_default")
    assert about["request"].items() >= {"prompt": "a fox", "num_frames": FRAMES, "seed": 11}.items()
    assert about["reused"] is False
    assert about.get("generation_time_s") == manifest["generation_time_s"]
    assert "secret" not in json.dumps([started, done])
    assert "hook" not in json.dumps([started, done])

    names = ("uri", "sidecar_uri", "bytes", "sha256", "seed", "model_id", "job_id")
    wanted = {"status": "landed", "reused": False, **{name: manifest[name] for name in names}}
    assert told.declared.items() >= wanted.items()
    ((uri, extra),) = told.assets
    assert uri == manifest["uri"]
    assert extra.items() >= wanted.items()


def test_a_result_that_was_there_says_so(restyle: Restyle) -> None:
    made = execute(restyle())
    told, again = Told(), restyle(**OUTLETS)
    assert execute(again, told.context) == made
    assert (told.declared["reused"], told.declared["uri"]) == (True, made["uri"])
    assert [extra["reused"] for _, extra in told.assets] == [True]
    assert facet(again.get_openlineage_facets_on_complete(None))["reused"] is True


@pytest.mark.slow
def test_a_job_that_is_submitted_while_resuming_is_told_once(
    restyle: Restyle, engine: WatchedEngine, gate: threading.Event
) -> None:
    deferral_of(restyle(deferrable=True))
    again = deferral_of(restyle(deferrable=True), context_of(TaskInstance(try_number=2, max_tries=1)))
    told = Told(TaskInstance(try_number=2, max_tries=1))
    gate.set()
    event = {"status": "error", "code": ErrorCode.JOB_FAILED.value, "message": "it broke", "job_id": "1"}
    resumed = restyle(**OUTLETS)
    manifest = resume(resumed, again, event, told.context)
    assert len(engine.submitted) == 2
    assert [uri for uri, _ in told.assets] == [manifest["uri"]]
    assert facet(resumed.get_openlineage_facets_on_complete(None))["job_id"] == manifest["job_id"]


def test_a_failure_names_the_job_that_is_paid_for(restyle: Restyle) -> None:
    told, task = Told(), restyle(prompt="crash", **OUTLETS)
    with pytest.raises(JobFailedError):
        execute(task, told.context)
    sent = lineage(task.get_openlineage_facets_on_failure(told.context["ti"]))
    assert sent.get("outputs", []) == []
    assert len(sent["inputs"]) == 1
    assert sent["run_facets"]["modelslab"]["job_id"]
    assert "status" not in sent["run_facets"]["modelslab"]
    assert (told.declared, told.assets) == ({}, [])


def test_what_has_not_landed_is_no_asset(restyle: Restyle, gate: threading.Event) -> None:
    told, task = Told(), restyle(wait_for_completion=False, **OUTLETS)
    manifest = execute(task, told.context)
    assert (told.declared["status"], told.declared["job_id"]) == ("submitted", manifest["job_id"])
    assert told.assets == []
    assert lineage(task.get_openlineage_facets_on_complete(None)).get("outputs", []) == []
    gate.set()


@pytest.mark.slow
def test_landing_tells_of_the_clip_that_another_task_submitted(restyle: Restyle, clip: str, bucket: str) -> None:
    finished = execute(restyle(land_result=False))
    told, task = Told(), ModelsLabVideo2VideoToS3Operator(task_id="land", job=finished, **OUTLETS)
    manifest = execute(task, told.context)
    sent = lineage(task.get_openlineage_facets_on_complete(None))
    assert [place["name"] for place in sent["inputs"]] == ["/in.mp4"]
    assert [place["namespace"] for place in sent["outputs"]] == [f"s3://{bucket}"]
    assert sent["run_facets"]["modelslab"]["request"]["prompt"] == "a fox"
    assert [uri for uri, _ in told.assets] == [manifest["uri"]]
    assert lineage(ModelsLabVideo2VideoToS3Operator(task_id="x", job="").get_openlineage_facets_on_start())


def test_a_clip_made_here_is_told_as_one_made_there(clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "in.mp4"
    file.write_bytes(small_mp4())
    size: dict[str, Any] = {"num_frames": 2, "num_inference_steps": 1, "width": 32, "height": 32}
    told, task = (
        Told(),
        LocalVideo2VideoOperator(
            task_id="restyle", model_id="tiny", prompt="a fox", init_video=str(file), device="cpu", **size, **OUTLETS
        ),
    )
    manifest = execute(task, told.context)
    sent = lineage(task.get_openlineage_facets_on_complete(None))
    assert [(place["namespace"], place["name"]) for place in sent["inputs"]] == [("file", str(file))]
    about = sent["run_facets"]["modelslab"]
    assert (about["status"], about["job_id"]) == ("landed", manifest["job_id"])
    assert about["generation_time_s"] > 0
    assert [uri for uri, _ in told.assets] == [manifest["uri"]]


# -- batches ----------------------------------------------------------------------------------------------------------

Make = Callable[..., ModelsLabVideo2VideoBatchOperator]


@pytest.fixture
def batch(s3: S3Client, bucket: str) -> Make:
    for name in "abc":
        s3.put_object(Bucket=bucket, Key=f"in/{name}.mp4", Body=small_mp4())

    def make(**changes: Any) -> ModelsLabVideo2VideoBatchOperator:
        arguments = {
            "model_id": "dark-sushi-mix",
            "prompt": "a fox",
            "source": f"s3://{bucket}/in/",
            "destination": f"s3://{bucket}/out/",
            "num_frames": str(FRAMES),
            "poll_interval": 0.02,
            "max_poll_interval": 0.1,
            **OUTLETS,
            **changes,
        }
        return ModelsLabVideo2VideoBatchOperator(task_id="restyle", **arguments)

    return make


def test_a_batch_is_told_as_a_prefix(batch: Make, bucket: str) -> None:
    told, task = Told(), batch()
    assert [place["name"] for place in lineage(task.get_openlineage_facets_on_start())["inputs"]] == ["in/"]
    summary = execute(task, told.context)
    sent = lineage(task.get_openlineage_facets_on_complete(None))
    assert [(place["namespace"], place["name"]) for place in sent["inputs"]] == [(f"s3://{bucket}", "in/")]
    (output,) = sent["outputs"]
    assert (output["namespace"], output["name"]) == (f"s3://{bucket}", "out/")
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["size"], statistics["fileCount"]) == (summary["bytes"], 3)
    about = sent["run_facets"]["modelslab"]
    assert about["counts"] == {name: summary[name] for name in ("found", "landed", "skipped", "failed", "pending")}
    assert (about["manifest"], about["request"]["num_frames"]) == (summary["manifest"], FRAMES)
    wanted = {"uri": f"s3://{bucket}/out/", "landed": 3, "reused": False, "manifest": summary["manifest"]}
    assert told.declared.items() >= wanted.items()
    ((uri, extra),) = told.assets
    assert uri == f"s3://{bucket}/out"
    assert extra == told.declared

    told = Told(TaskInstance(run_id="the next day"))
    execute(batch(), told.context)
    assert (told.declared["reused"], told.declared["skipped"]) == (True, 3)


@pytest.mark.slow
def test_each_clip_of_a_batch_is_told_by_the_run_that_landed_it(batch: Make, bucket: str) -> None:
    bad = {"init_video": f"s3://{bucket}/in/c.mp4", "prompt": "crash"}
    source = [f"s3://{bucket}/in/a.mp4", f"s3://{bucket}/in/b.mp4", bad]
    today = SimpleNamespace(conf={}, start_date=datetime.now(UTC))
    first = Told(TaskInstance(dag_run=today))
    task = batch(source=source, asset_per_clip=True)
    with pytest.raises(BatchFailedError):
        execute(task, first.context)
    sent = lineage(task.get_openlineage_facets_on_failure(None))
    assert [place["name"] for place in sent["inputs"]] == ["in/a.mp4", "in/b.mp4", "in/c.mp4"]
    assert sent["outputs"][0]["outputFacets"]["outputStatistics"]["fileCount"] == 2
    assert sent["run_facets"]["modelslab"]["counts"] == {
        "found": 3,
        "landed": 2,
        "skipped": 0,
        "failed": 1,
        "pending": 0,
    }
    assert first.assets == []

    # The next try makes nothing. Nobody has been told of them yet, so it does.
    second = Told(TaskInstance(dag_run=today, try_number=2, max_tries=1))
    summary = execute(batch(source=source, asset_per_clip=True, max_failed=1), second.context)
    assert (summary["landed"], summary["skipped"]) == (2, 0)
    assert [uri for uri, _ in second.assets] == [f"s3://{bucket}/out/in/a.mp4", f"s3://{bucket}/out/in/b.mp4"]
    about = second.assets[0][1]
    assert about["source"] == f"s3://{bucket}/in/a.mp4"
    assert (about["model_id"], len(about["sha256"]), about["manifest"]) == ("dark-sushi-mix", 64, summary["manifest"])

    tomorrow = SimpleNamespace(conf={}, start_date=datetime.now(UTC))
    third = Told(TaskInstance(dag_run=tomorrow, run_id="tomorrow"))
    execute(batch(source=source, asset_per_clip=True, max_failed=1), third.context)
    assert third.assets == []


def test_more_clips_than_become_assets(
    batch: Make, bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batch_report, "MAX_ASSETS", 2)
    monkeypatch.setattr(batch_report, "MAX_INPUTS", 2)
    told, task = Told(), batch(source=[f"s3://{bucket}/in/{name}.mp4" for name in "abc"], asset_per_clip=True)
    execute(task, told.context)
    assert [uri for uri, _ in told.assets] == [f"s3://{bucket}/out"]
    assert any(record.args == (3, 2) for record in caplog.records)
    sent = lineage(task.get_openlineage_facets_on_complete(None))
    assert len(sent["inputs"]) == 2
    assert sent["run_facets"]["modelslab"]["inputs_left_out"] == 1


def test_a_batch_is_told_after_deferrals(batch: Make, gate: threading.Event) -> None:
    told = Told()
    deferred = deferral_of(batch(deferrable=True, defer_after=0.05, max_in_flight=3), told.context)
    gate.set()
    resumed = batch(deferrable=True, defer_after=5, max_in_flight=3)
    summary = resume(resumed, deferred, event_of(in_the_triggerer(deferred)), told.context)
    assert summary["landed"] == 3
    assert facet(resumed.get_openlineage_facets_on_complete(None))["counts"]["landed"] == 3
    assert told.declared["landed"] == 3


def test_without_openlineage_nothing_is_asked_for(restyle: Restyle, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith(("airflow.providers.openlineage", "airflow_provider_modelslab.lineage.openlineage")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", None)
    assert restyle().get_openlineage_facets_on_start() is None


@pytest.mark.slow
def test_news_that_cannot_be_told_fails_no_task(
    batch: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(task: object, context: object) -> Any:
        raise OSError("the index cannot be read")

    monkeypatch.setattr(ModelsLabVideo2VideoBatchOperator, "_landed", refuse)
    assert execute(batch(), Told().context)["landed"] == 3
    assert "OSError: the index cannot be read" in caplog.text
