"""``on_kill`` while the clip is checked, or earlier: nothing is submitted after it, and nothing is claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.jobs import paid_job
from airflow_provider_modelslab.storage.inputs import prepare_input
from tests.integration.tasks.conftest import Restyle, WatchedEngine
from tests.support.s3 import keys_of
from tests.support.tasks import execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.mark.usefixtures("connections")
def test_a_kill_during_the_check_of_the_clip_submits_nothing(
    restyle: Restyle, engine: WatchedEngine, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = restyle()

    def killed_meanwhile(*args: Any, **options: Any) -> Any:
        task.on_kill()
        return prepare_input(*args, **options)

    monkeypatch.setattr(f"{paid_job.__name__}.prepare_input", killed_meanwhile)
    with pytest.raises(InterruptedError):
        execute(task)
    assert engine.submitted == []
    assert not [key for key in keys_of(s3, bucket) if key.endswith("-claim.json")]


@pytest.mark.usefixtures("connections")
def test_a_kill_before_the_work_begins_submits_nothing(restyle: Restyle, engine: WatchedEngine) -> None:
    task = restyle()
    task.on_kill()
    with pytest.raises(InterruptedError):
        execute(task)
    assert engine.submitted == []
