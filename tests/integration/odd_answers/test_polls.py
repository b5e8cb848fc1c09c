"""Polls through the blocking client: any odd answer ends in one of the listed outcomes, and fits into XCom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.client.client import ModelsLabClient
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.storage.result_manifest import Job, finished_manifest
from tests.integration.odd_answers.conftest import Scripted, checked, many, outcomes
from tests.support.airflow_values import through_xcom
from tests.support.odd_answers import OddAnswer, is_written_well, odd_answers

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


@pytest.fixture
def client(scripted: Scripted) -> Iterator[ModelsLabClient]:
    with ModelsLabHook().get_conn() as client:
        yield client


@many
@given(answer=odd_answers())
def test_polls(scripted: Scripted, client: ModelsLabClient, answer: OddAnswer) -> None:
    scripted.play(answer)
    notes: list[Any] = []
    now = time.time()
    try:
        finished = client.wait(
            "7", submitted_at=now, deadline=now + 3600, sleep=lambda seconds: None, on_wait=notes.append
        )
    except ModelsLabError as error:
        assert error.job_id == "7"  # noqa: PT017 - either end is right
        outcome = checked(error)
    else:
        outcome = "finished"
        assert isinstance(finished, Finished)
        manifest = finished_manifest(Job("7", "c", submitted_at=now), finished)
        assert is_written_well(manifest)
        assert through_xcom(manifest) == manifest
    assert outcome in outcomes("poll")
    assert is_written_well([note.note for note in notes])
