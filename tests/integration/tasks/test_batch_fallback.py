"""Other places for clips of a batch: two real endpoints that give out the same job ids, this machine, and a real S3."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_modelslab.api.errors import BatchFailedError, ErrorCode, InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.jobs.batch_jobs import BatchJobs
from airflow_provider_modelslab.operators.fallback import Fallback
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import CREDITS, SPARE, Breakable, Store, WatchedEngine
from tests.support.connections import KEY, set_modelslab
from tests.support.endpoint_engine import Clip, ScriptedEngine
from tests.support.s3 import lines_of
from tests.support.scripted_server import Answer, HangUp, ScriptedServer
from tests.support.tasks import TaskInstance, context_of, deferral_of, event_of, execute, in_the_triggerer, resume
from tests.support.tasks import to_the_end as finish

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "spare")

HOME = {"modelslab_conn_id": "modelslab_default", "model_id": "dark-sushi-mix", "run_on": "endpoint"}
AWAY = {**HOME, "modelslab_conn_id": "spare"}
SECOND = context_of(TaskInstance(try_number=2, max_tries=1))
NEXT_RUN = context_of(TaskInstance(run_id="the next day"))


@pytest.fixture
def engine() -> Breakable:
    return Breakable()


@pytest.fixture
def dag(s3: S3Client, bucket: str) -> Dag:
    """Two clips that the first place can make, and two that it cannot."""
    dag = Dag(s3, bucket, deferrable=False, fallback=[SPARE], max_failed=None)
    dag.add(*"abcd")
    prompts = {"a": "easy", "b": "easy", "c": "hard", "d": "hard"}
    dag.arguments["source"] = [
        {"init_video": f"s3://{bucket}/in/{name}.mp4", "prompt": prompt} for name, prompt in prompts.items()
    ]
    return dag


def lines(s3: S3Client, summary: dict[str, Any]) -> list[dict[str, Any]]:
    return lines_of(s3, summary["manifest"])


def codes(line: dict[str, Any]) -> list[tuple[str, str]]:
    return [(failure["modelslab_conn_id"], failure["code"]) for failure in line["fallback_from"]]


@pytest.mark.parametrize("deferrable", [True, False])
def test_clips_whose_job_failed_are_made_at_the_next_place(
    dag: Dag, engine: Breakable, spare: WatchedEngine, store: Store, s3: S3Client, deferrable: bool
) -> None:
    dag.arguments["prices"] = {"currency": "EUR", "per_job": "0.10"}
    if deferrable:
        engine.gate = gate = threading.Event()
        deferred = deferral_of(dag(deferrable=True))
        gate.set()
        summary = finish(dag, deferred)
    else:
        summary = execute(dag())
    assert (summary["landed"], summary["failed"], summary["jobs"], summary["cost"]) == (4, 0, 6, "0.6")
    assert (len(engine.submitted), len(spare.submitted)) == (4, 2)
    assert summary["places"] == [
        {**HOME, "landed": 2, "failed": {"job_failed": 2}},
        {**AWAY, "landed": 2, "failed": {}},
    ]
    easy, hard = lines(s3, summary)[0], lines(s3, summary)[2]
    assert (easy["made_by"], easy.get("fallback_from")) == (HOME, None)
    assert (hard["made_by"], codes(hard)) == (AWAY, [("modelslab_default", "job_failed")])
    sidecar = json.loads(store.read(f"{hard['uri']}.json"))
    assert (sidecar["made_by"], sidecar["fallback_from"]) == (AWAY, hard["fallback_from"])
    assert store.frames(hard["uri"]) == dag.arguments["num_frames"]
    assert KEY not in json.dumps([summary, hard, sidecar])

    # Whoever asks again pays nothing: a retry, another run, and one without the other place.
    assert execute(dag(), SECOND)["landed"] == 4  # in this run
    for changes in ({}, {"fallback": None}):
        assert execute(dag(**changes), NEXT_RUN)["skipped"] == 4
    assert (len(engine.submitted), len(spare.submitted)) == (4, 2)


def test_a_batch_goes_on_in_the_next_place_when_the_account_has_no_credits(
    dag: Dag, spare: WatchedEngine, s3: S3Client, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Answer(CREDITS, status=402)) as server:
        set_modelslab(monkeypatch, server.url, **s3_extra)
        summary = execute(dag())
        assert server.posts == 4
    assert (summary["landed"], summary["jobs"], len(spare.submitted)) == (4, 4, 4)
    assert {tuple(codes(line)) for line in lines(s3, summary)} == {(("modelslab_default", "payment"),)}


def test_two_accounts_without_credits_end_the_batch(
    dag: Dag, spare: WatchedEngine, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Answer(CREDITS, status=402)) as server:
        set_modelslab(monkeypatch, server.url, **s3_extra)
        set_modelslab(monkeypatch, server.url, conn_id="spare")
        with pytest.raises(BatchFailedError) as raised:
            execute(dag(max_in_flight=1))
        assert server.posts == 2
    assert raised.value.cause is ErrorCode.PAYMENT
    assert spare.submitted == []


def test_an_unknown_outcome_is_followed_by_no_other_place(
    dag: Dag, spare: WatchedEngine, s3: S3Client, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(HangUp()) as server:
        set_modelslab(monkeypatch, server.url, **s3_extra)
        for context in (context_of(), SECOND):
            summary = execute(dag(), context)
            assert {line["code"] for line in lines(s3, summary)} == {"submission_unknown"}
        assert server.posts == 4
    assert spare.submitted == []


def test_a_clip_that_all_places_failed_fails_alone_and_says_why(
    dag: Dag, engine: Breakable, spare: WatchedEngine, s3: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Answer(CREDITS, status=402)) as server:
        set_modelslab(monkeypatch, server.url, conn_id="spare")
        summary = execute(dag(max_in_flight=1))
        assert server.posts == 2
    assert (summary["landed"], summary["failed"], summary["pending"], summary["jobs"]) == (2, 2, 0, 4)
    hard = lines(s3, summary)[2]
    assert codes(hard) == [("modelslab_default", "job_failed"), ("spare", "payment")]
    assert hard["code"] == "payment"
    assert "the engine is broken" in summary["errors"][0]["message"]  # the summary has the other reason too
    assert summary["places"][1] == {**AWAY, "landed": 0, "failed": {"payment": 2}}
    # The next try begins with the first place, as one without other places does.
    engine.broken = False
    assert execute(dag(), SECOND)["landed"] == 4
    assert (len(engine.submitted), spare.submitted) == (6, [])


def test_both_endpoints_failed(dag: Dag, engine: Breakable, s3: S3Client) -> None:
    summary = execute(dag(fallback=[{"model_id": "another"}]))
    assert (summary["landed"], summary["failed"], len(engine.submitted)) == (2, 2, 6)
    assert [failure["code"] for failure in lines(s3, summary)[3]["fallback_from"]] == ["job_failed", "job_failed"]


def test_a_task_that_is_killed_between_two_places_goes_on_with_the_second(
    dag: Dag, engine: Breakable, spare: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, close = dag(), BatchJobs.close

    def killed_after(jobs: BatchJobs, *arguments: Any) -> bool:
        goes_on = close(jobs, *arguments)
        task.is_killed = True  # what on_kill does first; nothing more is claimed
        return goes_on

    with monkeypatch.context() as patch:
        patch.setattr(BatchJobs, "close", killed_after)
        with pytest.raises(InterruptedError):
            execute(task)
    paid = len(engine.submitted)
    assert spare.submitted == []
    summary = execute(dag(), SECOND)
    assert (summary["failed"], summary["landed"] + summary["skipped"]) == (0, 4)
    assert len(spare.submitted) == 2
    assert sorted(request.init_video for request in engine.submitted[:paid]) == sorted(
        {request.init_video for request in engine.submitted}
    )


def test_every_submit_counts_for_a_cap(dag: Dag, engine: Breakable, spare: WatchedEngine) -> None:
    with pytest.raises(BatchFailedError) as raised:
        execute(dag(max_jobs=5))
    assert raised.value.cause is ErrorCode.BUDGET
    assert (len(engine.submitted), len(spare.submitted)) == (4, 1)


def jobs_of(deferred: TaskDeferred) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = in_the_triggerer(deferred).serialize()[1]["jobs"]
    return jobs


def test_a_deferred_batch_goes_on_with_the_places_it_began_with(
    dag: Dag, engine: Breakable, spare: WatchedEngine
) -> None:
    spare.gate = gate = threading.Event()
    dag.arguments["deferrable"] = True
    deferred = deferral_of(dag())
    while not any(job.get("conn_id") == "spare" for job in jobs_of(deferred)):
        with pytest.raises(TaskDeferred) as again:
            resume(dag(), deferred, event_of(in_the_triggerer(deferred)))
        deferred = again.value
    assert KEY not in json.dumps([jobs_of(deferred), deferred.kwargs], default=str)
    gate.set()
    dag.arguments["fallback"] = None  # of a Dag that was edited
    summary = finish(dag, deferred)
    assert (summary["landed"], summary["failed"]) == (4, 0)
    assert (len(engine.submitted), len(spare.submitted)) == (4, 2)


@dataclass
class OneAtATime(ScriptedEngine):
    """An engine of this machine."""

    running: int = 0
    most: int = 0

    def generate(self, request: Video2VideoRequest, output: Path, **options: Any) -> Clip:
        assert options.pop("on_step") is None
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return super().generate(request, output, **options)
        finally:
            self.running -= 1


@pytest.fixture
def own_engine(monkeypatch: pytest.MonkeyPatch) -> OneAtATime:
    engine = OneAtATime()
    monkeypatch.setattr(Fallback, "_engine", engine)
    return engine


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_last_place_may_be_this_worker(
    dag: Dag, engine: Breakable, own_engine: OneAtATime, s3: S3Client, deferrable: bool
) -> None:
    dag.arguments |= {"fallback": [{"run_on": "local"}], "prices": {"currency": "EUR", "per_job": "0.10"}}
    dag.arguments["deferrable"] = deferrable
    if deferrable:
        engine.gate = gate = threading.Event()
        deferred = deferral_of(dag())
        gate.set()
        summary = finish(dag, deferred)
    else:
        summary = execute(dag())
    assert (summary["landed"], summary["jobs"], summary["cost"]) == (4, 4, "0.4")
    assert (own_engine.finished, own_engine.most) == (["hard", "hard"], 1)
    assert summary["places"][1] == {**HOME, "run_on": "local", "landed": 2, "failed": {}}
    assert codes(lines(s3, summary)[2]) == [("modelslab_default", "job_failed")]
    assert execute(dag(), NEXT_RUN)["skipped"] == 4
    assert (len(engine.submitted), len(own_engine.finished)) == (4, 2)


def test_a_clip_that_this_worker_fails_too_says_both_reasons(dag: Dag, own_engine: OneAtATime, s3: S3Client) -> None:
    dag.arguments["source"][3]["prompt"] = "crash"
    summary = execute(dag(fallback=[{"run_on": "local"}]))
    assert (summary["landed"], summary["failed"]) == (3, 1)
    failures = lines(s3, summary)[3]["fallback_from"]
    assert [(one["run_on"], one["code"]) for one in failures] == [("endpoint", "job_failed"), ("local", "job_failed")]


@pytest.fixture
def sigterm() -> Iterator[Callable[[Any], None]]:
    """Has SIGTERM call a task's ``on_kill``, as Airflow does."""
    before = signal.getsignal(signal.SIGTERM)

    def to(task: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: task.on_kill())

    yield to
    signal.signal(signal.SIGTERM, before)


