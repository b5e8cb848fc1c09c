"""A submission whose outcome is not known, and what a person found out about it, in the run's conf."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_modelslab.api.errors import SubmissionUnknownError
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.ledger.service import Ledger
from tests.integration.tasks.conftest import Restyle, Store, WatchedEngine
from tests.support.endpoint import Caller
from tests.support.tasks import RUN_ID, TaskInstance, context_of, run

if TYPE_CHECKING:
    from airflow.sdk import Context

pytestmark = pytest.mark.usefixtures("connections", "lost_answer")
NAME = f"restyling.restyle/{RUN_ID}/submission1"


def told(answer: str) -> Context:
    """The context of the try after a person has answered."""
    conf = {"modelslab": {"submissions": {NAME: answer}}}
    return context_of(TaskInstance(try_number=2, dag_run=SimpleNamespace(conf=conf)))


@pytest.fixture
def lost_answer(restyle: Restyle, connections: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try's job was taken, and the answer lost."""
    submit = ModelsLabHook.submit

    def submit_and_lose(hook: ModelsLabHook, request: Any, **_: Any) -> Any:
        submit(hook, request)
        raise SubmissionUnknownError("no usable answer came")

    with monkeypatch.context() as patch:
        patch.setattr(ModelsLabHook, "submit", submit_and_lose)
        with pytest.raises(AirflowFailException, match=re.escape(f'{{"{NAME}": "resubmit"}}')):
            run(restyle)


def test_the_job_that_a_person_found_is_landed(
    restyle: Restyle, store: Store, engine: WatchedEngine, endpoint: Caller
) -> None:
    manifest = run(restyle, told("1"))
    assert (manifest["job_id"], len(engine.submitted)) == ("1", 1)
    assert len(store.read(manifest["uri"])) == manifest["bytes"]
    # The answer that told how it was made is lost, so the sidecar has what was asked for.
    sidecar = json.loads(store.read(manifest["sidecar_uri"]))
    assert (sidecar["request"]["prompt"], sidecar["seed"]) == ("a fox", manifest["seed"]) == ("a fox", 11)


def test_another_attempt_wrote_the_same_answer_in_the_same_instant(
    restyle: Restyle, engine: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt = Ledger.adopt

    def beaten(ledger: Ledger, job_id: str, **options: Any) -> bool:
        assert adopt(ledger, job_id, **options)
        return adopt(ledger, job_id, **options)  # says that there was one

    monkeypatch.setattr(Ledger, "adopt", beaten)
    assert run(restyle, told("1"))["job_id"] == "1"
    assert len(engine.submitted) == 1


def test_one_that_a_person_did_not_find_is_submitted_again(restyle: Restyle, engine: WatchedEngine) -> None:
    assert run(restyle, told("resubmit"))["job_id"] == "2"
    assert [request.track_id for request in engine.submitted] == [NAME, NAME.replace("submission1", "submission2")]


def test_the_permission_is_for_one_submission(
    restyle: Restyle, engine: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(hook: ModelsLabHook, request: Any, **_: Any) -> Any:
        raise SubmissionUnknownError("no usable answer came")

    monkeypatch.setattr(ModelsLabHook, "submit", lose)
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="submission2"):
            run(restyle, told("resubmit"))
    assert len(engine.submitted) == 1
