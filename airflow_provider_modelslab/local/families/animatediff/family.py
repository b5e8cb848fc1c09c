"""The family of Stable Diffusion 1.5 with AnimateDiff's motion modules: everything that the vendor's page knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.families.animatediff.schedulers import max_steps
from airflow_provider_modelslab.local.families.animatediff.tiny_vae import tiny_vae_folder
from airflow_provider_modelslab.local.families.base import OPTIONAL_SETTINGS, Family
from airflow_provider_modelslab.local.models import builtin
from airflow_provider_modelslab.local.models.inspection import read_json, read_number
from airflow_provider_modelslab.local.models.specs import ANIMATEDIFF, SD15, LoraSpec, ModelSpec, MotionSpec
from airflow_provider_modelslab.local.plan import DenoisingPass, LoraUse, Plan, frames_of, plan_passes
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from airflow_provider_modelslab.local.validation import Fields, merge, requested_attributes, unsupported

if TYPE_CHECKING:
    from airflow_provider_modelslab.local.models.catalog import Catalog

__all__ = ["AnimateDiff"]

_SD15_SIZES = ([320, 640, 1280, 1280], 768)
_MAX_FRAMES = 32  # what AnimateDiff's own motion modules know

Part = TypeVar("Part", LoraSpec, MotionSpec)


class AnimateDiff(Family):
    """Honours every attribute of the page."""

    name = ANIMATEDIFF
    pipelines = ("StableDiffusionPipeline", "AnimateDiffPipeline", "AnimateDiffVideoToVideoPipeline")
    defaults = MappingProxyType(
        {
            "base": SD15,
            "text_layers": 12,
            "max_frames": _MAX_FRAMES,
            "scheduler": "ddim",
            "steps": 20,
            "guidance_scale": 7.5,
            "frames": 16,
            "width": 512,
            "height": 512,
            "fps": 8,
        }
    )
    max_side = 1024
    settings = OPTIONAL_SETTINGS
    models = builtin.MODELS
    honours = frozenset(
        {
            "lora_models",
            "motion_loras",
            "adapter_lora",
            "motion_module",
            "clip_skip",
            "use_improved_sampling",
            "upscale_height",
            "upscale_width",
        }
    )

    def plan(self, request: Video2VideoRequest, spec: ModelSpec, catalog: Catalog) -> Plan:
        """See :meth:`~.families.Family.plan`."""
        finds = _Finds(spec, unsupported(request, self.name, self.honours))
        motion = self._motion(request, spec, catalog, finds)
        loras = self._loras(request, catalog, finds)
        frames = frames_of(request, spec)
        passes = plan_passes(request, spec, self.max_side, motion or self._settings_of_own(spec, catalog))
        finds.fields = merge(finds.fields, self.beyond_limits(request, spec, frames, passes))
        if finds.fields:
            raise InvalidRequestError.of_fields(finds.fields)
        motion = motion and _with_step_file(motion, passes[0].steps)
        return Plan(spec, passes, frames, request.fps or spec.fps, motion, loras)

    def max_steps(self, job: DenoisingPass) -> int:
        """See :meth:`~.families.Family.max_steps`: it depends on the schedule."""
        return max_steps(job.scheduler)

    def parts(self, index: Mapping[str, Any]) -> tuple[str, ...]:
        """See :meth:`~.families.Family.parts`."""
        return ("unet", "vae", "text_encoder", _motion_part(index) or "unet")

    def read(self, spec: ModelSpec, index: Mapping[str, Any]) -> ModelSpec:
        """See :meth:`~.families.Family.read`."""
        folder, motion = spec.folder, _motion_part(index)
        unet = read_json(folder / "unet" / "config.json")
        sizes = (unet.get("block_out_channels"), unet.get("cross_attention_dim"))
        return replace(
            spec,
            base=SD15 if sizes == _SD15_SIZES else None,
            text_layers=read_number(folder / "text_encoder" / "config.json", "num_hidden_layers"),
            max_frames=(
                read_number(folder / motion / "config.json", "motion_max_seq_length") if motion else _MAX_FRAMES
            ),
            has_motion=motion == "unet",
            own_motion=(spec.own_motion or "v2_sd15_mm") if motion else None,
        )

    def fetch(self, plan: Plan, catalog: Catalog, speed: Optimizations) -> Plan:
        """See :meth:`~.families.Family.fetch`: the motion module, LoRAs, and the small VAE."""

        def here(lora: LoraSpec, field: str) -> LoraSpec:
            return replace(lora, source=replace(lora.source, path=catalog.fetch(lora.source, field)))

        motion = plan.motion
        if motion is not None:
            path = catalog.fetch(motion.source, "motion_module")
            loras = tuple((here(lora, "motion_module"), strength) for lora, strength in motion.loras)
            motion = replace(motion, source=replace(motion.source, path=path), loras=loras)
        if speed.tiny_vae is not None:
            tiny_vae_folder(speed.tiny_vae, catalog)
        uses = tuple(replace(use, spec=here(use.spec, use.field)) for use in plan.loras)
        return replace(plan, motion=motion, loras=uses)

    def load(
        self, spec: ModelSpec, catalog: Catalog, device: str, dtype: Any, speed: Optimizations | None = None
    ) -> AnimateDiffModel:
        """See :meth:`~.families.Family.load`."""
        return AnimateDiffModel(spec, catalog, device, dtype, speed)

    def _motion(
        self, request: Video2VideoRequest, spec: ModelSpec, catalog: Catalog, finds: _Finds
    ) -> MotionSpec | None:
        """The motion module to put in; ``None`` for the model's own."""
        name = request.motion_module
        if spec.own_motion is not None and (name == spec.own_motion or "motion_module" not in request.model_fields_set):
            return None
        motion = finds.part("motion_module", catalog.parts.motion_module, name)
        if motion and spec.motion_modules is not None and motion.id not in spec.motion_modules:
            finds.add("motion_module", f"must be one of {', '.join(spec.motion_modules)} with {spec.id}; got {name!r}")
        return motion

    def _settings_of_own(self, spec: ModelSpec, catalog: Catalog) -> MotionSpec | None:
        """The settings that go with the model's own motion modules, where their name is known."""
        try:
            return catalog.parts.motion_module(spec.own_motion) if spec.own_motion else None
        except InvalidRequestError:
            return None

    def _loras(self, request: Video2VideoRequest, catalog: Catalog, finds: _Finds) -> tuple[LoraUse, ...]:
        asked = requested_attributes(request)
        wanted: list[tuple[str, Callable[[str], LoraSpec], str, float]] = []
        if "lora_models" in asked:
            for name, strength in _pairs(request.lora_models, request.lora_strength):
                wanted.append(("lora_models", catalog.parts.lora, name, strength))
        if "motion_loras" in asked:
            for name, strength in _pairs(request.motion_loras, request.motion_lora_strength):
                wanted.append(("motion_loras", catalog.parts.motion_lora, name, strength))
        if "adapter_lora" in asked:
            wanted.append(("adapter_lora", catalog.parts.adapter, request.adapter_lora, request.domain_lora_scale))
        uses = [(finds.part(field, find, name), strength, field) for field, find, name, strength in wanted if strength]
        return tuple(LoraUse(found, strength, field) for found, strength, field in uses if found)


