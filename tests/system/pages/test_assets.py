"""Asset events of a running Airflow: what they tell, and that Dags start by them, also after a deferral."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.samples import small_mp4
from tests.system.pages.conftest import BUCKET
from tools.stack.process import wait_until
from tools.stack.whole import WholeStack

pytestmark = [pytest.mark.system, pytest.mark.slow]


def put_clip(site: WholeStack, key: str) -> str:
    site.s3.client().put_object(Bucket=BUCKET, Key=key, Body=small_mp4())
    return f"s3://{BUCKET}/{key}"


def run(site: WholeStack, dag_id: str, conf: dict[str, Any]) -> str:
    site.airflow.wait_for_dag(dag_id)
    run_id = site.airflow.trigger(dag_id, conf)
    state = site.airflow.finish(dag_id, run_id)
    assert state == "success", site.airflow.tasks(dag_id, run_id)
    return run_id


def events_of(site: WholeStack, dag_id: str, task_id: str, run_id: str) -> list[dict[str, Any]]:
    """The asset events of a task, oldest first."""
    query = f"source_dag_id={dag_id}&source_task_id={task_id}&source_run_id={quote(run_id)}&limit=100"
    return [{"uri": event["uri"], "extra": event["extra"]} for event in site.airflow.asset_events(query)]


def runs_of(site: WholeStack, dag_id: str) -> list[str]:
    """Oldest first: Airflow puts the time into the ids of runs that it starts itself."""
    return sorted(run["dag_run_id"] for run in site.airflow.call("GET", f"dags/{dag_id}/dagRuns")["dag_runs"])


def next_run(site: WholeStack, dag_id: str, *, after: int) -> str:
    """The run that starts by itself when there have been so many; waits for its end."""
    parts = list(site.airflow.parts.values())
    wait_until(lambda: len(runs_of(site, dag_id)) > after, parts, what=f"a run of {dag_id}", interval=0.5)
    run_id = runs_of(site, dag_id)[after]
    assert site.airflow.finish(dag_id, run_id) == "success"
    return run_id


def test_a_landed_clip_starts_the_dags_that_wait_for_it(site: WholeStack) -> None:
    for dag_id in ("after_the_asset", "after_the_alias"):
        site.airflow.wait_for_dag(dag_id)
    run_id = run(site, "assets_of_a_clip", {"clip": put_clip(site, "clips/a video #1.mp4")})
    manifest = site.airflow.xcom("assets_of_a_clip", run_id, "restyle")
    assert "Waiting in the triggerer" in site.airflow.task_log("assets_of_a_clip", run_id, "restyle")

    declared, landed = events_of(site, "assets_of_a_clip", "restyle", run_id)
    wanted = {name: manifest[name] for name in ("uri", "bytes", "sha256", "seed", "model_id", "job_id", "sidecar_uri")}
    for event in (declared, landed):
        assert event["extra"].items() >= wanted.items()
        assert event["extra"]["reused"] is False
    assert (declared["uri"], landed["uri"]) == ("one_video", manifest["uri"])

    after_asset = next_run(site, "after_the_asset", after=0)
    assert site.airflow.xcom("after_the_asset", after_asset, "see")["one_video"] == [declared["extra"]]
    after_alias = next_run(site, "after_the_alias", after=0)
    assert site.airflow.xcom("after_the_alias", after_alias, "see") == {manifest["uri"]: [landed["extra"]]}

    # A task that is cleared finds its result, and says that it made nothing.
    site.airflow.clear("assets_of_a_clip", run_id, "restyle")
    assert site.airflow.finish("assets_of_a_clip", run_id) == "success"
    next_run(site, "after_the_asset", after=1)
    again = events_of(site, "assets_of_a_clip", "restyle", run_id)[2:]
    assert [event["extra"]["reused"] for event in again] == [True, True]
    assert [event["extra"]["uri"] for event in again] == [manifest["uri"]] * 2


def test_a_batch_is_one_asset_or_one_for_each_clip(site: WholeStack) -> None:
    site.airflow.wait_for_dag("after_the_prefix")
    for number in range(3):
        put_clip(site, f"clips/batch/clip{number}.mp4")
    run_id = run(site, "assets_of_a_batch", {"source": f"s3://{BUCKET}/clips/batch/"})
    summary = site.airflow.xcom("assets_of_a_batch", run_id, "prefix")

    (prefix,) = events_of(site, "assets_of_a_batch", "prefix", run_id)
    assert prefix["uri"] == f"s3://{BUCKET}/landed/assets/prefix"  # Airflow cuts the slash at the end
    assert prefix["extra"].items() >= {name: summary[name] for name in ("found", "landed", "manifest")}.items()
    assert (prefix["extra"]["landed"], prefix["extra"]["seed"], prefix["extra"]["reused"]) == (3, 7, False)
    started = next_run(site, "after_the_prefix", after=0)
    assert site.airflow.xcom("after_the_prefix", started, "see") == {prefix["uri"]: [prefix["extra"]]}

    clips = events_of(site, "assets_of_a_batch", "clips", run_id)
    uris = [f"s3://{BUCKET}/landed/assets/clips/clip{number}.mp4" for number in range(3)]
    assert sorted(event["uri"] for event in clips) == uris
    for event in clips:
        assert (event["extra"]["uri"], event["extra"]["model_id"]) == (event["uri"], "tiny")
        assert event["extra"]["source"].startswith(f"s3://{BUCKET}/clips/batch/clip")
        assert event["extra"]["bytes"] > 0
        assert len(event["extra"]["sha256"]) == 64

    # The next run has one clip more to make, and names no other.
    put_clip(site, "clips/batch/new.mp4")
    run_id = run(site, "assets_of_a_batch", {"source": f"s3://{BUCKET}/clips/batch/"})
    assert [event["uri"] for event in events_of(site, "assets_of_a_batch", "clips", run_id)] == [
        f"s3://{BUCKET}/landed/assets/clips/new.mp4"
    ]
    (prefix,) = events_of(site, "assets_of_a_batch", "prefix", run_id)
    assert (prefix["extra"]["landed"], prefix["extra"]["skipped"]) == (1, 3)
