"""The family of CogVideoX text-to-video models (2B and 5B), run as video-to-video."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.local.families.base import Family
from airflow_provider_modelslab.local.families.pipeline_model import PipelineModel
from airflow_provider_modelslab.local.models.inspection import problem, read_json
from airflow_provider_modelslab.local.models.specs import ModelSpec
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations

if TYPE_CHECKING:
    from airflow_provider_modelslab.local.models.catalog import Catalog

__all__ = ["CogVideoX", "CogVideoXModel"]


class CogVideoX(Family):
    """Honours upscaling, and what every family does: prompts, seed, size, frames, steps, guidance, strength, output."""

    name = "cogvideox-v2v"
    pipelines = ("CogVideoXPipeline", "CogVideoXVideoToVideoPipeline")
    defaults = MappingProxyType(
        {
            "text_layers": 24,
            "max_frames": 49,
            "scheduler": "own",
            "steps": 50,
            "guidance_scale": 6.0,
            "frames": 49,
            "width": 720,
            "height": 480,
            "fps": 8,
        }
    )
    max_side = 1280
    frame_step = 8  # the VAE makes one latent of 4 frames, after the first, and decodes two at a time
    honours = frozenset({"upscale_height", "upscale_width"})
    no_windows = "its pipeline and its VAE take all frames at once, so memory would grow with the clip"

    def read(self, spec: ModelSpec, index: Mapping[str, Any]) -> ModelSpec:
        """See :meth:`~.families.Family.read`."""
        if read_json(spec.folder / "transformer" / "config.json").get("patch_size_t") is not None:
            raise problem(f"{spec.folder} is a CogVideoX 1.5, which is not supported; use CogVideoX 2B or 5B")
        tokenizer = spec.folder / "tokenizer"
        has_fast = (tokenizer / "tokenizer.json").is_file()
        if (tokenizer / "spiece.model").is_file() and not has_fast and find_spec("sentencepiece") is None:
            raise problem(f"{tokenizer} needs the package sentencepiece: pip install sentencepiece")
        return spec

    def load(
        self, spec: ModelSpec, catalog: Catalog, device: str, dtype: Any, speed: Optimizations | None = None
    ) -> CogVideoXModel:
        """See :meth:`~.families.Family.load`."""
        return CogVideoXModel(spec, catalog, device, dtype, speed)


class CogVideoXModel(PipelineModel):
    """A CogVideoX model in memory."""

    multiple = 16  # the VAE halves three times, and the transformer takes latents two by two
    tokens = 226
    approximations = frozenset()  # its pipeline decides on guidance once for all steps

    def load(self, diffusers: Any, spec: ModelSpec, dtype: Any, options: dict[str, Any]) -> Any:
        """See :meth:`~.PipelineModel.load`."""
        return diffusers.CogVideoXVideoToVideoPipeline.from_pretrained(str(spec.folder), dtype=dtype, **options)

    def encode(self, encoder: Any, ids: Any, mask: Any) -> Any:
        """See :meth:`~.PipelineModel.encode`: CogVideoX was trained on the padding too."""
        return encoder(ids).last_hidden_state
