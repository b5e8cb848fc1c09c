"""Submit in one task, wait in the next, land in a third."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

from airflow_provider_modelslab.api.errors import (
    JobFailedError,
    JobLostError,
    JobNotFinishedError,
    LandingError,
    StorageConfigurationError,
)
from airflow_provider_modelslab.operators.land import ModelsLabVideo2VideoToS3Operator
from airflow_provider_modelslab.sensors.video2video import ModelsLabVideo2VideoSensor
from tests.integration.tasks.conftest import FRAMES, Restyle, Store, WatchedEngine
from tests.support.airflow_versions import AirflowRescheduleException
from tests.support.connections import set_modelslab
from tests.support.endpoint import Caller
from tests.support.scripted_server import Answer, ScriptedServer
from tests.support.tasks import (
    TaskInstance,
    context_of,
    deferral_of,
    event_of,
    execute,
    in_the_triggerer,
    resume,
    run,
    through_serde,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferrable": {"deferrable": True},
}
EACH_MODE = pytest.mark.parametrize("mode", MODES)
WAIT = {"status": "processing", "message": "try again later.", "output": ""}
FAILED = {"status": "failed", "id": "", "message": "the job ran into an error", "output": ""}
UNKNOWN = {"status": "failed", "id": "", "message": "Request not found", "output": ""}


def sensor(job: Any, mode: str, **changes: Any) -> ModelsLabVideo2VideoSensor:
    arguments = {"poke_interval": 0.02, "timeout": 600, "deferrable": False, **MODES[mode], **changes}
    return ModelsLabVideo2VideoSensor(task_id="wait", job=job, **arguments)


def land(job: Any, **changes: Any) -> dict[str, Any]:
    task = ModelsLabVideo2VideoToS3Operator(task_id="land", job=job, **changes)
    manifest: dict[str, Any] = execute(task, context_of(TaskInstance(task_id="land")))
    return manifest


def wait_for(job: Any, mode: str, gate: threading.Event | None = None, **changes: Any) -> Any:
    """A sensor from its first look to its end; the gate opens once it has seen that the job is not done."""

    def make() -> ModelsLabVideo2VideoSensor:
        return sensor(job, mode, **changes)

    def looked(context: Context) -> Any:
        found = poke(context)
        if gate is not None:
            gate.set()
        return found

    if mode == "deferrable":
        deferred = deferral_of(make())
        if gate is not None:
            gate.set()
        return resume(make(), deferred, event_of(in_the_triggerer(deferred)))
    if mode == "reschedule":
        ti = TaskInstance()
        with pytest.raises(AirflowRescheduleException) as again:
            execute(make(), context_of(ti))
        ti.first_reschedule = again.value.reschedule_date
        if gate is not None:
            gate.set()
        while True:
            try:
                return execute(make(), context_of(ti))
            except AirflowRescheduleException:
                continue
    poking = make()
    poke, poking.poke = poking.poke, looked  # type: ignore[method-assign]
    return execute(poking)


@pytest.mark.slow
@EACH_MODE
@pytest.mark.usefixtures("connections")
def test_submit_then_wait_then_land(
    restyle: Restyle, store: Store, engine: WatchedEngine, gate: threading.Event, bucket: str, mode: str
) -> None:
    submitted = through_serde(execute(restyle(wait_for_completion=False, output_type="gif")))
    assert (submitted["status"], submitted["job_id"]) == ("submitted", "1")
    assert submitted["eta_s"] > 0
    assert engine.finished == []

    waited = through_serde(wait_for(submitted, mode, gate))
    assert (waited["status"], waited["job_id"], waited["seed"]) == ("finished", "1", 11)
    assert waited["request"]["prompt"] == "a fox"
    assert waited["links"][0].endswith(".gif")

    landed = land(waited, destination="drawn/")
    assert landed["uri"] == f"s3://{bucket}/styled/drawn/restyling/land/manual__2026-11-23T04_00_00_00_00.gif"
    assert store.frames(landed["uri"]) == FRAMES
    assert (landed["seed"], landed["model_id"]) == (11, "dark-sushi-mix")
    assert len(engine.submitted) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("connections")
def test_a_job_id_is_enough(restyle: Restyle, store: Store, engine: WatchedEngine) -> None:
    job_id = execute(restyle(land_result=False))["job_id"]
    for name, job in (("text", job_id), ("number", int(job_id))):
        waited = execute(sensor(job, "poke"))
        assert waited["links"]
        landed = land(job, destination=f"{name}.mp4")
        assert store.frames(landed["uri"]) == FRAMES
    assert len(engine.submitted) == 1


@pytest.mark.usefixtures("connections")
def test_what_landed_may_be_landed_again_elsewhere(restyle: Restyle, store: Store) -> None:
    first = execute(restyle())
    second = land(first, destination="again.mp4")
    assert second["uri"] != first["uri"]
    assert second["sha256"] == first["sha256"]


@pytest.mark.usefixtures("connections", "gate")
def test_a_job_that_is_not_done_cannot_be_landed(restyle: Restyle) -> None:
    submitted = execute(restyle(wait_for_completion=False))
    with pytest.raises(JobNotFinishedError, match=r"not done yet.*wait for it with ModelsLabVideo2VideoSensor"):
        land(submitted)


@pytest.mark.usefixtures("connections", "gate")
@pytest.mark.parametrize("webhook", [None, "https://hooks.example.com/done"])
def test_a_job_that_nobody_waits_for_says_what_has_to_land_it(
    restyle: Restyle, webhook: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = execute(restyle(wait_for_completion=False, webhook=webhook))["job_id"]
    warnings = [line for line in capsys.readouterr().out.splitlines() if "[warning" in line]
    assert [f"airflow modelslab land {job_id}" in line for line in warnings] == ([] if webhook else [True])


def test_a_result_lands_under_no_name_of_another_kind(restyle: Restyle, connections: None) -> None:
    submitted = execute(restyle(destination="one.mp4"))
    with pytest.raises(StorageConfigurationError):
        land({**submitted, "links": [], "request": {"output_type": "mp4"}}, destination="again.gif")
    with pytest.raises(LandingError):  # of a job that is only known by its id, the content tells
        land(submitted["job_id"], destination="again.gif")


@pytest.mark.slow
@pytest.mark.usefixtures("s3_connection")
def test_the_manifests_connection_goes_before_the_tasks(
    restyle: Restyle,
    endpoint: Caller,
    gate: threading.Event,
    s3_extra: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Only the key that submitted a job can fetch it.
    set_modelslab(monkeypatch, endpoint.url, conn_id="other", **s3_extra)
    submitted = execute(restyle(wait_for_completion=False, modelslab_conn_id="other"))
    gate.set()
    waited = run(lambda: sensor(submitted, "deferrable"))
    assert land(waited)["conn_id"] == "other"


@EACH_MODE
@pytest.mark.usefixtures("connections", "gate")
def test_a_wait_that_lasts_too_long(restyle: Restyle, mode: str) -> None:
    submitted = execute(restyle(wait_for_completion=False))
    with pytest.raises(AirflowSensorTimeout):
        wait_for(submitted, mode, timeout=0.1)
    with pytest.raises(AirflowSkipException):
        wait_for(submitted, mode, timeout=0.1, soft_fail=True)


@EACH_MODE
@pytest.mark.parametrize("looks_before", [0, 1])
def test_a_job_that_fails(mode: str, looks_before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(**changes: Any) -> Any:
        with ScriptedServer(*[Answer(WAIT)] * looks_before, Answer(FAILED)) as server:
            set_modelslab(monkeypatch, server.url)
            return wait_for("7", mode, **changes) if looks_before else execute(sensor("7", mode, **changes))

    with pytest.raises(JobFailedError, match="the job ran into an error") as caught:
        wait()
    assert caught.value.job_id == "7"
    with pytest.raises(AirflowSkipException, match="never_fail"):
        wait(never_fail=True)


@EACH_MODE
def test_a_job_that_the_endpoint_does_not_know(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
    with ScriptedServer(Answer(UNKNOWN)) as server:
        set_modelslab(monkeypatch, server.url)
        with pytest.raises(JobLostError, match="Request not found"):
            execute(sensor({"job_id": "7", "submitted_at": old}, mode))
    assert server.posts == 1


def test_a_sensor_that_was_rescheduled_counts_from_its_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    ti = TaskInstance()
    with ScriptedServer(Answer(UNKNOWN)) as server:
        set_modelslab(monkeypatch, server.url)
        with pytest.raises(AirflowRescheduleException):
            execute(sensor("7", "reschedule", timeout=600), context_of(ti))
        ti.first_reschedule = datetime.now(UTC) - timedelta(minutes=2)
        with pytest.raises(JobLostError):
            execute(sensor("7", "reschedule", timeout=600), context_of(ti))


def test_an_unknown_job_is_a_warning_before_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its id alone it is not known when it was submitted, so it may not be there yet."""
    ti = TaskInstance()
    with ScriptedServer(Answer(UNKNOWN)) as server:
        set_modelslab(monkeypatch, server.url)
        with pytest.raises(AirflowRescheduleException):
            execute(sensor("7", "reschedule"), context_of(ti))
        assert [line for line in capsys.readouterr().out.splitlines() if "[warning" in line and "job_lost" in line]
        ti.first_reschedule = datetime.now(UTC) - timedelta(minutes=2)
        with pytest.raises(JobLostError):
            execute(sensor("7", "reschedule"), context_of(ti))


@pytest.mark.usefixtures("connections")
def test_the_generation_time_is_known_after_a_wait(restyle: Restyle, store: Store) -> None:
    """The response to the submit did not have it; the one to the last poll does."""
    waited = execute(restyle())
    later = run(lambda: sensor(execute(restyle(wait_for_completion=False, destination="b.mp4")), "deferrable"))
    for manifest in (waited, later, json.loads(store.read(waited["sidecar_uri"]))):
        assert isinstance(manifest["generation_time_s"], float)


@EACH_MODE
def test_looks_that_fail_do_not_end_the_wait(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = {"status": "success", "id": 7, "output": ["https://example.com/out.mp4"]}
    limited = {"status": "error", "message": "Rate limit exceeded", "retry_after": 0}
    troubles = [Answer(limited), Answer("<html>", status=502), Answer(limited, status=429)]
    with ScriptedServer(*troubles, Answer(done)) as server:
        set_modelslab(monkeypatch, server.url)
        assert wait_for("7", mode)["links"] == done["output"]
    assert server.posts == 4
