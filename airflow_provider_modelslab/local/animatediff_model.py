"""A Stable Diffusion 1.5 model with motion modules in memory: dressing it for a request, and running it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import RequestValidationError
from airflow_provider_modelslab.local.assemble import build_shell, fill_shell, shell_config, shell_key
from airflow_provider_modelslab.local.catalog import Catalog
from airflow_provider_modelslab.local.denoise import denoise
from airflow_provider_modelslab.local.families import LoadedModel, run_padded
from airflow_provider_modelslab.local.folders import read_json, weights_in
from airflow_provider_modelslab.local.libraries import load_diffusers, load_transformers
from airflow_provider_modelslab.local.lora import LoraLayer, add_loras, read_lora
from airflow_provider_modelslab.local.motion import CONFIG_NAMES, MotionWeights, is_motion_key, read_motion
from airflow_provider_modelslab.local.plan import LoraUse, Pass, Plan
from airflow_provider_modelslab.local.schedulers import build_scheduler
from airflow_provider_modelslab.local.specs import ModelSpec
from airflow_provider_modelslab.local.weights import Tensors, read_tensors, weight_files

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["AnimateDiffModel"]

log = logging.getLogger(__name__)

_MULTIPLE = 8  # the VAE makes one latent of 8 x 8 pixels


class AnimateDiffModel(LoadedModel):
    """The weights as they were loaded, and a pipeline that wears some of them.

    The UNet is filled anew from the untouched tensors whenever the motion module or the set of LoRAs changes, so
    nothing of an earlier request is left, in any type. Motion modules of the same build share one UNet; one without a
    middle block has its own, around the same spatial tensors.
    """

    def __init__(self, spec: ModelSpec, catalog: Catalog, device: str, dtype: Any) -> None:
        self._catalog = catalog
        self._device = device
        self._dtype = dtype
        folder = spec.folder
        self._config = read_json(folder / "unet" / "config.json")
        files = weight_files(folder / "unet", "model_id", allow_pickle=catalog.allow_pickle)
        tensors = read_tensors(files, device=device, dtype=dtype)
        self._spatial = {name: t for name, t in tensors.items() if not is_motion_key(name)}
        self._own: MotionWeights | None = None
        if spec.has_motion:
            motion = {name: t for name, t in tensors.items() if is_motion_key(name)}
            self._own = MotionWeights({name: self._config[name] for name in CONFIG_NAMES}, motion)
        elif spec.own_motion:
            self._own = self._read_motion(folder / "motion_adapter")
        self.pipeline = _load_pipeline(spec, device, dtype, allow_pickle=catalog.allow_pickle)
        self._saved_scheduler = self.pipeline.scheduler.config
        self._text: Tensors = dict(self.pipeline.text_encoder.state_dict())
        self._motion: tuple[str, MotionWeights] | None = None
        self._shells: dict[tuple[str, ...], Any] = {}
        self._wearing: object = None

    def prepare(self, plan: Plan) -> None:
        """See :meth:`~.families.LoadedModel.prepare`."""
        wanted = (plan.motion and (plan.motion.id, str(plan.motion.source)), plan.loras)
        if wanted == self._wearing:
            return
        self._wearing = None
        self._dress(plan)
        self._wearing = wanted

    def run(self, frames: Sequence[Image], job: Pass, *, on_step: Callable[[int], None]) -> list[Image]:
        """See :meth:`~.families.LoadedModel.run`."""
        self.pipeline.scheduler = build_scheduler(job.scheduler, self._saved_scheduler)
        return run_padded(frames, _MULTIPLE, lambda padded: denoise(self.pipeline, padded, job, on_step=on_step))

    def _dress(self, plan: Plan) -> None:
        motion = self._motion_for(plan)
        if plan.frames > motion.max_frames:
            problem = f"must be at most {motion.max_frames}, which the motion module knows; got {plan.frames}"
            raise RequestValidationError.of("num_frames", problem)
        weights = {"unet": self._spatial | motion.tensors, "text_encoder": self._text}
        changed = self._changed_by_loras(plan, weights)
        key = shell_key(motion.config)
        if key not in self._shells:
            self._shells[key] = build_shell(shell_config(self._config, motion.config))
        unet, text_encoder = self._shells[key], self.pipeline.text_encoder
        fill_shell(unet, weights["unet"] | changed["unet"])
        text_encoder.load_state_dict(self._text | changed["text_encoder"], assign=True)
        self.pipeline.register_modules(unet=unet)

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
                raise RequestValidationError.of("motion_module", f"{plan.model.id} has no motion modules of its own")
            return self._own
        source = plan.motion.source
        if self._motion is None or self._motion[0] != str(source):
            self._motion = None  # the memory of the one before is free before the next one comes
            self._motion = (str(source), self._read_motion(self._catalog.fetch(source, "motion_module")))
        return self._motion[1]

    def _read_motion(self, path: Path) -> MotionWeights:
        return read_motion(path, device=self._device, dtype=self._dtype, allow_pickle=self._catalog.allow_pickle)


def _layers(tensors: Tensors) -> set[str]:
    return {name.removesuffix(".weight") for name in tensors if name.endswith(".weight")}


def _check_sizes(layers: list[LoraLayer], weights: Mapping[str, Tensors], use: LoraUse) -> None:
    for part in layers:
        size = tuple(weights[part.target][f"{part.layer}.weight"].shape)
        if not part.fits(size):
            raise RequestValidationError.of(
                use.field,
                f"{use.spec.id} does not fit the model: it is made for another size than {size} of {part.layer}",
            )


def _load_pipeline(spec: ModelSpec, device: str, dtype: Any, *, allow_pickle: bool) -> Any:
    """All parts of the model but the UNet. No classes but these are used, whatever the folder names."""
    import torch

    diffusers, transformers = load_diffusers(), load_transformers()
    folder = spec.folder

    def part(kind: Any, name: str) -> Any:
        weights, variant = weights_in(folder / name, allow_pickle=allow_pickle)
        options = {"use_safetensors": weights == "safetensors", "variant": variant, "local_files_only": True}
        return kind.from_pretrained(str(folder / name), dtype=dtype, **options).to(device).eval().requires_grad_(False)

    vae = part(diffusers.AutoencoderKL, "vae")
    if device != "cpu" or dtype == torch.float32:
        # Casts the VAE to float32 and back on each run. Only SDXL's VAE needs it, and in float32 it does nothing.
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