def _motion_part(index: Mapping[str, Any]) -> str | None:
    """The folder with the model's own motion modules, if it has some."""
    if index.get("unet") == ["diffusers", "UNetMotionModel"]:
        return "unet"
    return "motion_adapter" if (index.get("motion_adapter") or [None])[0] else None


class _Finds:
    """Collects what is wrong, so that all of it is said at once."""

    def __init__(self, spec: ModelSpec, fields: Fields) -> None:
        self.fields = fields
        self._spec = spec

    def add(self, field: str, problem: str) -> None:
        self.fields = merge(self.fields, {field: [problem]})

    def part(self, field: str, find: Callable[[str], Part], name: str) -> Part | None:
        try:
            found = find(name)
        except InvalidRequestError as error:
            self.fields = merge(self.fields, {key: list(texts) for key, texts in error.fields.items()})
            return None
        if found.base is not None and found.base != self._spec.base:
            self.add(
                field,
                f"{name!r} is made for Stable Diffusion 1.5, but {self._spec.id} has layers of other sizes; put a "
                "matching file of this name into the folder of models, or choose another model",
            )
            return None
        return found


def _pairs(names: Iterable[str] | None, strengths: tuple[float, ...]) -> list[tuple[str, float]]:
    listed = list(names or ())
    return list(zip(listed, strengths if len(strengths) > 1 else strengths * len(listed), strict=True))


def _with_step_file(motion: MotionSpec, steps: int) -> MotionSpec:
    """The same with the file for the number of steps that is nearest to ``steps``, where it has several files."""
    source, files = motion.source, motion.step_files
    if source.path is not None:
        folder = source.path  # a single file stands for all numbers of steps
        files = {number: name for number, name in files.items() if (folder / name).is_file()}
    if not files:
        return motion
    name = files[min(files, key=lambda number: (abs(number - steps), number))]
    path = source.path / name if source.path is not None else None
    return replace(motion, source=replace(source, path=path, file=name))
