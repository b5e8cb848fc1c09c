"""A small real engine without torch: writes real clips, and waits, fails or stops when a test says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from PIL import Image

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest

SIDE = 64  # pixels
FPS = 7
GUIDANCE = 7.5


class Gate(Protocol):
    """What jobs wait for; a :class:`threading.Event` is one."""

    def wait(self, timeout: float) -> bool:
        """Whether jobs may go on, after at most ``timeout`` seconds."""


@dataclass(frozen=True)
class FileGate:
    """Open once a file exists, for engines in other processes."""

    path: Path

    def wait(self, timeout: float) -> bool:
        if not self.path.exists():
            time.sleep(timeout)
        return self.path.exists()


@dataclass(frozen=True)
class Clip:
    path: Path
    meta: dict[str, Any]
    seconds: float


@dataclass
class ScriptedEngine:
    """Makes a clip of plain colours.

    A model called ``unknown`` is refused by ``check``; a prompt with ``unreadable`` fails as a bad clip does, one with
    ``crash`` as a bug does.

    :param gate: each job waits for it.
    """

    gate: Gate | None = None
    prompts: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    stopped: int = 0
    cleared: threading.Event = field(default_factory=threading.Event)
    busy: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    model_count: int = 1

    def check(self, request: Video2VideoRequest) -> None:
        request.check_vendor_limits()
        if request.extra_parameters:
            raise InvalidRequestError.of_fields({name: ["is unknown"] for name in request.extra_parameters})
        if request.model_id == "unknown":
            raise InvalidRequestError.of("model_id", "is not in the catalog; got 'unknown'")

    def generate(
        self, request: Video2VideoRequest, output: Path, *, should_stop: Callable[[], bool] | None = None
    ) -> Clip:
        started = time.perf_counter()
        self.prompts.append(request.prompt)
        self.busy.release()
        self._wait(should_stop)
        if "unreadable" in request.prompt:
            raise InvalidRequestError.of("init_video", f"is no clip; got {request.init_video!r}")
        if "crash" in request.prompt:
            raise KeyError(f"no such thing at {request.init_video}")
        clip = self._write(request, output, time.perf_counter() - started)
        self.finished.append(request.prompt)
        return clip

    def clear_cache(self) -> None:
        self.cleared.set()

    def _wait(self, should_stop: Callable[[], bool] | None) -> None:
        waiting = self.gate is not None
        while waiting:
            waiting = self.gate is not None and not self.gate.wait(0.01)
            if should_stop is not None and should_stop():
                self.stopped += 1
                raise InterruptedError("told to stop")

    def _write(self, request: Video2VideoRequest, output: Path, seconds: float) -> Clip:
        seed = request.seed or 0
        write_clip(output, frames=request.num_frames, side=SIDE, fps=FPS, seed=seed)
        meta = {
            "seed": seed,
            "width": SIDE,
            "height": SIDE,
            "fps": FPS,
            "num_frames": request.num_frames,
            "num_inference_steps": request.num_inference_steps,
            "guidance_scale": request.guidance_scale if request.guidance_scale is not None else GUIDANCE,
            "strength": request.strength,
            "device": "a key that the page does not have",
        }
        return Clip(output, meta, seconds)


@dataclass
class StagedEngine(ScriptedEngine):
    """The same in stages, with the models that it has "loaded".

    Jobs wait for ``gate`` while they render, for ``reading`` and ``writing`` in the stage of that name.

    :param only_slow: only clips of prompts with ``slow`` wait for ``reading``.
    :param room: how many models it keeps.
    :param device: what it says of itself.
    """

    reading: Gate | None = None
    writing: Gate | None = None
    only_slow: bool = False
    room: int = 1
    device: str = "cpu"
    read: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)

    def prepare(
        self, request: Video2VideoRequest, *, should_stop: Callable[[], bool] | None = None
    ) -> Video2VideoRequest:
        self.read.append(request.prompt)
        pass_gate(self.reading if "slow" in request.prompt or not self.only_slow else None, should_stop)
        if "unreadable" in request.prompt:
            raise InvalidRequestError.of("init_video", f"is no clip; got {request.init_video!r}")
        return request

    def render(
        self, prepared: Video2VideoRequest, *, should_stop: Callable[[], bool] | None = None
    ) -> Video2VideoRequest:
        if prepared.model_id not in self.models:
            self.loads.append(prepared.model_id)
            self.models = [*self.models, prepared.model_id][-self.room :]
        self.prompts.append(prepared.prompt)
        self.busy.release()
        self._wait(should_stop)
        if "crash" in prepared.prompt:
            raise KeyError(f"no such thing at {prepared.init_video}")
        self.finished.append(prepared.prompt)
        return prepared

    def encode(self, rendered: Video2VideoRequest, output: Path) -> Clip:
        pass_gate(self.writing)
        if "unwritable" in rendered.prompt:
            raise OSError("no space left")
        self.written.append(rendered.prompt)
        return self._write(rendered, output, 0.5)

    def loaded(self) -> list[dict[str, Any]]:
        return [{"model_id": name, "bytes": 1000, "last_used": 1.0} for name in self.models]


def pass_gate(gate: Gate | None, should_stop: Callable[[], bool] | None = None) -> None:
    """Return when the gate is open.

    :raises InterruptedError: when ``should_stop`` said so.
    """
    while gate is not None and not gate.wait(0.01):
        if should_stop is not None and should_stop():
            raise InterruptedError("told to stop reading")


def write_clip(path: Path, *, frames: int, side: int, fps: int, seed: int) -> None:
    """A real mp4 (H.264) or gif, by the suffix; the seed and the frame's number make its colours."""
    colours = [((seed + 40 * i) % 256, (seed // 256 + 80 * i) % 256, 120) for i in range(frames)]
    pictures = [Image.new("RGB", (side, side), colour) for colour in colours]
    if path.suffix == ".gif":
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=1000 // fps, loop=0)
        return
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        container.mux(stream.encode())
