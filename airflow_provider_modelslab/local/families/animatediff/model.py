"""A Stable Diffusion 1.5 model with motion modules in memory: dressing it for a request, and running it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.families.animatediff.assemble import (
    build_skeleton,
    fill_skeleton,
    skeleton_config,
    skeleton_key,
)
from airflow_provider_modelslab.local.families.animatediff.clip_run import AnimateDiffClipRun
from airflow_provider_modelslab.local.families.animatediff.deep_cache import DeepCache
from airflow_provider_modelslab.local.families.animatediff.denoise import denoise
from airflow_provider_modelslab.local.families.animatediff.guidance import Means
from airflow_provider_modelslab.local.families.animatediff.lora import LoraLayer, add_loras, read_lora
from airflow_provider_modelslab.local.families.animatediff.motion import (
    CONFIG_NAMES,
    MotionWeights,
    is_motion_key,
    read_motion,
)
from airflow_provider_modelslab.local.families.animatediff.prompt_attention import use_prompt_attention
from airflow_provider_modelslab.local.families.animatediff.prompt_embeddings import PromptMemory
from airflow_provider_modelslab.local.families.animatediff.schedulers import build_scheduler
from airflow_provider_modelslab.local.families.animatediff.tiny_vae import load_tiny_vae
from airflow_provider_modelslab.local.families.base import LoadedModel, run_padded
from airflow_provider_modelslab.local.models.inspection import read_json, weights_in
from airflow_provider_modelslab.local.models.specs import ModelSpec
from airflow_provider_modelslab.local.models.weights import Tensors, read_tensors, weight_files
from airflow_provider_modelslab.local.plan import DenoisingPass, LoraUse, Plan
from airflow_provider_modelslab.local.runtime.compile import compile_forward
from airflow_provider_modelslab.local.runtime.devices import lay_out, storage_bytes, vae_chunk
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers, load_transformers
from airflow_provider_modelslab.local.runtime.oom_fallback import MemoryFallback
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations

if TYPE_CHECKING:
    from PIL.Image import Image

    from airflow_provider_modelslab.local.families.windows import ContextWindows
    from airflow_provider_modelslab.local.models.catalog import Catalog

__all__ = ["AnimateDiffModel"]

log = logging.getLogger(__name__)

_MULTIPLE = 8  # Stable Diffusion's VAE makes one latent of 8 x 8 pixels; that of the model `demo` one of 4 x 4


class AnimateDiffModel(LoadedModel):
    """The weights as they were loaded, and a pipeline that wears some of them.

    The UNet is filled anew from the untouched tensors whenever the motion module or the set of LoRAs changes, so
    nothing of an earlier request is left, in any type. Motion modules of the same build share one UNet; one without a
    middle block has its own, around the same spatial tensors.
    """

    def __init__(
        self, spec: ModelSpec, catalog: Catalog, device: str, dtype: Any, speed: Optimizations | None = None
    ) -> None:
        self._name = spec.id
        self._catalog = catalog
        self._device = device
        self._dtype = dtype
        self._speed = speed or Optimizations()
        folder = spec.folder
        self._config = read_json(folder / "unet" / "config.json")
        files = weight_files(folder / "unet", "model_id", allow_pickle=catalog.allow_pickle)
        tensors = lay_out(read_tensors(files, device=device, dtype=dtype), device)
        self._spatial = {name: t for name, t in tensors.items() if not is_motion_key(name)}
        self._own: MotionWeights | None = None
        if spec.has_motion:
            motion = {name: t for name, t in tensors.items() if is_motion_key(name)}
            self._own = MotionWeights({name: self._config[name] for name in CONFIG_NAMES}, motion)
        elif spec.own_motion:
            self._own = self._read_motion(folder / "motion_adapter")
        self.pipeline = _load_pipeline(spec, catalog, device, dtype, self._speed)
        self._saved_scheduler = self.pipeline.scheduler.config
        self._text: Tensors = dict(self.pipeline.text_encoder.state_dict())
        self._motion: tuple[str, MotionWeights] | None = None
        self._shells: dict[tuple[str, ...], Any] = {}
        self._shell: tuple[str, ...] = ()  # the key of the one that is worn
        self._text_changed = False
        self._wearing: object = None
        self._deep: dict[tuple[str, ...], DeepCache] = {}
        self._prompts = PromptMemory()
        self._fallback = MemoryFallback(vae_chunk(device), lambda: self.make_room is not None and self.make_room())
        self._noted: dict[str, Any] = {}

    @property
    def bytes(self) -> int:
        """See :attr:`~.families.LoadedModel.bytes`: also of what a request may take off again."""
        motions = (self._own, self._motion[1] if self._motion else None)
        kept = [self._spatial, self._text, *(motion.tensors for motion in motions if motion)]
        worn = [self.pipeline.vae, self.pipeline.text_encoder, *self._shells.values()]
        return storage_bytes(
            tensor for part in (*kept, *(module.state_dict() for module in worn)) for tensor in part.values()
        )

    def prepare(self, plan: Plan) -> None:
        """See :meth:`~.families.LoadedModel.prepare`."""
        wanted = (plan.motion and (plan.motion.id, str(plan.motion.source)), plan.loras)
        if wanted == self._wearing:
            return
        self._wearing = None
        self._apply(plan)
        self._wearing = wanted

    def run(self, frames: Sequence[Image], job: DenoisingPass, *, on_step: Callable[[int], None]) -> list[Image]:
        """See :meth:`~.families.LoadedModel.run`."""
        means = self._begin(job, len(frames), *frames[0].size)
        self._noted = {}

        def run(padded: list[Image]) -> Any:
            return denoise(self.pipeline, padded, job, on_step=on_step, means=means)

        try:
            made = run_padded(frames, _MULTIPLE, run)
        finally:
            if means.deep is not None:
                means.deep.clear()
        self._noted = means.notes(job)
        return made

    def begin_clip(
        self, job: DenoisingPass, windows: ContextWindows, *, on_step: Callable[[int], None], pause: Callable[[], None]
    ) -> AnimateDiffClipRun:
        """See :meth:`~.families.LoadedModel.begin_clip`."""
        means = self._begin(job, windows.size, job.width, job.height)
        means.speed, means.deep = replace(means.speed, reuse_deep=1), None
        means.windows, means.pause = windows, pause
        return AnimateDiffClipRun(self.pipeline, job, means, multiple=_MULTIPLE, on_step=on_step)

    def _begin(self, job: DenoisingPass, frames: int, width: int, height: int) -> Means:
        """What a run may use.

        :param frames: that the UNet sees at once.
        """
        self.pipeline.scheduler = build_scheduler(job.scheduler, self._saved_scheduler)
        portions = self._fallback.of(frames, width, height)
        deep = self._deep.get(self._shell)
        if deep is not None:
            deep.clear()
        return Means(self._speed, self._prompts, portions, deep)

    def notes(self) -> dict[str, Any]:
        """``approximations`` and ``memory_fallback`` of the last run, if any; see :class:`~.Optimizations`."""
        return self._noted

    def _apply(self, plan: Plan) -> None:
        motion = self._motion_for(plan)
        if plan.frames > motion.max_frames:
            problem = f"must be at most {motion.max_frames}, the limit of the motion module; got {plan.frames}"
            raise InvalidRequestError.of("num_frames", problem)
        weights = {"unet": self._spatial | motion.tensors, "text_encoder": self._text}
        changed = self._changed_by_loras(plan, weights)
        self._shell = skeleton_key(motion.config)
        if self._shell not in self._shells:
            self._shells[self._shell] = self._new_shell(motion)
        unet, text_encoder = self._shells[self._shell], self.pipeline.text_encoder
        fill_skeleton(unet, weights["unet"] | lay_out(changed["unet"], self._device))
        if changed["text_encoder"] or self._text_changed:
            text_encoder.load_state_dict(self._text | changed["text_encoder"], assign=True)
            self._prompts.clear()
            self._text_changed = bool(changed["text_encoder"])
        self.pipeline.register_modules(unet=unet)

    def _new_shell(self, motion: MotionWeights) -> Any:
        shell = build_skeleton(skeleton_config(self._config, motion.config))
        use_prompt_attention(shell)
        if self._speed.reuse_deep > 1:
            self._deep[self._shell] = DeepCache(shell)
        if self._speed.compile:
            compile_forward(shell, self._name)
        return shell

    def _changed_by_loras(self, plan: Plan, weights: Mapping[str, Tensors]) -> dict[str, Tensors]:
        uses = list(plan.loras)
        if plan.motion is not None:
            uses += [LoraUse(spec, strength, "motion_module") for spec, strength in plan.motion.loras]
        layers = {target: _layers(tensors) for target, tensors in weights.items()} if uses else {}
        changed: dict[str, Tensors] = {target: {} for target in weights}
        loras: list[tuple[list[LoraLayer], float]] = []
        for use in uses:
            path = self._catalog.fetch(use.spec.source, use.field)
            read = read_lora(path, use.field, layers, allow_pickle=self._catalog.allow_pickle)
            _check_sizes(read, weights, use)
            loras.append((read, use.strength))
            log.info("%s: %s at %g changes %d layers", plan.model.id, use.spec.id, use.strength, len(read))
        for target, tensors in weights.items():
            changed[target] = add_loras(tensors, loras, target)
        return changed

    def _motion_for(self, plan: Plan) -> MotionWeights:
        if plan.motion is None:
            if self._own is None:
                raise InvalidRequestError.of("motion_module", f"{plan.model.id} has no motion modules of its own")
            return self._own
        source = plan.motion.source
        if self._motion is None or self._motion[0] != str(source):
            self._motion = None  # the memory of the one before is free before the next one comes
            for shell in self._shells.values():
                shell.to("meta")
            self._motion = (str(source), self._read_motion(self._catalog.fetch(source, "motion_module")))
        return self._motion[1]

    def _read_motion(self, path: Path) -> MotionWeights:
        allow_pickle = self._catalog.allow_pickle
        motion = read_motion(path, device=self._device, dtype=self._dtype, allow_pickle=allow_pickle)
        return replace(motion, tensors=lay_out(motion.tensors, self._device))


def _layers(tensors: Tensors) -> set[str]:
    return {name.removesuffix(".weight") for name in tensors if name.endswith(".weight")}


def _check_sizes(layers: list[LoraLayer], weights: Mapping[str, Tensors], use: LoraUse) -> None:
    for part in layers:
        size = tuple(weights[part.target][f"{part.layer}.weight"].shape)
        if not part.fits(size):
            raise InvalidRequestError.of(
                use.field,
                f"{use.spec.id} does not fit the model: {part.layer} has the size {size} in the model, "
                "but not in this file",
            )


def _load_pipeline(spec: ModelSpec, catalog: Catalog, device: str, dtype: Any, speed: Optimizations) -> Any:
    """All parts of the model but the UNet. No classes but these are used, whatever the folder names."""
    diffusers, transformers = load_diffusers(), load_transformers()
    folder = spec.folder

    def part(kind: Any, name: str) -> Any:
        weights, variant = weights_in(folder / name, allow_pickle=catalog.allow_pickle)
        options = {"use_safetensors": weights == "safetensors", "variant": variant, "local_files_only": True}
        return kind.from_pretrained(str(folder / name), dtype=dtype, **options).to(device).eval().requires_grad_(False)

    if speed.tiny_vae is not None:
        vae = load_tiny_vae(speed.tiny_vae, catalog, device, dtype)
    else:
        vae = part(diffusers.AutoencoderKL, "vae")
        vae.load_state_dict(lay_out(vae.state_dict(), device), assign=True)
        if device != "cpu" or dtype.itemsize == 4:
            # Casts it to float32 and back on each run. Only SDXL's VAE needs it, and in float32 it does nothing.
            vae.register_to_config(force_upcast=False)
    pipeline = diffusers.AnimateDiffVideoToVideoPipeline(
        vae=vae,
        text_encoder=part(transformers.CLIPTextModel, "text_encoder"),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True),
        unet=None,
        motion_adapter=None,
        scheduler=diffusers.DDIMScheduler.from_config(read_json(folder / "scheduler" / "scheduler_config.json")),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
