"""The family of Wan 2.1 text-to-video models, run as video-to-video; ``strength`` means the same as elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.families.base import Family
from airflow_provider_modelslab.local.families.pipeline_model import PipelineModel
from airflow_provider_modelslab.local.families.wan_clip_run import WanClipRun, latent_windows, seen_in_windows
from airflow_provider_modelslab.local.families.windows import ContextWindows
from airflow_provider_modelslab.local.models.inspection import problem
from airflow_provider_modelslab.local.models.specs import ModelEntry, ModelSpec, Source
from airflow_provider_modelslab.local.plan import DenoisingPass
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations

if TYPE_CHECKING:
    from airflow_provider_modelslab.local.models.catalog import Catalog

__all__ = ["Wan", "WanModel"]


class Wan(Family):
    """Honours upscaling, and what every family does: prompts, seed, size, frames, steps, guidance, strength, output."""

    name = "wan-v2v"
    pipelines = ("WanPipeline", "WanVideoToVideoPipeline")
    defaults = MappingProxyType(
        {
            "text_layers": 24,
            "max_frames": 81,
            "scheduler": "own",
            "steps": 20,
            "guidance_scale": 5.0,
            "frames": 17,
            "width": 832,
            "height": 480,
            "fps": 16,
        }
    )
    max_side = 1280
    frame_step = 4  # frames that the VAE makes one latent of, after the first
    honours = frozenset({"upscale_height", "upscale_width"})
    models = (
        ModelEntry("wan2.1-t2v-1.3b", Source("Wan-AI/Wan2.1-T2V-1.3B-Diffusers"), "wan-v2v", {"license": "Apache-2.0"}),
    )

    def read(self, spec: ModelSpec, index: Mapping[str, Any]) -> ModelSpec:
        """See :meth:`~.families.Family.read`."""
        if index.get("transformer_2", [None])[0]:
            raise problem(
                f"{spec.folder} has two transformers (Wan 2.2), which the video-to-video pipeline does not support"
            )
        return spec

    def load(
        self, spec: ModelSpec, catalog: Catalog, device: str, dtype: Any, speed: Optimizations | None = None
    ) -> WanModel:
        """See :meth:`~.families.Family.load`."""
        return WanModel(spec, catalog, device, dtype, speed)


class WanModel(PipelineModel):
    """A Wan model in memory."""

    multiple = 16  # the VAE halves three times, and the transformer takes latents two by two
    tokens = 512

    def load(self, diffusers: Any, spec: ModelSpec, dtype: Any, options: dict[str, Any]) -> Any:
        """See :meth:`~.PipelineModel.load`."""
        import torch

        # In half precision the VAE's colours drift; diffusers' page keeps it in float32 too.
        vae = diffusers.AutoencoderKLWan.from_pretrained(
            str(spec.folder / "vae"), dtype=torch.float32, **{**options, "variant": None}
        )
        return diffusers.WanVideoToVideoPipeline.from_pretrained(str(spec.folder), vae=vae, dtype=dtype, **options)

    def encode(self, encoder: Any, ids: Any, mask: Any) -> Any:
        """See :meth:`~.PipelineModel.encode`: zero after the prompt's end."""
        return encoder(ids, mask).last_hidden_state * mask.unsqueeze(-1)

    def begin_clip(
        self, job: DenoisingPass, windows: ContextWindows, *, on_step: Callable[[int], None], pause: Callable[[], None]
    ) -> WanClipRun:
        """See :meth:`~.families.LoadedModel.begin_clip`."""
        if getattr(self.pipeline.vae.config, "patch_size", None) is not None:
            raise InvalidRequestError.of(
                "x_clip_mode", "'whole' is not supported by this model, whose VAE is that of Wan 2.2; use 'sample'"
            )
        done = 0

        def count(steps: int) -> None:
            nonlocal done
            done = steps
            on_step(steps)

        def denoise(noisy: Any) -> Any:
            size = {"width": job.width + -job.width % self.multiple, "height": job.height + -job.height % self.multiple}
            transformer = self.pipeline.transformer
            with seen_in_windows(transformer, latent_windows(windows), lambda: done, pause):
                return self._call(job, count, latents=noisy, output_type="latent", **size)

        return WanClipRun(
            self.pipeline,
            job,
            windows,
            denoise,
            strength=self._strength(job),
            multiple=self.multiple,
            pause=pause,
            notes=self._notes(job),
        )
