"""The table of ``reuse``: who made a result at a destination, who asks for it next, and who pays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import BatchFailedError, ChangedRequestError, ErrorCode
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from tests.integration.tasks.conftest import FRAMES, Restyle, Store, WatchedEngine
from tests.support.tasks import TaskInstance, context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "quick")

Ask = Callable[..., None]


class Askers:
    """Ask for one clip at one destination: as a task, as a batch, and at the command line."""

    def __init__(self, restyle: Restyle, submit: Callable[..., Any], bucket: str) -> None:
        self.destination = f"s3://{bucket}/out.mp4"
        self._restyle = restyle
        self._submit = submit
        self._bucket = bucket

    def task(self, run: str, *, tries: tuple[int, int] = (1, 0), task_id: str = "restyle", **changes: Any) -> Any:
        """:param tries: number of the try, and Airflow's ``max_tries``: both rise with a clear."""
        number, most = tries
        context = context_of(TaskInstance(run_id=run, task_id=task_id, try_number=number, max_tries=most))
        arguments = {"destination": self.destination, "seed": None, **changes}
        return execute(self._restyle(**arguments), context)

    def batch(self, run: str, *, tries: tuple[int, int] = (1, 0), **changes: Any) -> Any:
        number, most = tries
        context = context_of(TaskInstance(run_id=run, task_id="batch", try_number=number, max_tries=most))
        arguments: dict[str, Any] = {
            "source": [{"init_video": self._restyle.clip, "destination": "out.mp4"}],
            "destination": f"s3://{self._bucket}/",
            "model_id": "dark-sushi-mix",
            "prompt": "a fox",
            "num_frames": FRAMES,
            "poll_interval": 0.02,
            "max_poll_interval": 0.1,
            "timeout": 60,
            **changes,
        }
        return execute(ModelsLabVideo2VideoBatchOperator(task_id="batch", **arguments), context)

    def command(self, run: str, *words: str, **changes: Any) -> Any:
        assert not changes
        return self._submit(*words, to=self.destination)

    def ask(self, what: str) -> Any:
        """``task run1``, ``batch run2 never``, ``task run1 cleared``, ``command``, ``command --again``."""
        kind, *words = what.split()
        if kind == "command":
            return self.command("", *words)
        run, *rest = words
        changes: dict[str, Any] = {"tries": (2, 1)} if "cleared" in rest else {}
        if rest and rest[-1] in {"run", "always", "never"}:
            changes["reuse"] = rest[-1]
        return getattr(self, kind)(run, **changes)


@pytest.fixture
def askers(restyle: Restyle, submit: Callable[..., Any], bucket: str) -> Askers:
    return Askers(restyle, submit, bucket)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "payments"),
    [
        # "run", the task's default: this Dag run's results serve it, whoever made them
        ("task run1", "task run1 cleared", 1),
        ("task run1", "task run2", 2),
        ("batch run1", "task run1", 1),
        ("batch run1", "task run2", 2),
        ("command", "task run1", 2),
        ("batch run1", "batch run1 cleared run", 1),
        ("task run1", "batch run2 run", 2),
        # "always", the default of batches and commands: any result serves
        ("task run1", "task run2 always", 1),
        ("task run1", "batch run2", 1),
        ("task run1", "command", 1),
        ("batch run1", "batch run2", 1),
        ("batch run1", "command", 1),
        ("command", "batch run1", 1),
        ("command", "command", 1),
        # "never": a clear makes another one
        ("task run1", "task run1 cleared never", 2),
        ("batch run1", "batch run1 cleared never", 2),
        ("task run1", "command --again", 2),
        ("command", "command --again", 2),
        ("batch run1", "task run1 never", 2),
    ],
)
def test_a_stored_result(
    askers: Askers, store: Store, engine: WatchedEngine, first: str, second: str, payments: int
) -> None:
    askers.ask(first)
    askers.ask(second)
    assert len(engine.submitted) == payments
    assert store.frames(askers.destination) == FRAMES


@pytest.mark.slow
def test_never_makes_one_for_each_clear_and_none_for_its_retries(askers: Askers, engine: WatchedEngine) -> None:
    for tries, payments in (((1, 2), 1), ((2, 2), 1), ((3, 4), 2), ((4, 4), 2)):  # retries=2; cleared after the second
        askers.task("run1", tries=tries, reuse="never", retries=2)
        assert len(engine.submitted) == payments


@pytest.mark.slow
@pytest.mark.parametrize(
    "second", ["task run1", "task run2", "task run2 always", "task run2 never", "batch run2", "command"]
)
@pytest.mark.parametrize("first", ["task", "command"])
def test_a_job_that_runs_serves_whoever_asks(
    askers: Askers, store: Store, engine: WatchedEngine, gate: threading.Event, first: str, second: str
) -> None:
    if first == "task":
        askers.task("run1", wait_for_completion=False)
    else:
        askers.command("", "--no-wait")
    threading.Timer(0.3, gate.set).start()
    askers.ask(second)
    assert len(engine.submitted) == 1
    assert store.frames(askers.destination) == FRAMES


@pytest.mark.slow
def test_a_run_that_waited_for_anothers_job_finds_the_result_as_its_own(
    askers: Askers, engine: WatchedEngine, gate: threading.Event
) -> None:
    askers.task("run1", wait_for_completion=False)
    gate.set()
    askers.task("run2")
    askers.ask("task run2 cleared")
    askers.ask("task run1 cleared")
    assert len(engine.submitted) == 1
    askers.task("run3")
    assert len(engine.submitted) == 2
    askers.ask("task run1 cleared")  # what stands there is the same, and was made for this run too
    assert len(engine.submitted) == 2


@pytest.mark.slow
def test_a_changed_request_is_paid_for_or_refused_as_the_task_says(askers: Askers, engine: WatchedEngine) -> None:
    askers.task("run1")
    with pytest.raises(ChangedRequestError) as refused:
        askers.task("run1", prompt="a wolf", on_changed_request="fail")
    assert refused.value.code is ErrorCode.CHANGED_REQUEST
    askers.task("run2", prompt="a wolf", on_changed_request="fail")  # run1's result would not have served
    askers.task("run2", prompt="a bear")
    assert [request.prompt for request in engine.submitted] == ["a fox", "a wolf", "a bear"]
    with pytest.raises(BatchFailedError):
        askers.batch("run3", on_changed_request="fail")
    assert len(engine.submitted) == 3


@pytest.mark.slow
def test_another_destination_is_another_result(
    askers: Askers, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    askers.task("run1")
    moved = f"s3://{bucket}/elsewhere.mp4"
    assert askers.task("run1", tries=(2, 1), destination=moved)["uri"] == moved
    assert len(engine.submitted) == 2


@pytest.mark.slow
def test_the_runs_conf_goes_before_the_argument(askers: Askers, restyle: Restyle, engine: WatchedEngine) -> None:
    askers.task("run1")
    context = context_of(TaskInstance(run_id="run1", try_number=2, max_tries=1))
    context["dag_run"].conf = {"modelslab": {"reuse": "never"}}
    execute(restyle(destination=askers.destination, seed=None), context)
    assert len(engine.submitted) == 2
