"""What messages advise is followed to the letter, and the bill is looked at: free is free, and what costs says so."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import BatchFailedError, ChangedRequestError, LandingError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.storage.checksums import Checksums
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.tasks.conftest import FRAMES, Restyle, Store, WatchedEngine
from tests.support.endpoint_engine import Clip
from tests.support.s3 import listening
from tests.support.shell import Shell
from tests.support.tasks import TaskInstance, context_of, deferral_of, event_of, execute, in_the_triggerer, resume, run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "quick")


@dataclass
class ObstinateEngine(WatchedEngine):
    """Makes gifs, whatever was asked for."""

    def _write(self, request: Video2VideoRequest, output: Path, seconds: float) -> Clip:
        made = super()._write(request, output.with_suffix(".gif"), seconds)
        made.path.replace(output)
        return replace(made, path=output)


class TestAResultOfTheWrongType:
    @pytest.fixture
    def engine(self) -> WatchedEngine:
        return ObstinateEngine()

    def test_is_landed_for_free_by_the_command_that_the_message_names(
        self, restyle: Restyle, airflow: Shell, engine: WatchedEngine, store: Store, s3: S3Client, bucket: str
    ) -> None:
        place = f"s3://{bucket}/out/clip.mp4"
        with pytest.raises(LandingError) as refused:
            execute(restyle(destination=place, output_type="mp4"))
        assert "output_type" in str(refused.value)
        with pytest.raises(LandingError):  # as it says, a retry fails in the same way
            execute(restyle(destination=place, output_type="mp4"))
        words = command_in(str(refused.value))
        assert words[:2] == ["land", refused.value.job_id]
        manifest = airflow.json(*words)
        assert manifest["uri"] == f"s3://{bucket}/out/clip.gif"
        assert (store.content_type(manifest["uri"]), store.frames(manifest["uri"])) == ("image/gif", FRAMES)
        assert len(engine.submitted) == 1
        execute(restyle(destination=f"s3://{bucket}/out/clip.gif", output_type="gif"))
        assert len(engine.submitted) == 2  # what the message warns of

    def test_without_an_id_nothing_is_advised_that_cannot_be_done(self, bucket: str, s3: S3Client) -> None:
        from airflow_provider_modelslab.storage.landing import land
        from tests.support.files_server import FilesServer, ServedFile
        from tests.support.samples import small_gif

        with FilesServer() as files, pytest.raises(LandingError) as refused:
            land([files.add("/a.mp4", ServedFile(small_gif()))], S3Uri(bucket, "a.mp4"), s3, expected_type="mp4")
        assert "airflow modelslab" not in str(refused.value)


def test_a_superseded_result_is_copied_elsewhere_for_free(
    restyle: Restyle, airflow: Shell, engine: WatchedEngine, store: Store, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_modelslab.ledger import service

    monkeypatch.setattr(service, "_LISTING_VALID", 0.0)
    place = f"s3://{bucket}/out.mp4"
    late = deferral_of(restyle(deferrable=True, destination=place))
    event = event_of(in_the_triggerer(late))
    other = context_of(TaskInstance(dag_id="another"))
    run(lambda: restyle(deferrable=True, destination=place, prompt="a wolf"), other)
    with pytest.raises(ChangedRequestError) as refused:
        resume(restyle(deferrable=True, destination=place), late, event)
    words = command_in(str(refused.value).replace("s3://...", f"s3://{bucket}/elsewhere.mp4"))
    manifest = airflow.json(*words)
    assert store.frames(manifest["uri"]) == FRAMES
    assert len(engine.submitted) == 2


def test_after_another_writer_at_the_key_the_same_task_lands_for_free(
    restyle: Restyle, engine: WatchedEngine, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

    client = ModelsLabHook().get_s3_client()
    monkeypatch.setattr(ModelsLabHook, "get_s3_client", lambda _: client)
    # As at a store whose response to a put does not prove what it has stored.
    monkeypatch.setattr(Checksums, "put", lambda _, call, body, sha256: (call(Body=body), False))
    written: list[str] = []

    def overwrite(params: dict[str, Any], **_: Any) -> None:
        if params["url_path"].endswith("/out.mp4") and written:
            s3.put_object(Bucket=bucket, Key="out.mp4", Body=b"something else")

    def note(params: dict[str, Any], **_: Any) -> None:
        written.append(params["url_path"])

    with (
        listening(client, "before-call.s3.PutObject", note),
        listening(client, "before-call.s3.HeadObject", overwrite),
        pytest.raises(LandingError) as refused,
    ):
        execute(restyle(destination=f"s3://{bucket}/out.mp4"))
    assert "run the task again" in str(refused.value)
    execute(restyle(destination=f"s3://{bucket}/out.mp4"))
    assert len(engine.submitted) == 1
    execute(restyle(destination=f"s3://{bucket}/another-key.mp4"))
    assert len(engine.submitted) == 2  # what the message warns of


@pytest.mark.slow
@pytest.mark.parametrize("reuse", ["run", "always"])
def test_a_retry_of_a_failed_batch_pays_for_the_failed_clips_alone(
    reuse: str, clip: str, engine: WatchedEngine, bucket: str
) -> None:
    good, bad = {"init_video": clip}, {"init_video": clip, "prompt": "unreadable", "destination": "bad.mp4"}

    def make() -> ModelsLabVideo2VideoBatchOperator:
        return ModelsLabVideo2VideoBatchOperator(
            task_id="restyle",
            source=[good, bad],
            destination=f"s3://{bucket}/results/",
            model_id="dark-sushi-mix",
            prompt="a fox",
            num_frames=FRAMES,
            reuse=reuse,  # type: ignore[arg-type]
        )

    with pytest.raises(BatchFailedError) as failed:
        run(make)
    assert "unless reuse is 'always'" in str(failed.value)
    assert len(engine.submitted) == 2
    with pytest.raises(BatchFailedError):
        run(make, context_of(TaskInstance(try_number=2)))
    assert [request.prompt for request in engine.submitted[2:]] == ["unreadable"]
    with pytest.raises(BatchFailedError):
        run(make, context_of(TaskInstance(run_id="another")))
    again = {"run": ["a fox", "unreadable"], "always": ["unreadable"]}[reuse]
    assert sorted(request.prompt for request in engine.submitted[3:]) == again


def test_a_bucket_in_the_connection_moves_the_ledgers(
    restyle: Restyle,
    airflow: Shell,
    engine: WatchedEngine,
    endpoint: Any,
    s3_extra: dict[str, Any],
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ``check`` advises costs, and it says so."""
    from tests.support.connections import set_modelslab

    set_modelslab(monkeypatch, endpoint.url, **{**s3_extra, "bucket": None, "prefix": None})
    place = f"s3://{bucket}/out.mp4"
    execute(restyle(destination=place))
    told = {row["check"]: row["detail"] for row in airflow.json("check")}["bucket"]
    assert "earlier results are paid for again" in told
    set_modelslab(monkeypatch, endpoint.url, **s3_extra)
    execute(restyle(destination=place))
    assert len(engine.submitted) == 2


def command_in(message: str) -> list[str]:
    """The arguments of the one command that a message names."""
    (found,) = re.findall(r"`airflow modelslab ([^`]+)`", message)
    return shlex.split(found)
