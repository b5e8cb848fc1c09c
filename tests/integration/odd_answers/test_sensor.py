"""The sensor, one poke at a time: its XCom goes through Airflow's processes, and its errors are those of the list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk import PokeReturnValue
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.sensors.video2video import ModelsLabVideo2VideoSensor
from tests.integration.odd_answers.conftest import Scripted, checked, many, outcomes
from tests.support.airflow_values import through_xcom
from tests.support.odd_answers import OddAnswer, odd_answers
from tests.support.tasks import context_of

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

SUBMITTED = {"job_id": "7", "submitted_at": "2026-11-23T04:00:00+00:00", "meta": {"seed": 7}, "request": {"seed": 1}}
JOBS = ("7", 7, SUBMITTED)

Poke = Callable[[Any], PokeReturnValue]


@pytest.fixture
def poke(scripted: Scripted) -> Iterator[Poke]:
    """Pokes with a sensor of its own each time, as after a reschedule, and one connection for all."""
    hook = ModelsLabHook()

    def poke(job: Any) -> PokeReturnValue:
        sensor = ModelsLabVideo2VideoSensor(task_id="wait", job=job, deferrable=False)
        sensor.__dict__["hook"] = hook
        return sensor.poke(context_of())

    yield poke
    hook.get_conn().close()


@many
@given(answer=odd_answers(), job=st.sampled_from(JOBS))
def test_a_poke(scripted: Scripted, poke: Poke, answer: OddAnswer, job: Any) -> None:
    scripted.play(answer)
    try:
        poked = poke(job)
    except ModelsLabError as error:
        assert (error.job_id, checked(error) in outcomes("poll")) == ("7", True)  # noqa: PT017 - either end is right
        return
    assert through_xcom(poked.xcom_value) == poked.xcom_value
    if poked.is_done:
        assert poked.xcom_value["job_id"] == "7"
        assert poked.xcom_value["links"]
