"""The trigger: whatever a poll is answered, its event goes through Airflow's processes and ends the task as listed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from airflow.triggers.base import TriggerEvent
from hypothesis import given

from airflow_provider_modelslab.api.errors import error_from_event
from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger
from tests.integration.odd_answers.conftest import Scripted, Triggerer, checked, many, outcomes
from tests.support.airflow_values import through_trigger_event
from tests.support.odd_answers import OddAnswer, is_written_well, odd_answers

pytestmark = [
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
    pytest.mark.usefixtures("no_pauses"),
]

Run = Callable[[], TriggerEvent]


@pytest.fixture
def run(scripted: Scripted, triggerer: Triggerer) -> Run:
    """Runs a trigger."""

    async def one(trigger: ModelsLabVideo2VideoTrigger) -> list[TriggerEvent]:
        return [event async for event in trigger.run()]

    def run() -> TriggerEvent:
        now = time.time()
        trigger = ModelsLabVideo2VideoTrigger(
            "7", submitted_at=now - 3600, deadline=now + 3600, poll_policy={"min_interval": 0.0005}
        )
        (event,) = triggerer.run(one(trigger))
        return event

    return run


@many
@given(answer=odd_answers())
def test_the_event(scripted: Scripted, run: Run, answer: OddAnswer) -> None:
    scripted.play(answer)
    event = run()
    payload = through_trigger_event(event)
    assert payload == event.payload
    assert is_written_well(payload)
    assert payload["job_id"] == "7"
    outcome = "finished" if payload["status"] == "success" else checked(error_from_event(payload))
    assert outcome in outcomes("poll")
