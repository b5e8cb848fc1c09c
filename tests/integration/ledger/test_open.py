"""The ledger that a task opens, in a real S3."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from airflow_provider_modelslab.jobs.task_ledger import open_ledger
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import LedgerPolicy, Submission
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import TaskStateLedgerStore
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.paid_jobs import WANTED
from tests.support.s3 import keys_of, refusing
from tests.support.task_state import TaskState
from tests.support.tasks import context_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook


class Tasks:
    """Opens ledgers as a task does.

    :param state: of the task; ``None`` below Airflow 3.3.
    """

    def __init__(self, s3: S3Client, state: TaskState | None = None) -> None:
        self._hook = cast("ModelsLabHook", SimpleNamespace(s3_profile=S3Profile(), get_s3_client=lambda: s3))
        known = {"task_state_store": state} if state else {}
        self._context = cast("Context", {**context_of(), **known})

    def open(self, destination: S3Uri) -> Ledger:
        return open_ledger(self._context, self._hook, destination)

    def submit(self, destination: S3Uri) -> None:
        ledger = self.open(destination)
        assert ledger.claim(1, WANTED, AttemptId(), lease=300, name="name", track_id="track")
        ledger.record(1, Job(f"job of {destination.key}", "conn"))

    def job_id(self, destination: S3Uri) -> str | None:
        found = self.open(destination).find(WANTED, LedgerPolicy(), AttemptId())
        return found.job.job_id if isinstance(found, Submission) else None


def test_any_task_finds_the_ledger_of_a_destination(s3: S3Client, bucket: str) -> None:
    Tasks(s3).submit(S3Uri(bucket, "out/a.mp4"))
    assert Tasks(s3).job_id(S3Uri(bucket, "out/a.mp4")) == "job of out/a.mp4"
    assert Tasks(s3).job_id(S3Uri(bucket, "out/b.mp4")) is None


def test_the_copy_in_the_task_state_outlives_the_objects(s3: S3Client, bucket: str) -> None:
    state = TaskState()
    tasks, places = Tasks(s3, state), [S3Uri(bucket, "out/a.mp4"), S3Uri(bucket, "out/b.mp4")]
    for place in places:
        tasks.submit(place)
    assert len(state.stored) == 2, "each destination has a copy of its own"
    for key in state.stored:
        assert sorted(TaskStateLedgerStore(state, key).load()) == ["0001-claim", "0001-job"]
    for key in keys_of(s3, bucket):
        s3.delete_object(Bucket=bucket, Key=key)
    assert [tasks.job_id(place) for place in places] == ["job of out/a.mp4", "job of out/b.mp4"]
    assert Tasks(s3).job_id(places[0]) is None


def test_a_store_that_ignores_conditional_puts_is_warned_of(
    s3: S3Client, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    with refusing(s3, "PutObject", 501, "NotImplemented", times=1):
        Tasks(s3).submit(S3Uri(bucket, "out/a.mp4"))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert Tasks(s3).job_id(S3Uri(bucket, "out/a.mp4")) == "job of out/a.mp4"
