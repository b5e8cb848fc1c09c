"""The endpoint's work on this machine: a request in, a clip out. Loads once, generates many.

torch and diffusers are imported with the first clip, so importing this module costs nothing.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import JobFailedError, ModelsLabError, RequestValidationError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.catalog import Catalog, ModelSpec
from airflow_provider_modelslab.local.decode import read_frames, resize_frames
from airflow_provider_modelslab.local.encode import write_gif, write_mp4
from airflow_provider_modelslab.local.fetch import FetchLimits, fetch_clip
from airflow_provider_modelslab.local.pipeline import (
    DTYPES,
    RunSettings,
    denoising_steps,
    load_pipeline,
    pick_device,
    pick_dtype,
    run_pipeline,
)
from airflow_provider_modelslab.local.support import beyond_model, unsupported

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Generated", "GenerationInterruptedError", "LocalEngine"]

log = logging.getLogger(__name__)


class GenerationInterruptedError(Exception):
    """The caller's ``should_stop`` said yes. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A finished clip.

    :param path: the clip.
    :param meta: every attribute of the request with the value that was really used (``width``, ``height`` and ``fps``
        as encoded, the drawn ``seed``), links without their query; and ``denoising_steps`` run, ``source_fps`` (0 if
        unknown), ``device`` and ``dtype``. JSON.
    :param seconds: wall-clock time, from the download to the written file.
    """

    path: Path
    meta: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class LocalEngine:
    """Makes clips on this machine; one model stays loaded, and is used by one generation at a time.

    Threads may share an engine: reading and writing clips overlap, the model is under a lock.

    :param model_dir: holds one folder for each model, see :class:`~.catalog.Catalog`.
    :param cache_dir: where the built-in ``tiny`` model is kept; by default the user's cache folder.
    :param device: ``auto`` (the GPU where there is one, else the CPU) or a torch device such as ``cuda:1``.
    :param dtype: ``auto`` (float32 on the CPU, bfloat16 on a GPU that has it, else float16) or a torch type's name.
    :param limits: for the download of ``init_video``.
    :raises ValueError: for a ``dtype`` that is none of these.
    """

    def __init__(
        self,
        *,
        model_dir: Path | str | None = None,
        cache_dir: Path | str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        limits: FetchLimits | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
        self.catalog = Catalog(Path(model_dir) if model_dir else None, Path(cache_dir) if cache_dir else None)
        self.limits = limits or FetchLimits()
        self._device = device
        self._dtype = dtype
        self._lock = threading.Lock()
        self._loaded: tuple[ModelSpec, Any] | None = None

    def check(self, request: Video2VideoRequest) -> None:
        """Refuse what cannot be done as asked, before any work. ``init_video`` is not opened.

        Attributes that change nothing pass, such as ``upscale_strength`` without a size, and those about delivery
        (``webhook``, ``temp``, ...), which are the caller's.

        :raises RequestValidationError: naming every attribute at fault.
        """
        self._checked(request)

    def generate(
        self,
        request: Video2VideoRequest,
        output: Path,
        *,
        on_step: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Generated:
        """Make the clip and write it to ``output``, whose folder is made; it appears there when it is whole.

        The kind is the request's ``output_type`` (mp4 by default), whatever the name of ``output``. An mp4 has even
        sides: odd ones lose a pixel. A gif plays at most 50 frames per second. Strength 0 gives the source's frames at
        the size and speed asked for. With a seed, the same request gives the same bytes on the same machine.

        :param on_step: called after each denoising step with the steps done and the steps in all. It must not raise.
        :param should_stop: asked before the model starts and after each step; ``True`` ends the work.
        :raises RequestValidationError: when the request cannot be done, or ``init_video`` cannot be read.
        :raises JobFailedError: when the model fails, for example for want of memory.
        :raises GenerationInterruptedError: when ``should_stop`` said so.
        """
        started = time.monotonic()
        spec = self._checked(request)
        size = (request.width or spec.width, request.height or spec.height)
        frames, source_fps = self._source(request, size)
        guidance_scale = spec.guidance_scale if request.guidance_scale is None else request.guidance_scale
        settings = RunSettings(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt or "",
            steps=request.num_inference_steps,
            strength=request.strength,
            guidance_scale=guidance_scale,
            clip_skip=request.clip_skip,
            seed=secrets.randbits(32) if request.seed is None else request.seed,
        )
        steps = denoising_steps(settings.steps, settings.strength)

        def step_done(done: int) -> None:
            if on_step is not None and done:
                on_step(done, steps)
            if should_stop is not None and should_stop():
                raise GenerationInterruptedError(f"stopped after {done} of {steps} steps")

        device = pick_device(self._device)
        dtype = pick_dtype(self._dtype, device)
        with self._lock:
            step_done(0)
            if steps:
                frames = self._run(spec, device, dtype, frames, settings, step_done)
        encoded = _write(frames, output, request.output_type or "mp4", request.fps or spec.fps)
        meta = {
            **request.record(),
            **encoded,
            "guidance_scale": guidance_scale,
            "seed": settings.seed,
            "denoising_steps": steps,
            "source_fps": source_fps,
            "device": device,
            "dtype": str(dtype).removeprefix("torch."),
        }
        return Generated(output, meta, time.monotonic() - started)

    def _checked(self, request: Video2VideoRequest) -> ModelSpec:
        fields = unsupported(request)
        try:
            spec = self.catalog.lookup(request.model_id)
        except RequestValidationError as error:
            raise RequestValidationError.of_fields({**error.fields, **fields}) from None
        fields.update(beyond_model(request, spec))
        if fields:
            raise RequestValidationError.of_fields(fields)
        return spec

    def _source(self, request: Video2VideoRequest, size: tuple[int, int]) -> tuple[list[Image], float]:
        with tempfile.TemporaryDirectory(prefix="modelslab-") as folder:
            clip = fetch_clip(request.init_video, Path(folder), limits=self.limits)
            frames, fps = read_frames(clip, request.num_frames)
        return resize_frames(frames, *size), fps

    def _run(
        self,
        spec: ModelSpec,
        device: str,
        dtype: Any,
        frames: list[Image],
        settings: RunSettings,
        step_done: Callable[[int], None],
    ) -> list[Image]:
        try:
            if self._loaded is None or self._loaded[0] != spec:
                self._loaded = None  # the memory of the one before is free before the next one comes
                self.catalog.prepare(spec)
                self._loaded = (spec, load_pipeline(spec, device, dtype))
            return run_pipeline(self._loaded[1], frames, settings, on_step=step_done)
        except (ModelsLabError, GenerationInterruptedError):
            raise
        except Exception as error:
            log.warning("%s failed", spec.id, exc_info=True)
            problem = _explain(error, frames)
        # Raised outside of the handler: the error's traceback would hold on to the tensors.
        _free_memory()
        raise JobFailedError(f"{spec.id} failed on {device}: {problem}")


def _write(frames: list[Image], output: Path, kind: str, fps: int) -> dict[str, Any]:
    """Write the clip in one step; returns what it is, in the request's words."""
    part = output.with_name(f".{output.name}.{uuid.uuid4().hex}.part")
    width, height = frames[0].size
    real_fps: float = fps
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if kind == "gif":
            real_fps = write_gif(frames, part, fps)
        else:
            width, height = write_mp4(frames, part, fps)
        part.replace(output)
    except Exception as error:
        raise JobFailedError(f"The clip could not be written to {output}: {error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return {"output_type": kind, "width": width, "height": height, "fps": int(real_fps), "num_frames": len(frames)}


def _explain(error: Exception, frames: list[Image]) -> str:
    width, height = frames[0].size
    kind, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text:
        return f"out of memory for {len(frames)} frames of {width}x{height}; ask for fewer frames or a smaller size"
    if isinstance(error, ArithmeticError):
        return f"{text}; try dtype float32 or bfloat16"
    return f"{kind}: {text}"


def _free_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
