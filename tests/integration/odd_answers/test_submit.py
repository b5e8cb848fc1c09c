"""A submit through the blocking client: any odd answer ends in one of the listed outcomes, and fits into XCom."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.client.config import SubmitPolicy
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.storage.result_manifest import Job, finished_manifest, submitted_manifest
from tests.integration.odd_answers.conftest import Scripted, checked, many, outcomes
from tests.support.airflow_values import through_xcom
from tests.support.odd_answers import OddAnswer, is_written_well, odd_answers
from tests.support.odd_values import MARK

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

REQUEST = Video2VideoRequest(
    model_id="dark-sushi-mix", prompt="a fox", init_video="https://h.example/in.mp4", track_id="dag-1"
)


@pytest.fixture
def hook(scripted: Scripted) -> Iterator[ModelsLabHook]:
    """Each submit is sent once."""
    hook = ModelsLabHook(submit_policy=SubmitPolicy(attempts=1))
    yield hook
    hook.get_conn().close()


def submitted(hook: ModelsLabHook) -> tuple[str, str | None]:
    """How a submit ends, and the id that is kept of it."""
    try:
        job, finished = hook.submit(REQUEST)
    except ModelsLabError as error:
        return checked(error), error.job_id
    manifests = [submitted_manifest(job), *([finished_manifest(job, finished)] if finished else [])]
    for manifest in (job.to_dict(), *manifests):
        assert is_written_well(manifest)
        assert through_xcom(manifest) == manifest
    assert Job.from_xcom(manifests[-1], conn_id="c").job_id == job.job_id or not job.job_id
    return "finished" if finished else "processing", job.job_id or None


@many
@given(answer=odd_answers())
def test_a_submit(scripted: Scripted, hook: ModelsLabHook, answer: OddAnswer) -> None:
    scripted.play(answer)
    outcome, job_id = submitted(hook)
    assert outcome in outcomes("submit")
    if outcome == "processing":
        assert job_id
    # An id that repeats the key is written nowhere, so it counts as missing.
    if answer.is_whole and answer.job_id is not None and MARK not in str(answer.job_id) and outcome != "rate_limit":
        text = str(answer.job_id).encode("utf-8", "replace").decode().replace("\0", "?").strip()
        assert job_id == (text or None) or not text
