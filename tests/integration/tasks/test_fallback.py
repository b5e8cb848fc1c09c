"""Other places for a clip that came to nothing at the first: two real endpoints, this machine, and a real S3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_modelslab.api.errors import (
    ChangedRequestError,
    ClipUnreadableError,
    InvalidRequestError,
    JobFailedError,
    PaymentRequiredError,
)
from airflow_provider_modelslab.operators import fallback as fallback_module
from tests.integration.tasks.conftest import CREDITS, SPARE, Breakable, Restyle, Store, WatchedEngine
from tests.support.connections import KEY, set_modelslab
from tests.support.samples import small_mp4
from tests.support.scripted_server import Answer, HangUp, ScriptedServer
from tests.support.tasks import TaskInstance, context_of, deferral_of, event_of, execute, in_the_triggerer, resume, run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "spare")

BOTH = pytest.mark.parametrize("deferrable", [True, False])


@pytest.fixture
def engine() -> Breakable:
    return Breakable()


def next_run(name: str = "2") -> Any:
    return context_of(TaskInstance(run_id=name))


@BOTH
def test_a_failed_job_is_made_at_the_next_place(
    restyle: Restyle, engine: Breakable, spare: WatchedEngine, store: Store, deferrable: bool
) -> None:
    def make(**changes: Any) -> Any:
        return restyle(destination="out.mp4", deferrable=deferrable, fallback=[SPARE], **changes)

    ti = TaskInstance()
    deferred_twice = context_of(ti)
    if deferrable:
        first = deferral_of(make(), deferred_twice)
        second = None
        try:
            resume(make(), first, event_of(in_the_triggerer(first)), deferred_twice)
        except BaseException as again:  # noqa: BLE001 - Airflow's TaskDeferred is no Exception
            second = again
        assert second is not None
        trigger = in_the_triggerer(second)  # type: ignore[arg-type]
        assert trigger.serialize()[1]["modelslab_conn_id"] == "spare"
        manifest = resume(make(), second, event_of(trigger), deferred_twice)  # type: ignore[arg-type]
    else:
        manifest = execute(make(), deferred_twice)
    assert (len(engine.submitted), len(spare.submitted)) == (1, 1)
    made_by = {"modelslab_conn_id": "spare", "model_id": "dark-sushi-mix", "run_on": "endpoint"}
    assert manifest["made_by"] == made_by
    [failure] = manifest["fallback_from"]
    failed = {**made_by, "modelslab_conn_id": "modelslab_default", "code": "job_failed", "job_id": "1"}
    assert failure == {**failed, "message": failure["message"]}
    assert manifest["conn_id"] == "modelslab_default"  # it leads to the result in S3
    sidecar = json.loads(store.read(manifest["sidecar_uri"]))
    assert (sidecar["made_by"], sidecar["fallback_from"]) == (made_by, manifest["fallback_from"])
    assert KEY not in json.dumps([sidecar, manifest, ti.xcoms])

    # Whoever asks again finds it: the same run, another one, and one without the other place.
    assert execute(make(), context_of(TaskInstance(try_number=2)))["sha256"] == manifest["sha256"]
    assert execute(make(reuse="always"), next_run())["job_id"] == manifest["job_id"]
    plain = restyle(destination="out.mp4", reuse="always")
    assert execute(plain, next_run("3"))["job_id"] == manifest["job_id"]
    assert (len(engine.submitted), len(spare.submitted)) == (1, 1)


def test_a_model_that_is_not_there(restyle: Restyle, engine: Breakable, spare: WatchedEngine, store: Store) -> None:
    engine.broken = False
    manifest = execute(restyle(model_id="unknown", fallback=[{"model_id": "another"}, SPARE]))
    assert [request.model_id for request in engine.submitted] == ["another"]  # the first is refused by the check
    assert spare.submitted == []
    assert manifest["model_id"] == manifest["made_by"]["model_id"] == "another"
    [failure] = manifest["fallback_from"]
    assert (failure["model_id"], failure["code"], failure["job_id"]) == ("unknown", "validation", None)
    assert json.loads(store.read(manifest["sidecar_uri"]))["request"]["model_id"] == "another"


def test_an_account_without_credits(
    restyle: Restyle, s3_extra: dict[str, Any], spare: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Answer(CREDITS, status=402)) as server:
        set_modelslab(monkeypatch, server.url, **s3_extra)
        manifest = execute(restyle(fallback=[SPARE]))
        assert server.posts == 1
    assert len(spare.submitted) == 1
    assert [failure["code"] for failure in manifest["fallback_from"]] == ["payment"]


def test_an_unknown_outcome_is_followed_by_no_other_place(
    restyle: Restyle, s3_extra: dict[str, Any], spare: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(HangUp()) as server:
        set_modelslab(monkeypatch, server.url, **s3_extra)
        for number in (1, 2):
            with pytest.raises(AirflowFailException, match="submission1"):
                execute(restyle(fallback=[SPARE]), context_of(TaskInstance(try_number=number)))
        assert server.posts == 1
    assert spare.submitted == []


def test_a_clip_that_cannot_be_read_is_tried_nowhere_else(
    restyle: Restyle, s3_extra: dict[str, Any], spare: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {"status": "failed", "id": 7, "message": "init_video: the clip cannot be decoded", "output": ""}
    with ScriptedServer(Answer(failed)) as server:
        set_modelslab(monkeypatch, server.url, **s3_extra)
        with pytest.raises(ClipUnreadableError):
            execute(restyle(fallback=[SPARE]))
        assert server.posts == 1
    assert spare.submitted == []


def test_when_all_places_came_to_nothing_a_retry_begins_with_the_first(
    restyle: Restyle, engine: Breakable, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Answer(CREDITS, status=402)) as server:
        set_modelslab(monkeypatch, server.url, conn_id="spare")
        with pytest.raises(PaymentRequiredError):
            execute(restyle(fallback=[SPARE]))
        assert (len(engine.submitted), server.posts) == (1, 1)
    engine.broken = False
    manifest = execute(restyle(fallback=[SPARE]), context_of(TaskInstance(try_number=2)))
    assert (manifest["made_by"]["modelslab_conn_id"], manifest["fallback_from"]) == ("modelslab_default", [])
    assert len(engine.submitted) == 2


def test_a_task_without_the_other_place_leaves_its_job_alone(
    restyle: Restyle, engine: Breakable, spare: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = restyle(destination="out.mp4", deferrable=True, fallback=[SPARE])
    first = deferral_of(made)
    with pytest.raises(BaseException) as second:  # noqa: PT011 - Airflow's TaskDeferred
        resume(
            restyle(destination="out.mp4", deferrable=True, fallback=[SPARE]), first, event_of(in_the_triggerer(first))
        )
    assert second.value is not None
    with pytest.raises(ChangedRequestError):
        execute(restyle(destination="out.mp4"), next_run())
    assert (len(engine.submitted), len(spare.submitted)) == (1, 1)


@pytest.mark.usefixtures("model_cache")
def test_the_last_place_may_be_this_worker(
    restyle: Restyle, engine: Breakable, store: Store, s3: S3Client, bucket: str
) -> None:
    small: dict[str, Any] = {"num_frames": 2, "num_inference_steps": 1, "width": 32, "height": 32}

    clip = f"s3://{bucket}/in.mp4"
    s3.put_object(Bucket=bucket, Key="in.mp4", Body=small_mp4())

    def make() -> Any:
        return restyle(init_video=clip, fallback=[{"run_on": "local", "model_id": "tiny"}], **small)

    manifest = run(make)
    assert manifest["made_by"] == {"modelslab_conn_id": "modelslab_default", "model_id": "tiny", "run_on": "local"}
    assert [failure["code"] for failure in manifest["fallback_from"]] == ["job_failed"]
    assert store.frames(manifest["uri"]) == 2
    again = run(make, context_of(TaskInstance(try_number=2)))
    assert (again["job_id"], len(engine.submitted)) == (manifest["job_id"], 1)


@pytest.mark.parametrize(
    ("places", "field"),
    [
        ([], "fallback"),
        ({"modelslab_conn_id": "spare"}, "fallback"),
        (["spare"], "fallback[0]"),
        ([{}], "fallback[0]"),
        ([{"conn_id": "spare"}], "fallback[0]"),
        ([{"run_on": "moon"}], "fallback[0].run_on"),
        ([{"model_id": 3}], "fallback[0].model_id"),
        ([{"run_on": "local"}, SPARE], "fallback[0].run_on"),
        ([{"modelslab_conn_id": "modelslab_default"}], "fallback[0]"),
        ([SPARE, {**SPARE, "run_on": "endpoint"}], "fallback[1]"),
        ([{"modelslab_conn_id": "nowhere"}], "fallback[0].modelslab_conn_id"),
        ([{"run_on": "local"}], "model_id"),  # this machine has no such model
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_paid(
    restyle: Restyle, engine: Breakable, spare: WatchedEngine, places: Any, field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        execute(restyle(fallback=places))
    assert list(caught.value.fields) == [field]
    assert (engine.submitted, spare.submitted) == ([], [])


def test_a_worker_without_torch_is_no_place(
    restyle: Restyle, engine: Breakable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback_module, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(InvalidRequestError) as caught:
        execute(restyle(fallback=[{"run_on": "local", "model_id": "tiny"}]))
    assert list(caught.value.fields) == ["fallback[0].run_on"]
    assert engine.submitted == []


def test_only_a_task_that_waits_falls_back(restyle: Restyle) -> None:
    with pytest.raises(ValueError, match="wait_for_completion"):
        restyle(fallback=[SPARE], wait_for_completion=False)


def test_both_places_failed(restyle: Restyle, engine: Breakable, spare: WatchedEngine) -> None:
    with pytest.raises(JobFailedError):
        execute(restyle(fallback=[{"model_id": "another"}]))
    assert [request.model_id for request in engine.submitted] == ["dark-sushi-mix", "another"]
    assert spare.submitted == []
