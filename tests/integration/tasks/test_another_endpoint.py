"""What another ModelsLab endpoint costs: a request, its path and an operator. All else is there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pydantic import Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.operators.paid_job import PaidJobOperator
from tests.integration.tasks.conftest import FRAMES, Store, WatchedEngine
from tests.support.endpoint import VIDEO, Caller, serving
from tests.support.tasks import TaskInstance, context_of, deferral_of, execute, to_the_end

if TYPE_CHECKING:
    from airflow.sdk import Context


class Text2VideoRequest(EndpointRequest, frozen=True):
    """A video from a prompt alone."""

    path: ClassVar[str] = "enterprise/video/text2video"
    documented_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({"num_frames": 16})

    model_id: str
    prompt: str
    num_frames: int = Field(default=16, ge=1, le=25)


class Text2VideoOperator(PaidJobOperator):
    """Makes one video from a prompt."""

    template_fields: Sequence[str] = ("model_id", "prompt", "num_frames", *PaidJobOperator.destination_fields)
    request_class = Text2VideoRequest

    def __init__(self, *, model_id: str, prompt: str, num_frames: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model_id = model_id
        self.prompt = prompt
        self.num_frames = num_frames

    def build_request(self) -> Text2VideoRequest:
        at_once = {"instant_response": True}  # an attribute that the class above leaves out
        return Text2VideoRequest(
            model_id=self.model_id, prompt=self.prompt, num_frames=self.num_frames, extra_parameters=at_once
        )


class Text2Video:
    """Lets the served endpoint take text2video: its engine restyles a clip, so it gets one that nobody gave."""

    def __init__(self, app: ASGIApp, clip: str) -> None:
        self.app = app
        self.clip = clip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/text2video"):
            return await self.app(scope, receive, send)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        given = json.loads(body)
        assert "init_video" not in given
        changed = json.dumps({**given, "init_video": self.clip}).encode()

        async def replay() -> Message:
            nonlocal changed
            sent, changed = changed, b""
            return {"type": "http.request", "body": sent, "more_body": False} if sent else await receive()

        length = (b"content-length", str(len(changed)).encode())
        headers = [length, *(pair for pair in scope["headers"] if pair[0] != b"content-length")]
        return await self.app({**scope, "path": f"{VIDEO}/video2video", "headers": headers}, replay, send)


@pytest.fixture
def endpoint(settings: Settings, engine: WatchedEngine, clip: str) -> Iterator[Caller]:
    with serving(settings, engine, prepare=lambda app: app.add_middleware(Text2Video, clip=clip)) as caller:
        yield caller


def make(**changes: Any) -> Text2VideoOperator:
    arguments: dict[str, Any] = {
        "model_id": "m",
        "prompt": "a fox",
        "num_frames": FRAMES,
        "poll_interval": 0.02,
        "timeout": 60,
    }
    return Text2VideoOperator(task_id="draw", max_poll_interval=0.1, **arguments | changes)


def attempt(number: int, run: str = "run1") -> Context:
    return context_of(TaskInstance(run_id=run, task_id="draw", try_number=number, max_tries=3))


@pytest.mark.usefixtures("connections")
def test_it_is_paid_once_through_deferral_retry_and_clear(
    store: Store, engine: WatchedEngine, gate: threading.Event
) -> None:
    deferred = deferral_of(make(deferrable=True), attempt(1))
    killed = deferral_of(make(deferrable=True), attempt(2))  # the first one never resumed
    gate.set()
    manifest = to_the_end(lambda: make(deferrable=True), killed, attempt(2))
    assert store.frames(manifest["uri"]) == FRAMES
    assert to_the_end(lambda: make(deferrable=True), deferred, attempt(1))["sha256"] == manifest["sha256"]
    assert execute(make(), attempt(3)) == manifest
    (paid,) = engine.submitted
    assert (paid.prompt, paid.num_frames, paid.track_id) == ("a fox", FRAMES, "restyling.draw/run1/submission1")


@pytest.mark.usefixtures("connections")
def test_another_run_makes_its_own_and_another_prompt_too(engine: WatchedEngine) -> None:
    execute(make(), attempt(1))
    execute(make(), attempt(1, "run2"))
    execute(make(prompt="a wolf"), attempt(2))
    assert [request.prompt for request in engine.submitted] == ["a fox", "a fox", "a wolf"]


@pytest.mark.usefixtures("connections")
def test_lineage_tells_its_attributes(engine: WatchedEngine) -> None:
    task = make()
    execute(task, attempt(1))
    assert task._facts()["request"] == {"model_id": "m", "prompt": "a fox", "num_frames": FRAMES}
    assert task._read() == []
