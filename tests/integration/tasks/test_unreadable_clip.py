"""A clip that the endpoint cannot decode is paid for once: over all retries, clears and runs, until it is replaced.

The endpoint fetches and decodes each clip by its presigned link; the ledger is in a real S3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_modelslab.api.errors import BatchFailedError, ClipUnreadableError, ErrorCode
from airflow_provider_modelslab.operators.arguments import result_name
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from tests.integration.tasks.conftest import Restyle
from tests.support.reading_engine import ReadingEngine
from tests.support.s3 import S3Server, lines_of
from tests.support.samples import branded, small_mp4
from tests.support.shell import Shell
from tests.support.tasks import TaskInstance, context_of, execute, run, to_the_end

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

pytestmark = [pytest.mark.usefixtures("connections", "quick"), pytest.mark.slow]

BROKEN = branded(b"isom", b"isom", b"avc1")  # begins as a video does, and has no picture
BOTH = pytest.mark.parametrize("deferrable", [True, False])


@pytest.fixture
def engine(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> ReadingEngine:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(s3_server.ca_path))
    return ReadingEngine()


@pytest.fixture
def broken(s3: S3Client, bucket: str) -> str:
    s3.put_object(Bucket=bucket, Key="in/05.mp4", Body=BROKEN)
    return f"s3://{bucket}/in/05.mp4"


@pytest.fixture
def single(restyle: Restyle, broken: str) -> Callable[..., ModelsLabVideo2VideoOperator]:
    def make(**changes: Any) -> ModelsLabVideo2VideoOperator:
        return restyle(**{"init_video": broken, "width": 64, "height": 64, "retries": 2, **changes})

    return make


def attempt(number: int, *, run_id: str = "run 1", first: int = 1) -> Any:
    """A try of a task with two retries, whose first one since it was cleared is ``first``."""
    return context_of(TaskInstance(run_id=run_id, try_number=number, max_tries=first + 1))


def clips_of(engine: ReadingEngine) -> Counter[str]:
    return Counter(request.init_video.partition("?")[0].rpartition("/")[2] for request in engine.submitted)


@BOTH
def test_a_clip_that_cannot_be_decoded_is_paid_for_once_over_all_tries_of_a_batch_and_the_next_run(
    engine: ReadingEngine, broken: str, s3: S3Client, bucket: str, deferrable: bool
) -> None:
    for number in range(12):
        if number != 5:
            s3.put_object(Bucket=bucket, Key=f"in/{number:02d}.mp4", Body=small_mp4())

    def make() -> ModelsLabVideo2VideoBatchOperator:
        return ModelsLabVideo2VideoBatchOperator(
            task_id="restyle",
            source=f"s3://{bucket}/in/",
            destination=f"s3://{bucket}/out/",
            model_id="dark-sushi-mix",
            prompt="a fox",
            num_frames=5,
            width=64,
            height=64,
            retries=2,
            max_in_flight=4,
            poll_interval=0.02,
            max_poll_interval=0.1,
            deferrable=deferrable,
            defer_after=0.2,
        )

    next_run = attempt(1, run_id="run 2")
    for context in (attempt(1), attempt(2), attempt(3), next_run):
        with pytest.raises(BatchFailedError):
            _to_the_end(make, context)
    assert clips_of(engine) == {f"{number:02d}.mp4": 1 for number in range(12)}
    told = lines_of(s3, f"s3://{bucket}/out/_modelslab/batches/{result_name(next_run)}.jsonl")
    (line,) = (line for line in told if line["status"] == "failed")
    assert (line["source"], line["code"]) == (broken, ErrorCode.CLIP_UNREADABLE)
    assert line["job_id"] is not None
    s3.put_object(Bucket=bucket, Key="in/05.mp4", Body=small_mp4())
    assert _to_the_end(make, attempt(1, run_id="run 3"))["landed"] == 1
    assert clips_of(engine)["05.mp4"] == 2


def _to_the_end(make: Callable[[], ModelsLabVideo2VideoBatchOperator], context: Any) -> Any:
    try:
        return execute(make(), context)
    except TaskDeferred as deferred:
        return to_the_end(make, deferred, context)


@BOTH
def test_a_clip_that_cannot_be_decoded_is_paid_for_once_by_the_operator_of_one_clip(
    single: Callable[..., ModelsLabVideo2VideoOperator], engine: ReadingEngine, deferrable: bool
) -> None:
    place = {"destination": "{{ params.place }}", "deferrable": deferrable}
    for context in (attempt(1), attempt(2), attempt(3), attempt(4, first=4), attempt(1, run_id="run 2")):
        context["params"]["place"] = "out.mp4"
        with pytest.raises(ClipUnreadableError) as caught:
            run(lambda: single(**place), context)
        assert caught.value.job_id == "1"
    assert len(engine.submitted) == 1


def test_it_is_paid_for_again_once_the_clip_or_the_request_has_changed(
    single: Callable[..., ModelsLabVideo2VideoOperator], engine: ReadingEngine, s3: S3Client, bucket: str
) -> None:
    for _ in range(2):
        with pytest.raises(ClipUnreadableError):
            execute(single(), attempt(1))
    with pytest.raises(ClipUnreadableError):
        execute(single(prompt="a wolf"), attempt(2))
    assert len(engine.submitted) == 2
    with pytest.raises(ClipUnreadableError):
        execute(single(), attempt(3))
    assert len(engine.submitted) == 2
    s3.put_object(Bucket=bucket, Key="in/05.mp4", Body=small_mp4())
    assert execute(single(), attempt(4))["status"] == "landed"
    assert len(engine.submitted) == 3


def test_with_never_a_clear_pays_for_one_more_try_and_its_retries_do_not(
    single: Callable[..., ModelsLabVideo2VideoOperator], engine: ReadingEngine
) -> None:
    paid = []
    for context in (attempt(1), attempt(2), attempt(4, first=4), attempt(5, first=4), attempt(7, first=7)):
        with pytest.raises(ClipUnreadableError):
            execute(single(reuse="never"), context)
        paid.append(len(engine.submitted))
    assert paid == [1, 1, 2, 2, 3]


def test_the_command_pays_for_it_once_until_it_is_told_again(
    airflow: Shell, engine: ReadingEngine, broken: str, bucket: str
) -> None:
    line = ["submit", broken, "--model-id", "dark-sushi-mix", "--prompt", "a fox", "--num-frames", "5", "--width", "64"]
    line += ["--height", "64", "--to", f"s3://{bucket}/out.mp4", "--yes"]
    assert [airflow(*line), airflow(*line)] == [1, 1]
    assert len(engine.submitted) == 1
    shown = airflow.json("ledger", "show", f"s3://{bucket}/out.mp4")[0]
    assert [row["entry"] for row in shown["entries"]] == ["claim", "job", "failed"]
    assert "--again" in shown["next"]
    assert airflow(*line, "--again") == 1
    assert len(engine.submitted) == 2
