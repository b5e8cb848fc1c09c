"""Whole clips through a real endpoint and a real S3 server: same length, same sound, each segment paid for once."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, BaseOperator

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError, LandingError
from airflow_provider_modelslab.api.redaction import strip_query
from airflow_provider_modelslab.decorators.video2video import modelslab_video2video_task
from airflow_provider_modelslab.jobs.whole_clip.segment_jobs import SegmentOutcomes
from airflow_provider_modelslab.local.media.encode import write_mp4
from airflow_provider_modelslab.operators.land import ModelsLabVideo2VideoToS3Operator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.sensors.video2video import ModelsLabVideo2VideoSensor
from tests.integration.tasks.conftest import Store
from tests.support.files_server import FilesServer, ServedFile
from tests.support.mirror_engine import MirrorEngine
from tests.support.s3 import S3Server, keys_of
from tests.support.shell import Shell
from tests.support.sounding import BEEP, beep_time, frame_times, grey_frames, greys, write_sounding
from tests.support.tasks import TaskInstance, context_of, deferral_of, execute, through_serde, to_the_end

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "quick")

FPS, FRAMES, OVERLAP = 12, 6, 2
TIMES = [number / FPS for number in range(18)]
SEGMENTS = 4  # (18 - 2) / (6 - 2)


@pytest.fixture
def engine(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> MirrorEngine:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(s3_server.ca_path))
    return MirrorEngine()


@dataclass(frozen=True)
class Whole:
    """Makes the operator, as each parse of the Dag does, for a clip of 18 frames with sound.

    :param engine: of the endpoint.
    """

    s3: S3Client
    bucket: str
    folder: Path
    engine: MirrorEngine
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def destination(self) -> str:
        return f"s3://{self.bucket}/out/clip.mp4"

    def put(self, suffix: str = "mp4", **options: Any) -> str:
        path = self.folder / f"in.{suffix}"
        times = options.pop("times", TIMES)
        write_sounding(path, grey_frames(len(times), step=12), times, **options)
        self.s3.put_object(Bucket=self.bucket, Key=f"in/{path.name}", Body=path.read_bytes())
        return f"s3://{self.bucket}/in/{path.name}"

    def __call__(self, **changes: Any) -> ModelsLabVideo2VideoOperator:
        arguments = {
            "model_id": "dark-sushi-mix",
            "prompt": "a fox",
            "init_video": f"s3://{self.bucket}/in/in.mp4",
            "destination": self.destination,
            "clip_mode": "whole",
            "num_frames": FRAMES,
            "overlap": OVERLAP,
            "width": 64,
            "height": 48,
            "poll_interval": 0.02,
            "max_poll_interval": 0.1,
            "timeout": 600,
            "retries": 3,
            **self.arguments,
            **changes,
        }
        return ModelsLabVideo2VideoOperator(task_id="restyle", **arguments)

    def result(self) -> Path:
        """The landed object as a file."""
        path = self.folder / "out.mp4"
        self.s3.download_file(self.bucket, "out/clip.mp4", str(path))
        return path


@pytest.fixture
def whole(s3: S3Client, bucket: str, tmp_path: Path, engine: MirrorEngine) -> Whole:
    whole = Whole(s3, bucket, tmp_path, engine)
    whole.put()
    return whole


def attempt(number: int, run_id: str = "run 1") -> Context:
    return context_of(TaskInstance(run_id=run_id, try_number=number, max_tries=3))


def require_whole(whole: Whole, *, frames: int = 18, fps: int = FPS, sound: bool = True) -> None:
    """The result has exactly these frames, at their times, and the source's sound."""
    path = whole.result()
    times = frame_times(path)
    assert len(times) == frames
    assert times == pytest.approx([number / fps for number in range(frames)], abs=1e-3)
    beep = beep_time(path)
    assert (beep is not None) == sound
    assert beep is None or abs(beep - BEEP) < 0.04