def test_a_kill_ends_what_this_worker_makes(
    dag: Dag, own_engine: OneAtATime, sigterm: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_engine.gate = gate = threading.Event()
    generate = OneAtATime.generate

    def killed(engine: OneAtATime, *arguments: Any, **options: Any) -> Clip:
        os.kill(os.getpid(), signal.SIGTERM)
        return generate(engine, *arguments, **options)

    task = dag(fallback=[{"run_on": "local"}])
    sigterm(task)
    with monkeypatch.context() as patch:
        patch.setattr(OneAtATime, "generate", killed)
        with pytest.raises(InterruptedError):
            execute(task)
    assert own_engine.stopped == 1
    gate.set()
    assert execute(dag(fallback=[{"run_on": "local"}]), SECOND)["failed"] == 0


@pytest.mark.parametrize(
    ("places", "field"),
    [
        ([{"modelslab_conn_id": "nowhere"}], "fallback[0].modelslab_conn_id"),
        ([{"model_id": "own"}], "fallback[0]"),  # a clip's own model
        ([{"run_on": "local", "model_id": "unknown"}], "model_id"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_paid(
    dag: Dag, engine: Breakable, spare: WatchedEngine, places: Any, field: str
) -> None:
    dag.arguments["source"][0]["model_id"] = "own"
    with pytest.raises(InvalidRequestError) as caught:
        execute(dag(fallback=places))
    assert any(field in name for name in caught.value.fields)
    assert (engine.submitted, spare.submitted) == ([], [])
