"""The family of Wan 2.1 text-to-video models, run as video-to-video; ``strength`` means the same as elsewhere."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.families.animatediff.prompt_embeddings import PromptMemory
from airflow_provider_modelslab.local.families.animatediff.schedulers import TRAIN_STEPS
from airflow_provider_modelslab.local.families.base import Family, LoadedModel, run_padded
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.models.inspection import weights_in
from airflow_provider_modelslab.local.models.specs import WAN, ModelSpec
from airflow_provider_modelslab.local.plan import DenoisingPass, Plan, plan_passes
from airflow_provider_modelslab.local.runtime.compile import compile_forward
from airflow_provider_modelslab.local.runtime.devices import storage_bytes
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers, load_transformers
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from airflow_provider_modelslab.local.validation import merge, unsupported, unsupported_by_model

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Wan", "WanModel"]

log = logging.getLogger(__name__)

_MULTIPLE = 16  # the VAE halves three times, and the transformer takes latents two by two
_PACE = 4  # frames that the VAE makes one latent of, after the first
_TOKENS = 512


class Wan(Family):
    """Honours upscaling, and what every family does: prompts, seed, size, frames, steps, guidance, strength, output."""

    name = WAN
    honours = frozenset({"upscale_height", "upscale_width"})

    def plan(self, request: Video2VideoRequest, spec: ModelSpec, catalog: Catalog) -> Plan:
        """See :meth:`~.families.Family.plan`. ``num_frames`` must be 4k + 1 (1, 5, 9, 13, 17, 21, 25)."""
        frames = request.num_frames if "num_frames" in request.model_fields_set else spec.frames
        fields = merge(
            unsupported(request, self.name, self.honours), unsupported_by_model(request, spec, spec.max_frames, frames)
        )
        if frames % _PACE != 1:
            below = frames - (frames - 1) % _PACE
            near = f"{below} or {below + _PACE}"
            fields = merge(fields, {"num_frames": [f"must be 4k + 1 with {spec.id}, such as {near}; got {frames}"]})
        passes = plan_passes(request, spec)
        if passes[-1].steps > TRAIN_STEPS:
            problem = f"must be at most {TRAIN_STEPS}; got {passes[-1].steps}"
            fields = merge(fields, {"upscale_num_inference_steps": [problem]})
        if fields:
            raise InvalidRequestError.of_fields(fields)
        return Plan(spec, passes, frames, request.fps or spec.fps)

    def load(
        self, spec: ModelSpec, catalog: Catalog, device: str, dtype: Any, speed: Optimizations | None = None
    ) -> WanModel:
        """See :meth:`~.families.Family.load`."""
        return WanModel(spec, catalog, device, dtype, speed)


class WanModel(LoadedModel):
    """diffusers' pipeline with its weights."""

    def __init__(
        self, spec: ModelSpec, catalog: Catalog, device: str, dtype: Any, speed: Optimizations | None = None
    ) -> None:
        import torch

        speed = speed or Optimizations()
        if (speed.tiny_vae, speed.reuse_deep) != (None, 1):
            log.warning("%s: tiny_vae and reuse_deep are for AnimateDiff models, and are left out", spec.id)
        self._speed = replace(speed, tiny_vae=None, reuse_deep=1)
        self._prompts = PromptMemory()
        self._noted: dict[str, Any] = {}
        diffusers = load_diffusers()
        load_transformers()
        kind, variant = weights_in(spec.folder / "transformer", allow_pickle=catalog.allow_pickle)
        options = {"use_safetensors": kind == "safetensors", "variant": variant, "local_files_only": True}
        # In half precision the VAE's colours drift; diffusers' page keeps it in float32 too.
        vae = diffusers.AutoencoderKLWan.from_pretrained(
            str(spec.folder / "vae"), dtype=torch.float32, use_safetensors=kind == "safetensors", local_files_only=True
        )
        self.pipeline = diffusers.WanVideoToVideoPipeline.from_pretrained(
            str(spec.folder), vae=vae, dtype=dtype, **options
        ).to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        if self._speed.compile:
            compile_forward(self.pipeline.transformer, spec.id)

    @property
    def bytes(self) -> int:
        """See :attr:`~.families.LoadedModel.bytes`."""
        parts = (self.pipeline.transformer, self.pipeline.vae, self.pipeline.text_encoder)
        return storage_bytes(tensor for part in parts for tensor in part.state_dict().values())

    def prepare(self, plan: Plan) -> None:
        """Nothing to put in: there are no parts in this family."""

    def run(self, frames: Sequence[Image], job: DenoisingPass, *, on_step: Callable[[int], None]) -> list[Image]:
        """See :meth:`~.families.LoadedModel.run`."""
        made = run_padded(frames, _MULTIPLE, lambda padded: self._run(padded, job, on_step))
        approximations = self._speed.approximations(job)
        self._noted = {"approximations": approximations} if approximations else {}
        return made

    def notes(self) -> dict[str, Any]:
        """``approximations``, where there were any; see :class:`~.optimizations.Optimizations`."""
        return dict(self._noted)

    def _run(self, frames: list[Image], job: DenoisingPass, on_step: Callable[[int], None]) -> Any:
        import torch

        guided_steps = self._speed.guided_steps(job.steps_run) if job.guidance_scale > 1 else 0
        guided = guided_steps > 0

        def step_end(pipeline: Any, index: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
            if index + 1 == guided_steps:
                pipeline._guidance_scale = 1.0  # which the pipeline asks for in each step
            on_step(index + 1)
            return {}

        return self.pipeline(
            video=frames,
            width=frames[0].width,
            height=frames[0].height,
            num_inference_steps=job.steps,
            strength=min(1.0, (job.steps_run + 0.5) / job.steps),  # of which diffusers' int(steps * strength) is right
            guidance_scale=job.guidance_scale if guided else 1.0,
            prompt_embeds=self._embed(job.prompt),
            negative_prompt_embeds=self._embed(job.negative_prompt) if guided else None,
            generator=torch.Generator("cpu").manual_seed(job.seed),
            callback_on_step_end=step_end,
            output_type="np",
        ).frames[0]

    def _embed(self, prompt: str) -> Any:
        """The text encoder's states, zero after the prompt's end: (1, 512, width).

        As in diffusers, whose own way needs the package ftfy to repair broken Unicode, which is left to the caller.
        """
        import torch

        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        text = re.sub(r"\s+", " ", html.unescape(html.unescape(prompt))).strip()
        tokens = tokenizer(text, padding="max_length", max_length=_TOKENS, truncation=True, return_tensors="pt")
        wanted = len(tokenizer(text).input_ids)
        if wanted > _TOKENS:
            log.warning("The prompt has %d tokens; the text encoder reads the first %d", wanted, _TOKENS)
        mask = tokens.attention_mask.to(encoder.device)

        def encode() -> Any:
            with torch.no_grad():
                states = encoder(tokens.input_ids.to(encoder.device), mask).last_hidden_state
            return states * mask.unsqueeze(-1)

        return self._prompts.get(tuple(tokens.input_ids[0].tolist()), encode)
