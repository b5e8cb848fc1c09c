from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk import DAG, task

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.sensors.video2video import ModelsLabVideo2VideoSensor
from tests.support.connections import set_modelslab
from tests.support.scripted_server import Answer, ScriptedServer
from tests.support.tasks import deferral_of, execute

WAIT = {"status": "processing", "message": "try again later.", "output": ""}


def sensor(**changes: Any) -> ModelsLabVideo2VideoSensor:
    return ModelsLabVideo2VideoSensor(task_id="wait", **{"job": "7", "deferrable": False, **changes})


def test_what_is_templated() -> None:
    assert ModelsLabVideo2VideoSensor.template_fields == ("job", "modelslab_conn_id", "poke_interval", "timeout")
    with DAG("dag", schedule=None):

        @task
        def submit() -> str:
            return "7"

        made = ModelsLabVideo2VideoSensor(task_id="wait", job=submit())
        mapped = ModelsLabVideo2VideoSensor.partial(task_id="waits", mode="reschedule").expand(job=["7", "8"])
    assert made.upstream_task_ids == {"submit"}
    unmapped = mapped.unmap({"job": "8"})
    assert isinstance(unmapped, ModelsLabVideo2VideoSensor)
    assert (unmapped.job, unmapped.mode) == ("8", "reschedule")


@pytest.mark.parametrize(("poke_interval", "expected"), [(15, 15.0), (timedelta(minutes=1), 60.0)])
def test_the_poke_interval_is_the_base_classs(poke_interval: Any, expected: float) -> None:
    assert sensor(poke_interval=poke_interval).poke_interval == expected
    with pytest.raises((ValueError, AirflowException), match="poke_interval"):  # the second on 3.1
        sensor(poke_interval=-1)


@pytest.mark.parametrize(
    ("poke_interval", "shortest", "longest"), [(15, 2.0, 15.0), (60, 2.0, 60.0), (0.5, 0.5, 0.5), (0, 2.0, 2.0)]
)
def test_in_the_triggerer_the_poke_interval_is_the_longest_pause(
    poke_interval: float, shortest: float, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Answer(WAIT)) as server:
        set_modelslab(monkeypatch, server.url)
        deferred = deferral_of(sensor(deferrable=True, poke_interval=poke_interval, timeout=600))
    arguments = deferred.trigger.serialize()[1]
    policy = arguments["poll_policy"]
    assert (policy["min_interval"], policy["max_interval"]) == (shortest, longest)
    # Airflow's own time-out comes after the trigger's deadline, whose event says more.
    assert deferred.timeout == timedelta(seconds=600 + longest + 60)
    assert deferred.method_name == "execute_complete"
    assert server.posts == 1  # it looked once before it gave up the worker


@pytest.mark.parametrize("job", [None, "", {"links": []}, "{'job_id': '7'}"])
@pytest.mark.parametrize("deferrable", [True, False])
def test_what_is_no_job(job: object, deferrable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(Answer(WAIT)) as server:
        set_modelslab(monkeypatch, server.url)
        with pytest.raises(InvalidRequestError, match="job: "):
            execute(sensor(job=job, deferrable=deferrable))
    assert server.posts == 0
