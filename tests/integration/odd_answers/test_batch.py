"""A batch among odd answers: each ends its own clip, the others land, and the results manifest is written.

The runner, the paid jobs, the clients, the poller and the tracker are real. The ledgers are in memory, as JSON, and no
result is downloaded: with S3 for these, 2,000 odd answers would take minutes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import BatchFailedError
from airflow_provider_modelslab.api.polling import PollPolicy
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan, make_plan
from airflow_provider_modelslab.batch.results.tracker import BatchTracker
from airflow_provider_modelslab.batch.running.limits import FailureLimit
from airflow_provider_modelslab.batch.running.runner import BatchRunner
from airflow_provider_modelslab.batch.running.window import Window
from airflow_provider_modelslab.batch.sources.discovery import clips_from
from airflow_provider_modelslab.client.config import SubmitPolicy
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.jobs.batch_jobs import BatchJobs, PolledJobs
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import LedgerPolicy
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import MemoryLedgerStore
from airflow_provider_modelslab.storage.landing import LandedObject
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.odd_answers.conftest import EXAMPLES, Scripted, Triggerer, examples, outcomes
from tests.support.odd_answers import DONE, OddAnswer, is_written_well, odd_answers
from tests.support.odd_server import RawAnswer
from tests.support.paid_jobs import FakeCaller
from tests.support.s3 import lines_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
    pytest.mark.usefixtures("no_pauses"),
]

ODD = 16
"""Clips of a batch with an odd answer; one before and one after them have none."""

GOOD = (0, ODD + 1)


class Store(MemoryLedgerStore):
    """Entries as they are in S3."""

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        assert is_written_well(dict(entry))
        return super().create(name, json.loads(json.dumps(entry, default=str)))


class WatchedTracker(BatchTracker):
    """Keeps the ledgers in memory."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._stores: dict[int, Store] = {}

    def ledger(self, clip: ClipPlan, *, claims: bool = True) -> Ledger:
        return Ledger(self._stores.setdefault(clip.index, Store()), sleep=lambda seconds: None)


class Hook(ModelsLabHook):
    """Lands nothing, but describes what would have landed."""

    def land(self, job: Job, finished: Finished, target: S3Uri, *, expected_type: str | None = None) -> dict[str, Any]:
        landed = LandedObject(target, 1, "ab", "video/mp4", "e", finished.links[0], 1, 0.1)
        return self.describe_landed(job, finished, landed)

    def get_s3_client(self) -> S3Client:
        return cast("S3Client", self)

    def put_object(self, *, Body: bytes, **_: Any) -> None:  # noqa: N803 - boto3's names
        assert is_written_well(json.loads(Body))


class NoPause(Window):
    """Goes on at once after a refusal."""

    def pause(self) -> float:
        return 0.0


class Endpoint:
    """Gives each odd clip its answer, to the submit or to the first poll; a second try gets a plain one."""

    def __init__(self, odd: list[tuple[OddAnswer, bool]]) -> None:
        self._to_submits = {n: answer for n, (answer, at_submit) in enumerate(odd, start=1) if at_submit}
        self._to_polls = {f"job-{n}": answer for n, (answer, at_submit) in enumerate(odd, start=1) if not at_submit}

    def __call__(self, path: str, body: bytes) -> RawAnswer:
        if "/fetch/" in path:
            job_id = unquote(path.rpartition("/")[2])
            return self._to_polls.pop(job_id, DONE).raw()
        number = int(json.loads(body)["init_video"].rpartition("-")[2].removesuffix(".mp4"))
        plain = OddAnswer(200, (), json.dumps({"status": "processing", "id": f"job-{number}"}).encode())
        return self._to_submits.pop(number, plain).raw()


@pytest.fixture
def plan(s3: S3Client, bucket: str) -> BatchPlan:
    clips = clips_from([f"https://h.example/clip-{number}.mp4" for number in range(ODD + 2)])
    common = {"model_id": "m", "prompt": "p", "output_type": "mp4"}
    return make_plan(clips, common, output=S3Uri(bucket, "out/"), conn_id="modelslab_default", s3_factory=lambda: s3)


RunBatch = Callable[[], tuple[str | None, list[dict[str, Any]]]]


@pytest.fixture
def run_batch(scripted: Scripted, triggerer: Triggerer, plan: BatchPlan, s3: S3Client, bucket: str) -> RunBatch:
    """Runs a batch; why it was given up, and the lines of its results manifest."""

    async def work(tracker: WatchedTracker, hook: Hook) -> str | None:
        jobs = BatchJobs(hook, tracker, LedgerPolicy(), AttemptId(), FakeCaller(), 3600.0, check_links=False)
        async with triggerer.poller.watch((), policy=PollPolicy(min_interval=0.0005)) as watch:
            waiter = PolledJobs(watch, {}, timeout=3600.0)
            todo = tracker.begin(reuse="never")
            runner: BatchRunner[ClipPlan] = BatchRunner(
                todo, jobs, waiter, tracker, NoPause(ODD), refusal_timeout=math.inf
            )
            assert await runner.run() == ()
            return runner.stopped

    def run() -> tuple[str | None, list[dict[str, Any]]]:
        hook = Hook(submit_policy=SubmitPolicy(attempts=1, max_wait=0.0))
        tracker = WatchedTracker(s3, S3Uri(bucket, "ledger"), plan, name="batch", limit=FailureLimit())
        stopped = triggerer.run(work(tracker, hook))
        hook.get_conn().close()
        try:
            assert is_written_well(tracker.finish(stopped=stopped))
        except BatchFailedError as error:
            assert stopped is not None
            assert is_written_well(error.to_event())  # noqa: PT017 - either end is right
        return stopped, lines_of(s3, str(tracker.folder.child("batch.jsonl")))

    return run


@examples(math.ceil(EXAMPLES / ODD))
@given(odd=st.lists(st.tuples(odd_answers(), st.booleans()), min_size=ODD, max_size=ODD))
def test_a_batch(scripted: Scripted, run_batch: RunBatch, odd: list[tuple[OddAnswer, bool]]) -> None:
    scripted.server.answer = Endpoint(odd)
    stopped, lines = run_batch()
    assert is_written_well(lines)
    assert [line["index"] for line in lines] == list(range(ODD + 2))
    listed = outcomes("submit") | outcomes("poll")
    for line in lines:
        assert line["status"] in {"landed", "failed"} or stopped is not None
        assert line["status"] != "failed" or line["code"] in listed
    for good in GOOD:
        assert lines[good]["status"] == "landed" or (stopped is not None and lines[good]["status"] == "pending")
    if stopped is not None:  # by what concerns all who use the connection, see the list of exceptions
        assert stopped.partition(":")[0] in {"authentication", "payment", "endpoint_settings"}
