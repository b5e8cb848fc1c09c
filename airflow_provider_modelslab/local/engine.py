"""The endpoint's work on this machine: a request in, a clip out. Loads once, generates many.

torch and diffusers are imported with the first clip, so importing this module costs nothing.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError, ModelsLabError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.families.base import LoadedModel
from airflow_provider_modelslab.local.families.registry import family_of
from airflow_provider_modelslab.local.media.aspect import KEEP_ASPECT, KeepAspect
from airflow_provider_modelslab.local.media.decode import read_frames, resize_frames
from airflow_provider_modelslab.local.media.fetch import DownloadStoppedError, FetchLimits, fetch_clip
from airflow_provider_modelslab.local.media.output import write_clip
from airflow_provider_modelslab.local.model_runner import ModelRunner
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.models.load_lock import GATE
from airflow_provider_modelslab.local.plan import DenoisingPass, Plan, plan_whole
from airflow_provider_modelslab.local.progress import GenerationInterruptedError, StepProgress
from airflow_provider_modelslab.local.runtime.devices import DTYPES, pick_device, pick_dtype
from airflow_provider_modelslab.local.runtime.memory import default_budget
from airflow_provider_modelslab.local.runtime.model_cache import ModelCache
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from airflow_provider_modelslab.local.stage_types import (
    Generated,
    Prepared,
    Rendered,
    plan_key,
)
from airflow_provider_modelslab.local.validation import merge, unsupported_by_endpoint
from airflow_provider_modelslab.local.whole_clip import WholeResult, open_source, render_whole

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Generated", "GenerationInterruptedError", "LocalEngine", "Prepared", "Rendered"]

log = logging.getLogger(__name__)


class LocalEngine:
    """Makes clips on this machine; models stay loaded within a budget, and one clip at a time is rendered.

    Threads may share an engine: reading and writing clips overlap, the device is under a lock.

    :param model_dir: the folder of models, motion modules and LoRAs, see :mod:`~.catalog`.
    :param cache_dir: where the built-in ``tiny`` model is kept; by default the user's cache folder.
    :param device: ``auto`` (the GPU where there is one, else the CPU) or a torch device such as ``cuda:1``.
    :param dtype: ``auto`` (float32 on the CPU, bfloat16 on a GPU that has it, else float16) or a torch type's name.
    :param limits: for the download of ``init_video``.
    :param catalog_file: the user's own names, see :mod:`~.catalog_file`, or a mapping with the content of such a file;
        by default ``catalog.json`` (or ``.yaml``) in ``model_dir``.
    :param offline: take nothing from the Hugging Face Hub but what was downloaded before.
    :param allow_pickle: read weights in ``.bin``, ``.ckpt`` and ``.pt`` too. torch's loader for weights alone reads
        them, which refuses code; still, take them from people you trust.
    :param speed: how to run models; by default whatever is faster and changes no result.
    :param keep_aspect: what to do with a clip of another aspect ratio than the request's, see :data:`.KeepAspect`.
    :param memory_budget: bytes on the device that models may take together; the one used least recently goes first. A
        model that is larger is loaded alone, with a warning. By default see :func:`~.memory.default_budget`.
    :raises ValueError: for a ``dtype`` or ``keep_aspect`` that is none of these, a budget of nothing, or a
        catalog file that cannot be used.
    """

    def __init__(
        self,
        *,
        model_dir: Path | str | None = None,
        cache_dir: Path | str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        limits: FetchLimits | None = None,
        catalog_file: Path | str | Mapping[str, Any] | None = None,
        offline: bool = False,
        allow_pickle: bool = False,
        speed: Optimizations | None = None,
        keep_aspect: KeepAspect = "stretch",
        memory_budget: int | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
        if keep_aspect not in KEEP_ASPECT:
            raise ValueError(f"keep_aspect must be one of {', '.join(KEEP_ASPECT)}; got {keep_aspect!r}")
        if memory_budget is not None and memory_budget <= 0:
            raise ValueError(f"memory_budget must be more than 0 bytes, or None; got {memory_budget}")
        self.catalog = Catalog(
            Path(model_dir) if model_dir else None,
            Path(cache_dir) if cache_dir else None,
            catalog_file=Path(catalog_file) if isinstance(catalog_file, str) and catalog_file else catalog_file or None,
            offline=offline,
            allow_pickle=allow_pickle,
        )
        self.limits = limits or FetchLimits()
        self._device = device
        self._dtype = dtype
        self._speed = speed or Optimizations()
        self._keep_aspect = keep_aspect
        self._lock = threading.Lock()
        self._models = ModelCache(lambda: memory_budget or default_budget(pick_device(device)))
        self._runner = ModelRunner(self.catalog, self._models, self._speed)

    @property
    def device(self) -> str:
        """The device as it was given."""
        return self._device

    @property
    def model_count(self) -> int:
        """Models in memory now."""
        return len(self._models)

    def loaded(self) -> list[dict[str, Any]]:
        """The models in memory now, see :meth:`.cache.ModelCache.loaded`. Any thread, at once."""
        return self._models.loaded()

    def preload(self, model_id: str) -> None:
        """Load a model now, so that its first clip does not wait for it. A clip that comes meanwhile does.

        :raises InvalidRequestError: when there is no such model, or it cannot be used.
        :raises JobFailedError: when the Hub does not answer.
        """
        spec = self.catalog.prepare(self.catalog.lookup(model_id))
        device = pick_device(self._device)
        with self._lock:
            self._runner.load(spec, device, pick_dtype(self._dtype, device))

    def clear_cache(self) -> None:
        """Give the models' memory back, after the generation that is running; the next one loads its own again."""
        with self._lock:
            self._models.clear()

    def check(self, request: Video2VideoRequest) -> None:
        """Refuse what cannot be done as asked, before any work. ``init_video`` is not opened.

        The limits are those of the model's family. Of a repository on the Hub a few kB are downloaded, see
        :meth:`.catalog.Catalog.lookup`.

        :raises InvalidRequestError: naming every attribute at fault.
        :raises JobFailedError: when the Hub does not answer.
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
        :param should_stop: asked while the clip is downloaded, before the model starts and after each step; ``True``
            ends the work.
        :raises InvalidRequestError: when the request cannot be done, or ``init_video`` is no clip.
        :raises ClipUnreadableError: when the clip cannot be decoded.
        :raises JobFailedError: when the model fails, for example for want of memory.
        :raises GenerationInterruptedError: when ``should_stop`` said so.
        """
        prepared = self.prepare(request, should_stop=should_stop)
        return self.encode(self.render(prepared, on_step=on_step, should_stop=should_stop), output)

    def prepare(self, request: Video2VideoRequest, *, should_stop: Callable[[], bool] | None = None) -> Prepared:
        """The first stage: decide every setting, draw the seed, fetch the model's files and the clip, and decode that.

        Any thread; no model is loaded. Later stages download nothing.

        :param should_stop: asked while the clip is downloaded.
        :raises InvalidRequestError: when the request cannot be done, or ``init_video`` is no clip.
        :raises ClipUnreadableError: when the clip cannot be decoded.
        :raises JobFailedError: when the model is not here and the Hub does not answer, or the machine is too busy.
        :raises GenerationInterruptedError: when ``should_stop`` said so.
        """
        started = time.monotonic()
        plan = self._plan(request, ready=True).with_seed(secrets.randbits(32) if request.seed is None else request.seed)
        plan = self._fetch(plan)
        if plan.whole is not None:
            whole = open_source(request, plan.whole, lambda folder: self._clip(request.init_video, folder, should_stop))
            plan = replace(plan, fps=whole.fps)
            return Prepared(request, plan, (), whole.probe.fps, time.monotonic() - started, whole)
        size = (plan.passes[0].width, plan.passes[0].height)
        frames, source_fps = self._source(request.init_video, plan.frames, size, should_stop)
        if frames[0].size != size:
            plan = plan.with_size(*frames[0].size)
        return Prepared(request, plan, tuple(frames), source_fps, time.monotonic() - started)

    def render(
        self,
        prepared: Prepared,
        *,
        on_step: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Rendered:
        """The second stage: run the model, one clip at a time; a call waits for the one before it.

        :param on_step: as in :meth:`generate`; also ``should_stop``, which is not asked during the wait.
        :raises InvalidRequestError: when a motion module's or LoRA's file does not fit the model.
        :raises JobFailedError: when the model fails, for example for want of memory.
        :raises GenerationInterruptedError: when ``should_stop`` said so.
        """
        plan, frames = self._fetch(prepared.plan), list(prepared.frames)
        device = pick_device(self._device)
        dtype = pick_dtype(self._dtype, device)
        progress = StepProgress(plan.calls, on_step, should_stop)
        notes: dict[str, Any] = {}
        whole: WholeResult | None = None
        with self._lock:
            started = time.monotonic()
            progress.step(0)
            if prepared.whole is not None:
                whole = render_whole(
                    prepared.whole,
                    plan,
                    prepared.request.output_type or "mp4",
                    progress,
                    keep_aspect=self._keep_aspect,
                    with_model=lambda work, **options: self._runner.run(plan, device, dtype, work, **options),
                )
                notes |= {**prepared.whole.facts, **whole.notes}
            for job in plan.passes if whole is None else ():
                frames = resize_frames(frames, job.width, job.height)
                if job.calls:
                    frames, told = self._run(plan, job, frames, device, dtype, progress.step)
                    progress.before += job.calls
                    notes |= told
            seconds = prepared.seconds + time.monotonic() - started
        notes |= {
            "source_fps": prepared.source_fps, "device": device, "dtype": str(dtype).removeprefix("torch.")
        }  # fmt: skip
        return Rendered(prepared.request, plan, tuple(frames), notes, seconds, whole)

    def encode(self, rendered: Rendered, output: Path) -> Generated:
        """The last stage: write the clip, see :meth:`generate`. Any thread.

        :raises JobFailedError: when it cannot be written.
        """
        started = time.monotonic()
        request, plan = rendered.request, rendered.plan
        if rendered.whole is not None:
            encoded = rendered.whole.copy_to(output)
        else:
            encoded = write_clip(rendered.frames, output, request.output_type or "mp4", plan.fps)
        meta = {**request.record(), **plan.used(), **encoded, **rendered.notes}
        return Generated(output, meta, rendered.seconds + time.monotonic() - started)

    def model_key(self, request: Video2VideoRequest) -> tuple[Any, ...]:
        """What to sort clips by, so that those come together which share model, motion module, LoRAs, size and steps.

        Texts and numbers, hashable. Nothing is downloaded.

        :raises InvalidRequestError: when the request cannot be done.
        """
        return plan_key(self._plan(request, ready=False))

    def _plan(self, request: Video2VideoRequest, *, ready: bool) -> Plan:
        """What is to be run.

        :param ready: have the model's files here first, which tell the last about it; else nothing is downloaded.
        """
        fields = unsupported_by_endpoint(request)
        try:
            spec = self.catalog.lookup(request.model_id)
            if ready and spec.source.path is None:
                spec = self.catalog.prepare(spec)
        except InvalidRequestError as error:
            raise InvalidRequestError.of_fields(merge(_listed(error), fields)) from None
        try:
            family = family_of(spec)
            plan = plan_whole(family.plan(request, spec, self.catalog), request, family.no_windows)
        except InvalidRequestError as error:
            raise InvalidRequestError.of_fields(merge(_listed(error), fields)) from None
        if fields:
            raise InvalidRequestError.of_fields(fields)
        return plan

    def _fetch(self, plan: Plan) -> Plan:
        """The plan with all its files here: no download may hold up those who wait for the device, or to load.

        Another engine may have prepared the plan, so :meth:`render` asks once more, for nothing as a rule.
        """
        if not plan.calls:
            return plan
        try:
            return family_of(plan.model).fetch(plan, self.catalog, self._speed)
        except ModelsLabError:
            raise
        except ValueError as error:  # a setting of the engine that cannot work
            raise JobFailedError(str(error)) from error

    def _source(
        self, link: str, count: int, size: tuple[int, int], should_stop: Callable[[], bool] | None
    ) -> tuple[list[Image], float]:
        with tempfile.TemporaryDirectory(prefix="modelslab-") as folder:
            clip = self._clip(link, Path(folder), should_stop)
            return read_frames(clip, count, size=size, keep_aspect=self._keep_aspect)

    def _clip(self, link: str, folder: Path, should_stop: Callable[[], bool] | None) -> Path:
        try:
            return fetch_clip(link, folder, limits=self.limits, should_stop=should_stop)
        except DownloadStoppedError as error:
            raise GenerationInterruptedError(str(error)) from None

    def _run(
        self,
        plan: Plan,
        job: DenoisingPass,
        frames: list[Image],
        device: str,
        dtype: Any,
        on_step: Callable[[int], None],
    ) -> tuple[list[Image], dict[str, Any]]:
        """The pictures, and what the model notes."""

        def step(done: int) -> None:
            on_step(done)
            GATE.pause()

        def work(model: LoadedModel) -> tuple[list[Image], dict[str, Any]]:
            return model.run(frames, job, on_step=step), model.notes()

        return self._runner.run(plan, device, dtype, work, frames=len(frames), size=frames[0].size)


def _listed(error: InvalidRequestError) -> dict[str, list[str]]:
    return {name: list(texts) for name, texts in error.fields.items()}
