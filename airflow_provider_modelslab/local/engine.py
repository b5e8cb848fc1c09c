"""The endpoint's work on this machine: a request in, a clip out. Loads once, generates many.

torch and diffusers are imported with the first clip, so importing this module costs nothing.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import JobFailedError, ModelsLabError, RequestValidationError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.catalog import Catalog
from airflow_provider_modelslab.local.decode import read_frames, resize_frames
from airflow_provider_modelslab.local.devices import DTYPES, explain_failure, free_memory, pick_device, pick_dtype
from airflow_provider_modelslab.local.families import LoadedModel, family_of
from airflow_provider_modelslab.local.fetch import FetchLimits, fetch_clip
from airflow_provider_modelslab.local.output import write_clip
from airflow_provider_modelslab.local.plan import Pass, Plan
from airflow_provider_modelslab.local.specs import ModelSpec
from airflow_provider_modelslab.local.support import beyond_page, merge

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
        as encoded, the drawn ``seed``, steps and guidance of the motion module where the request had none), links
        without their query; and ``denoising_steps`` run in all, ``improved_sampling_iterations``, ``scheduler``,
        ``model_family``, ``source_fps`` (0 if unknown), ``device`` and ``dtype``. JSON.
    :param seconds: wall-clock time, from the download to the written file.
    """

    path: Path
    meta: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class LocalEngine:
    """Makes clips on this machine; one model stays loaded, and is used by one generation at a time.

    Threads may share an engine: reading and writing clips overlap, the model is under a lock.

    :param model_dir: the folder of models, motion modules and LoRAs, see :mod:`~.catalog`.
    :param cache_dir: where the built-in ``tiny`` model is kept; by default the user's cache folder.
    :param device: ``auto`` (the GPU where there is one, else the CPU) or a torch device such as ``cuda:1``.
    :param dtype: ``auto`` (float32 on the CPU, bfloat16 on a GPU that has it, else float16) or a torch type's name.
    :param limits: for the download of ``init_video``.
    :param catalog_file: the user's own names, see :mod:`~.catalog_file`; by default ``catalog.json`` (or ``.yaml``) in
        ``model_dir``.
    :param offline: take nothing from the Hugging Face Hub but what was downloaded before.
    :param allow_pickle: read weights in ``.bin``, ``.ckpt`` and ``.pt`` too. torch's loader for weights alone reads
        them, which refuses code; still, take them from people you trust.
    :raises ValueError: for a ``dtype`` that is none of these, or a catalog file that cannot be used.
    """

    def __init__(
        self,
        *,
        model_dir: Path | str | None = None,
        cache_dir: Path | str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        limits: FetchLimits | None = None,
        catalog_file: Path | str | None = None,
        offline: bool = False,
        allow_pickle: bool = False,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
        self.catalog = Catalog(
            Path(model_dir) if model_dir else None,
            Path(cache_dir) if cache_dir else None,
            catalog_file=Path(catalog_file) if catalog_file else None,
            offline=offline,
            allow_pickle=allow_pickle,
        )
        self.limits = limits or FetchLimits()
        self._device = device
        self._dtype = dtype
        self._lock = threading.Lock()
        self._loaded: tuple[ModelSpec, LoadedModel] | None = None

    @property
    def model_count(self) -> int:
        """Models in memory now: 0 or 1."""
        return 0 if self._loaded is None else 1

    def clear_cache(self) -> None:
        """Give the model's memory back, after the generation that is running; the next one loads it again."""
        with self._lock:
            self._loaded = None
            free_memory()

    def check(self, request: Video2VideoRequest) -> None:
        """Refuse what cannot be done as asked, before any work. ``init_video`` is not opened.

        :raises RequestValidationError: naming every attribute at fault.
        """
        self._plan(request, ready=False)

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
        plan = self._plan(request, ready=True).with_seed(secrets.randbits(32) if request.seed is None else request.seed)
        frames, source_fps = self._source(request.init_video, plan.frames)
        device = pick_device(self._device)
        dtype = pick_dtype(self._dtype, device)
        progress = _Progress(plan.calls, on_step, should_stop)
        with self._lock:
            progress.step(0)
            for job in plan.passes:
                frames = resize_frames(frames, job.width, job.height)
                if job.calls:
                    frames = self._run(plan, job, frames, device, dtype, progress.step)
                    progress.before += job.calls
        encoded = write_clip(frames, output, request.output_type or "mp4", plan.fps)
        meta = {
            **request.record(),
            **plan.used(),
            **encoded,
            "source_fps": source_fps,
            "device": device,
            "dtype": str(dtype).removeprefix("torch."),
        }
        return Generated(output, meta, time.monotonic() - started)

    def _plan(self, request: Video2VideoRequest, *, ready: bool) -> Plan:
        """What is to be run.

        :param ready: have the model's files here first, which tell the last about it; else nothing is downloaded.
        """
        fields = beyond_page(request)
        try:
            spec = self.catalog.lookup(request.model_id)
            if ready and spec.source.path is None:
                spec = self.catalog.prepare(spec)
        except RequestValidationError as error:
            raise RequestValidationError.of_fields(merge(_listed(error), fields)) from None
        try:
            plan = family_of(spec).plan(request, spec, self.catalog)
        except RequestValidationError as error:
            raise RequestValidationError.of_fields(merge(_listed(error), fields)) from None
        if fields:
            raise RequestValidationError.of_fields(fields)
        return plan

    def _source(self, link: str, count: int) -> tuple[list[Image], float]:
        with tempfile.TemporaryDirectory(prefix="modelslab-") as folder:
            return read_frames(fetch_clip(link, Path(folder), limits=self.limits), count)

    def _run(
        self, plan: Plan, job: Pass, frames: list[Image], device: str, dtype: Any, on_step: Callable[[int], None]
    ) -> list[Image]:
        try:
            model = self._model(plan.model, device, dtype)
            model.prepare(plan)
            return model.run(frames, job, on_step=on_step)
        except (ModelsLabError, GenerationInterruptedError):
            raise
        except Exception as error:
            log.warning("%s failed", plan.model.id, exc_info=True)
            problem = explain_failure(error, frames)
        # Raised outside of the handler: the error's traceback would hold on to the tensors.
        free_memory()
        raise JobFailedError(f"{plan.model.id} failed on {device}: {problem}")

    def _model(self, spec: ModelSpec, device: str, dtype: Any) -> LoadedModel:
        if self._loaded is None or self._loaded[0] != spec:
            self._loaded = None  # the memory of the one before is free before the next one comes
            free_memory()
            self._loaded = (spec, family_of(spec).load(self.catalog.prepare(spec), self.catalog, device, dtype))
        return self._loaded[1]


class _Progress:
    """Counts the steps of all passes together."""

    def __init__(
        self, total: int, on_step: Callable[[int, int], None] | None, should_stop: Callable[[], bool] | None
    ) -> None:
        self.before = 0  # steps of the passes that are done
        self._total = total
        self._on_step = on_step
        self._should_stop = should_stop

    def step(self, done: int) -> None:
        done += self.before
        if self._on_step is not None and done:
            self._on_step(done, self._total)
        if self._should_stop is not None and self._should_stop():
            raise GenerationInterruptedError(f"stopped after {done} of {self._total} steps")


def _listed(error: RequestValidationError) -> dict[str, list[str]]:
    return {name: list(texts) for name, texts in error.fields.items()}
