"""A real endpoint, a real S3 server over TLS, and Airflow connections that lead to both."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest
from airflow.sdk.execution_time import task_runner

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.cli import progress
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.connections import KEY, set_aws, set_modelslab
from tests.support.endpoint import Caller, serving
from tests.support.endpoint_engine import Clip, ScriptedEngine
from tests.support.files_server import FilesServer, ServedFile
from tests.support.s3 import S3Server, content_of
from tests.support.samples import small_mp4
from tests.support.shell import Shell
from tests.support.supervisor import OneThreadSupervisor

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FRAMES = 5


@pytest.fixture
def boto_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where obstore is not installed: then boto's events see each call."""
    monkeypatch.setitem(sys.modules, "obstore", None)


@dataclass
class WatchedEngine(ScriptedEngine):
    """Remembers every request that the endpoint took."""

    submitted: list[Video2VideoRequest] = field(default_factory=list)

    def check(self, request: Video2VideoRequest) -> None:
        super().check(request)
        self.submitted.append(request)


@dataclass
class Breakable(WatchedEngine):
    """Takes every job, and fails while it is broken; never those whose prompt contains ``easy``."""

    broken: bool = True

    def generate(self, request: Video2VideoRequest, output: Path, **options: Any) -> Clip:
        if self.broken and "easy" not in request.prompt:
            raise RuntimeError("the engine is broken")
        return super().generate(request, output, **options)


SPARE: dict[str, Any] = {"modelslab_conn_id": "spare"}
"""A place to fall back to: the endpoint of the fixture ``spare``."""

CREDITS = {"status": "error", "message": "Insufficient credits. Please add more credits to continue."}


@dataclass(frozen=True)
class Store:
    """What is in S3."""

    s3: S3Client

    def read(self, uri: str) -> bytes:
        return content_of(self.s3, uri)

    def content_type(self, uri: str) -> str:
        place = S3Uri.parse(uri)
        return self.s3.head_object(Bucket=place.bucket, Key=place.key)["ContentType"]

    def frames(self, uri: str) -> int:
        """How many frames of the object can be decoded."""
        with av.open(io.BytesIO(self.read(uri)), "r") as container:
            return sum(1 for _ in container.decode(video=0))


@pytest.fixture(autouse=True)
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[OneThreadSupervisor]:
    """Only the task's own thread asks its supervisor for connections and Variables, and to mask secrets."""
    supervisor = OneThreadSupervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    yield supervisor
    assert supervisor.by_other_threads == []


@pytest.fixture
def engine() -> WatchedEngine:
    return WatchedEngine()


@pytest.fixture
def gate(engine: WatchedEngine) -> Iterator[threading.Event]:
    """Jobs wait until it is set."""
    engine.gate = event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", api_keys=(KEY,), hold_s=120, allow_private_addresses=True)


@pytest.fixture
def endpoint(settings: Settings, engine: WatchedEngine) -> Iterator[Caller]:
    with serving(settings, engine) as caller:
        yield caller


@pytest.fixture
def spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WatchedEngine]:
    """A second endpoint with a connection of its own, which leads to no bucket."""
    engine = WatchedEngine()
    settings = Settings(state_dir=tmp_path / "spare", api_keys=(KEY,), hold_s=120, allow_private_addresses=True)
    with serving(settings, engine) as caller:
        set_modelslab(monkeypatch, caller.url, conn_id="spare")
        yield engine


@pytest.fixture
def s3_connection(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    set_aws(monkeypatch, s3_server)


@pytest.fixture
def s3_extra(s3_server: S3Server, bucket: str) -> dict[str, Any]:
    """The S3 profile in the extra of the connection."""
    return {
        "bucket": bucket,
        "prefix": "styled",
        "region": s3_server.region,
        "endpoint_url": s3_server.endpoint_url,
        "public_url": f"{s3_server.endpoint_url}/{bucket}",
    }


@pytest.fixture
def connections(
    endpoint: Caller, s3_connection: None, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``modelslab_default`` and ``aws_default``."""
    set_modelslab(monkeypatch, endpoint.url, **s3_extra)


@pytest.fixture
def store(s3: S3Client) -> Store:
    return Store(s3)


@pytest.fixture(scope="module")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The models of a file's tests are made once, and in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def clip(files: FilesServer) -> str:
    """An http link to a clip."""
    return files.add("/in.mp4", ServedFile(small_mp4(), "video/mp4"))


@dataclass(frozen=True)
class Restyle:
    """Makes the operator, as each parse of the Dag does."""

    clip: str
    common: dict[str, Any] = field(default_factory=dict)

    def __call__(self, **changes: Any) -> ModelsLabVideo2VideoOperator:
        arguments = {
            "model_id": "dark-sushi-mix",
            "prompt": "a fox",
            "init_video": self.clip,
            "num_frames": FRAMES,
            "seed": 11,
            "poll_interval": 0.02,
            "max_poll_interval": 0.1,
            "timeout": 600,
            **changes,
        }
        return ModelsLabVideo2VideoOperator(task_id="restyle", **arguments)


@pytest.fixture
def restyle(clip: str) -> Restyle:
    return Restyle(clip)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that watch a job look at it often."""
    monkeypatch.setattr(progress, "INTERVALS", (0.02, 0.1))
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")  # so that what the commands set is taken back


@pytest.fixture
def airflow(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def submit(airflow: Shell, clip: str, bucket: str) -> Callable[..., Any]:
    """``submit`` with a request and a destination; the manifest, or what was printed where a code is expected."""

    def call(*words: str, prompt: str = "a fox", code: int = 0, to: str = f"s3://{bucket}/out.mp4") -> Any:
        line = ["submit", clip, "--model-id", "dark-sushi-mix", "--prompt", prompt, "--num-frames", str(FRAMES)]
        line += ["--to", to, "--yes", *words]
        assert airflow(*line, "--output", "json") == code, airflow.err
        return json.loads(airflow.out) if code == 0 else airflow.err

    return call