def test_a_whole_clip_has_its_length_its_frames_and_its_sound(
    whole: Whole, engine: MirrorEngine, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = execute(whole(), attempt(1))
    log = capsys.readouterr().out
    require_whole(whole)
    assert greys(whole.result()) == pytest.approx([16 + 12 * number for number in range(18)], abs=4)
    assert len(engine.submitted) == SEGMENTS
    (seed,) = {request.seed for request in engine.submitted}
    assert {(request.num_frames, request.fps, request.output_type) for request in engine.submitted} == {
        (FRAMES, FPS, "mp4")
    }
    known = {"status": "landed", "uri": whole.destination, "frames": 18, "fps": FPS, "audio": "aac", "seed": seed}
    assert {name: manifest[name] for name in known} == known
    sidecar = json.loads(store.read(manifest["sidecar_uri"]))
    assert [part["job_id"] for part in sidecar["segments"]] == manifest["jobs"]
    assert len(set(manifest["jobs"])) == manifest["segments"] == SEGMENTS
    assert sidecar["segments"][1]["seconds"] == [round(4 / FPS, 3), round(10 / FPS, 3)]
    assert f"{SEGMENTS} jobs to submit" in log
    assert all(store.read(part["uri"]) for part in sidecar["segments"])

    assert execute(whole(), attempt(2)) == manifest
    assert len(engine.submitted) == SEGMENTS


@pytest.mark.slow
def test_a_variable_frame_rate_in_a_mov_from_a_link(whole: Whole, files: FilesServer, engine: MirrorEngine) -> None:
    times = [*(number / 50 for number in range(10)), *(0.2 + number / 5 for number in range(5))]
    whole.put("mov", times=times, codec="pcm_s16le")
    link = files.add("/in.mov", ServedFile((whole.folder / "in.mov").read_bytes(), "video/quicktime"))
    manifest = execute(whole(init_video=link, fps=10), attempt(1))
    require_whole(whole, frames=12, fps=10)
    assert (manifest["frames"], manifest["audio"]) == (12, "aac")


def test_a_clip_shorter_than_a_segment_is_one_job(whole: Whole, engine: MirrorEngine) -> None:
    manifest = execute(whole(num_frames=25), attempt(1))
    require_whole(whole)
    assert [request.num_frames for request in engine.submitted] == [18]
    assert (manifest["segments"], manifest["job_id"]) == (1, manifest["jobs"][0])


@pytest.mark.slow
def test_how_it_is_joined_costs_nothing(whole: Whole, engine: MirrorEngine) -> None:
    first = execute(whole(), attempt(1))
    second = execute(whole(audio="drop"), attempt(2))
    require_whole(whole, sound=False)
    assert (second["jobs"], second["audio"], second["seed"]) == (first["jobs"], None, first["seed"])
    assert len(engine.submitted) == SEGMENTS


def test_another_kind_of_video_costs_nothing(whole: Whole, engine: MirrorEngine) -> None:
    place = f"s3://{whole.bucket}/out/clip"
    first = execute(whole(destination=place), attempt(1))
    second = execute(whole(destination=place, output_type="gif"), attempt(2))
    assert (second["jobs"], second["content_type"], len(engine.submitted)) == (first["jobs"], "image/gif", SEGMENTS)


@pytest.mark.slow
def test_another_run_pays_again_with_another_seed(whole: Whole, engine: MirrorEngine) -> None:
    first = execute(whole(), attempt(1))
    assert execute(whole(reuse="always"), attempt(1, "run 2")) == first
    second = execute(whole(), attempt(1, "run 3"))
    assert len(engine.submitted) == 2 * SEGMENTS
    assert second["seed"] != first["seed"]
    assert execute(whole(), attempt(2, "run 3")) == second


def test_a_deleted_result_is_joined_again_for_nothing(whole: Whole, engine: MirrorEngine) -> None:
    first = execute(whole(), attempt(1))
    whole.s3.delete_object(Bucket=whole.bucket, Key="out/clip.mp4")
    second = execute(whole(), attempt(2))
    assert (second["sha256"], len(engine.submitted)) == (first["sha256"], SEGMENTS)


@pytest.mark.slow
def test_segments_that_were_cleaned_up_are_cut_again(whole: Whole, engine: MirrorEngine) -> None:
    engine.fails = 100
    with pytest.raises(JobFailedError):
        execute(whole(max_in_flight=1), attempt(1))
    engine.fails = 0
    for key in keys_of(whole.s3, whole.bucket):
        if "/inputs/" in key:
            whole.s3.delete_object(Bucket=whole.bucket, Key=key)
    execute(whole(), attempt(2))
    require_whole(whole)


# -- failures and kills -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_segment_that_fails_is_submitted_once_more(whole: Whole, engine: MirrorEngine) -> None:
    engine.fails = 1
    execute(whole(max_in_flight=1), attempt(1))
    require_whole(whole)
    assert len(engine.submitted) == SEGMENTS + 1
    assert len({request.seed for request in engine.submitted}) == 1


def test_a_segment_that_fails_twice_fails_the_clip_and_what_is_paid_stays(whole: Whole, engine: MirrorEngine) -> None:
    engine.fails = 2
    with pytest.raises(JobFailedError) as failed:
        execute(whole(max_in_flight=1), attempt(1))
    assert "Segment 1 of 4 (0.00 s to 0.50 s)" in failed.value.message
    assert failed.value.job_id is not None
    paid = len(engine.submitted)
    execute(whole(), attempt(2))
    assert len(engine.submitted) == SEGMENTS + 2
    assert 2 <= paid <= SEGMENTS + 1
    require_whole(whole)


@pytest.mark.parametrize("after", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_kill_between_segments_pays_once(
    whole: Whole, engine: MirrorEngine, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The process ends after it has landed so many; the bytes are those of an undisturbed run."""
    landed = SegmentOutcomes.landed

    def strike(self: SegmentOutcomes, *arguments: Any) -> None:
        if len(self.manifests) >= after:
            raise KeyboardInterrupt
        landed(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentOutcomes, "landed", strike)
        with pytest.raises(KeyboardInterrupt):
            execute(whole(max_in_flight=1, seed=7), attempt(1))
    manifest = execute(whole(seed=7), attempt(2))
    assert len(engine.submitted) == SEGMENTS
    again = execute(whole(seed=7, destination=f"s3://{whole.bucket}/out/other.mp4"), attempt(1, "run 2"))
    assert again["sha256"] == manifest["sha256"]


@pytest.mark.slow
def test_on_kill_ends_the_submits_and_a_retry_goes_on(whole: Whole, engine: MirrorEngine) -> None:
    engine.gate = threading.Event()
    task = whole(max_in_flight=2)
    real = engine.check

    def kill_at_the_second(request: Any) -> None:
        real(request)
        if len(engine.submitted) == 2:
            task.on_kill()

    engine.check = kill_at_the_second  # type: ignore[method-assign]
    with pytest.raises(InterruptedError, match="killed"):
        execute(task, attempt(1))
    engine.gate.set()
    execute(whole(), attempt(2))
    assert len(engine.submitted) == SEGMENTS
    require_whole(whole)


@pytest.mark.slow
def test_a_deferrable_task_frees_the_worker(
    whole: Whole, engine: MirrorEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_modelslab.operators.whole_clip._DEFER_AFTER", 0.05)
    engine.gate = threading.Event()
    deferred = deferral_of(whole(deferrable=True, max_in_flight=3), attempt(1))
    assert len(engine.submitted) == 3
    engine.gate.set()
    manifest = to_the_end(lambda: whole(deferrable=True, max_in_flight=3), deferred, attempt(1))
    assert (manifest["segments"], len(engine.submitted)) == (SEGMENTS, SEGMENTS)
    require_whole(whole)


@pytest.mark.slow
def test_a_failed_job_is_not_paid_for_a_third_time_after_a_deferral(
    whole: Whole, engine: MirrorEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_modelslab.operators.whole_clip._DEFER_AFTER", 0.05)
    engine.gate, engine.fails = threading.Event(), 100
    deferred = deferral_of(whole(deferrable=True, max_in_flight=1), attempt(1))
    engine.gate.set()
    with pytest.raises(JobFailedError):
        to_the_end(lambda: whole(deferrable=True, max_in_flight=1), deferred, attempt(1))
    assert len({strip_query(request.init_video) for request in engine.submitted}) == len(engine.submitted) - 1


@pytest.mark.slow
def test_a_cap_on_jobs_ends_the_clip_and_more_goes_on(whole: Whole, engine: MirrorEngine) -> None:
    with pytest.raises(AirflowFailException, match="budget"):
        execute(whole(max_jobs=2), attempt(1))
    assert len(engine.submitted) == 2
    execute(whole(max_jobs=4), attempt(2))
    assert len(engine.submitted) == SEGMENTS
    require_whole(whole)


# -- one task submits, another waits, a third lands -------------------------------------------------------------------


def land(submitted: dict[str, Any], **changes: Any) -> Any:
    task = ModelsLabVideo2VideoToS3Operator(task_id="land", job=through_serde(submitted), **changes)
    return execute(task, context_of(TaskInstance(task_id="land", run_id="run 1")))


@pytest.mark.parametrize("deferrable", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_sensor_waits_for_all_jobs_and_another_task_lands_them(
    whole: Whole, engine: MirrorEngine, deferrable: bool
) -> None:
    engine.gate = threading.Event()
    submitted = execute(whole(wait_for_completion=False), attempt(1))
    assert (submitted["status"], len(submitted["running"]), len(engine.submitted)) == ("submitted", SEGMENTS, SEGMENTS)
    assert "out/clip.mp4" not in keys_of(whole.s3, whole.bucket)

    def sensor() -> ModelsLabVideo2VideoSensor:
        job = through_serde(submitted)
        return ModelsLabVideo2VideoSensor(task_id="wait", job=job, deferrable=deferrable, poke_interval=0.05)

    deferred = deferral_of(sensor()) if deferrable else None
    assert not sensor().poke(attempt(1)).is_done
    engine.gate.set()
    finished = to_the_end(sensor, deferred) if deferred else execute(sensor())
    assert finished == {**submitted, "status": "finished"}
    manifest = land(finished)
    require_whole(whole)
    assert (manifest["status"], manifest["uri"], manifest["segments"]) == ("landed", whole.destination, SEGMENTS)
    assert manifest["jobs"] == [job["job_id"] for job in submitted["running"]]
    assert land(finished) == manifest
    assert execute(whole(), attempt(2)) == manifest
    assert execute(ModelsLabVideo2VideoSensor(task_id="wait", job=manifest, deferrable=False)) == manifest
    assert len(engine.submitted) == SEGMENTS


def test_a_task_that_does_not_wait_keeps_to_its_window_and_lands_what_ends(whole: Whole, engine: MirrorEngine) -> None:
    engine.gate, real = threading.Event(), engine.check
    engine.gate.set()

    def hold_the_last(request: Any) -> None:
        real(request)
        if len(engine.submitted) == SEGMENTS and engine.gate is not None:
            engine.gate.clear()

    engine.check = hold_the_last  # type: ignore[method-assign]
    submitted = execute(whole(wait_for_completion=False, max_in_flight=1), attempt(1))
    engine.gate.set()
    assert [job["number"] for job in submitted["running"]] == [SEGMENTS]
    assert len([key for key in keys_of(whole.s3, whole.bucket) if key.endswith(".mp4") and ".segments/" in key]) == 4
    land(submitted, destination=whole.destination)
    require_whole(whole)
    assert len(engine.submitted) == SEGMENTS


@pytest.mark.slow
def test_landing_pays_for_nothing(whole: Whole, engine: MirrorEngine) -> None:
    engine.gate, engine.fails = threading.Event(), 1
    submitted = execute(whole(wait_for_completion=False), attempt(1))
    engine.gate.set()
    with pytest.raises(JobFailedError):
        execute(ModelsLabVideo2VideoSensor(task_id="wait", job=submitted, deferrable=False, poke_interval=0.05))
    with pytest.raises(InvalidRequestError) as refused:
        land(submitted)
    assert (list(refused.value.fields), len(engine.submitted)) == (["job"], SEGMENTS)
    land(execute(whole(wait_for_completion=False), attempt(2)))
    assert len(engine.submitted) == SEGMENTS + 1
    require_whole(whole)


@pytest.mark.parametrize(
    ("changes", "field_"), [({"request": {}}, "model_id"), ({"overlap": -1}, "overlap"), ({"source": ...}, "job")]
)
def test_a_manifest_of_a_whole_clip_that_is_not_complete_is_refused(
    whole: Whole, engine: MirrorEngine, changes: dict[str, Any], field_: str
) -> None:
    engine.gate = threading.Event()
    submitted = {**execute(whole(wait_for_completion=False), attempt(1)), **changes}
    engine.gate.set()
    if submitted["source"] is ...:
        del submitted["source"]
    with pytest.raises(InvalidRequestError) as refused:
        land(submitted)
    assert field_ in refused.value.fields


def test_a_whole_clip_lands_nowhere_else(whole: Whole) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        land(
            {"clip_mode": "whole", "status": "submitted", "destination": whole.destination},
            destination="s3://elsewhere/k.mp4",
        )
    assert list(refused.value.fields) == ["destination"]


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "field_", "text"),
    [
        ({"overlap": FRAMES}, "overlap", "less than"),
        ({"max_segments": 3}, "max_segments", f"{SEGMENTS} segments"),
        ({"output_type": "gif", "destination": None, "audio": "require"}, "audio", "gif"),
        ({"output_type": "gif", "destination": None, "fps": 300}, "output_type", "450 frames"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_paid(
    whole: Whole, engine: MirrorEngine, arguments: dict[str, Any], field_: str, text: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        execute(whole(**arguments), attempt(1))
    assert text in " ".join(refused.value.fields[field_])
    assert engine.submitted == []


def test_a_source_without_a_frame_rate_needs_one(whole: Whole, engine: MirrorEngine) -> None:
    write_mp4(grey_frames(1), whole.folder / "in.mp4", 25)
    whole.s3.upload_file(str(whole.folder / "in.mp4"), whole.bucket, "in/in.mp4")
    with pytest.raises(InvalidRequestError) as refused:
        execute(whole(), attempt(1))
    assert (list(refused.value.fields), engine.submitted) == (["fps"], [])


@pytest.mark.slow
def test_a_source_without_sound_gives_a_result_without(whole: Whole, engine: MirrorEngine) -> None:
    whole.put(codec=None)
    with pytest.raises(InvalidRequestError) as refused:
        execute(whole(audio="require"), attempt(1))
    assert (list(refused.value.fields), engine.submitted) == (["audio"], [])
    assert execute(whole(), attempt(2))["audio"] is None
    require_whole(whole, sound=False)


@pytest.mark.slow
def test_sound_that_cannot_be_decoded_is_left_out_and_told(whole: Whole, engine: MirrorEngine) -> None:
    whole.put(codec="alac")
    path = whole.folder / "in.mp4"
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux(audio=0):
            if packet.size and packet.pos is not None:
                data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    whole.s3.put_object(Bucket=whole.bucket, Key="in/in.mp4", Body=bytes(data))
    with pytest.raises(InvalidRequestError) as refused:
        execute(whole(audio="require"), attempt(1))
    assert (list(refused.value.fields), engine.submitted) == (["audio"], [])
    manifest = execute(whole(), attempt(2))
    assert manifest["audio"] is None
    assert "sound" in manifest["audio_problem"]
    require_whole(whole, sound=False)


def test_a_result_with_fewer_frames_than_asked_for_names_the_segment(whole: Whole, engine: MirrorEngine) -> None:
    engine.short_by = 1
    with pytest.raises(LandingError, match=rf"segment 1 of 4 .* has {FRAMES - 1} frames, but {FRAMES}"):
        execute(whole(), attempt(1))
    with pytest.raises(LandingError):
        execute(whole(), attempt(2))
    assert len(engine.submitted) == SEGMENTS


@pytest.mark.parametrize("arguments", [{"land_result": False}, {"fallback": [{"model_id": "m"}]}])
def test_what_does_not_go_together_is_refused_when_the_dag_is_parsed(whole: Whole, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        whole(**arguments)


@pytest.mark.parametrize("arguments", [{"clip_mode": "all"}, {"audio": "mute"}, {"overlap": -1}, {"max_segments": 0}])
def test_values_that_are_not_allowed_are_refused_when_the_dag_is_parsed(
    whole: Whole, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        whole(**arguments)
    assert list(refused.value.fields) == list(arguments)


def test_options_of_a_whole_clip_are_refused_for_a_sample(whole: Whole) -> None:
    with pytest.raises(ValueError, match="overlap, audio"):
        whole(clip_mode="sample", audio="keep")


# -- command line and TaskFlow ----------------------------------------------------------------------------------------


def test_a_command_makes_a_whole_clip_and_finds_it_again(whole: Whole, engine: MirrorEngine, airflow: Shell) -> None:
    words = ["submit", f"s3://{whole.bucket}/in/in.mp4", "--to", whole.destination, "--model-id", "dark-sushi-mix"]
    words += ["--prompt", "a fox", "--width", "64", "--height", "48", "--num-frames", str(FRAMES), "--overlap", "2"]
    words += ["--clip-mode", "whole", "--yes", "--output", "json"]
    assert airflow(*words) == 0, airflow.err
    manifest = json.loads(airflow.out)
    assert f"{SEGMENTS} jobs to submit" in airflow.err
    require_whole(whole)
    assert airflow(*words) == 0, airflow.err
    assert json.loads(airflow.out) == manifest
    assert len(engine.submitted) == SEGMENTS
    assert airflow(*words, "--again", "--no-wait") != 0
    assert "--no-wait" in airflow.err


@pytest.mark.slow
def test_a_function_may_name_the_clip(whole: Whole, engine: MirrorEngine) -> None:
    arguments: dict[str, Any] = {"num_frames": FRAMES, "clip_mode": "whole", "overlap": OVERLAP, "height": 48}
    arguments |= {"destination": whole.destination, "max_poll_interval": 0.1, "poll_interval": 0.02}

    def restyle() -> dict[str, Any]:
        return {"init_video": f"s3://{whole.bucket}/in/in.mp4", "prompt": "a fox", "model_id": "m", "width": 64}

    with DAG("restyling", schedule=None) as dag:
        modelslab_video2video_task(**arguments)(restyle)()
    task = dag.get_task("restyle")
    assert isinstance(task, BaseOperator)
    manifest = execute(task, attempt(1))
    assert (manifest["segments"], len(engine.submitted)) == (SEGMENTS, SEGMENTS)
    require_whole(whole)
