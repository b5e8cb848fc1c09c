"""diffusers' AnimateDiff video-to-video pipeline: loading it, and one run of it, with its traps stepped around."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.local.catalog import ModelSpec
from airflow_provider_modelslab.local.libraries import load_diffusers
from airflow_provider_modelslab.local.text import embed_prompt

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["DTYPES", "RunSettings", "denoising_steps", "load_pipeline", "pick_device", "pick_dtype", "run_pipeline"]

DTYPES = ("auto", "float32", "float16", "bfloat16")
_MULTIPLE = 8  # the VAE makes one latent of 8 x 8 pixels


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What one run of the pipeline needs besides the frames.

    :param steps: the length of the schedule; ``strength`` decides how much of its end is run.
    :param strength: more than 0, at most 1.
    :param guidance_scale: 1 and less turn classifier-free guidance off: the negative prompt is then not used.
    """

    prompt: str
    negative_prompt: str
    steps: int
    strength: float
    guidance_scale: float
    clip_skip: int | None
    seed: int


def denoising_steps(steps: int, strength: float) -> int:
    """How many steps of the schedule are run: diffusers' ``int(steps * strength)``, at least 1.

    Two differences to diffusers: floats do not lose a step (50 * 0.58 is 28.999..., here 29), and a tiny strength runs
    one step where diffusers fails. Strength 0 runs none: the clip passes through.
    """
    return max(1, int(steps * strength + 1e-9)) if strength > 0 else 0


def pick_device(device: str) -> str:
    """``auto`` is the GPU where there is one, else the CPU; any other text goes to torch as it is."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def pick_dtype(dtype: str, device: str) -> Any:
    """The torch type for a name of :data:`DTYPES`: ``auto`` is float32 on the CPU, and half of that elsewhere."""
    import torch

    if dtype != "auto":
        return getattr(torch, dtype)
    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def load_pipeline(spec: ModelSpec, device: str, dtype: Any) -> Any:
    """The model on its device, with AnimateDiff's own schedule, whatever schedule was saved with it.

    Nothing is downloaded, and no weights but safetensors are read.
    """
    import torch

    diffusers = load_diffusers()
    # The UNet of a saved AnimateDiff pipeline holds the motion modules already: without this they are read twice.
    spared = {"motion_adapter": None} if spec.has_motion else {}
    pipeline = diffusers.AnimateDiffVideoToVideoPipeline.from_pretrained(
        str(spec.folder), dtype=dtype, use_safetensors=True, local_files_only=True, **spared
    )
    # From diffusers' AnimateDiff page. Stable Diffusion 1.5 comes with other betas, made for pictures.
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(
        pipeline.scheduler.config,
        beta_schedule="linear",
        clip_sample=False,
        timestep_spacing="linspace",
        steps_offset=1,
    )
    if device != "cpu" or dtype == torch.float32:
        # Casts the VAE to float32 and back on each run. Only SDXL's VAE needs it, and in float32 it does nothing.
        pipeline.vae.register_to_config(force_upcast=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def run_pipeline(
    pipeline: Any, frames: Sequence[Image], settings: RunSettings, *, on_step: Callable[[int], None]
) -> list[Image]:
    """One run: as many RGB pictures as came in, of the same size.

    Sides that are no multiple of 8 are widened by their last pixels for the model, and cut again after it.

    :param frames: RGB pictures of one size.
    :param on_step: called with the number of steps done, after each; what it raises ends the run.
    :raises ArithmeticError: when the model's pictures hold values that are no numbers.
    """
    import numpy as np
    import torch
    from PIL import Image

    width, height = frames[0].size
    padded = [_pad(frame) for frame in frames]
    guided = settings.guidance_scale > 1

    def step_end(_pipeline: Any, index: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        on_step(index + 1)
        return {}

    video = pipeline(
        video=padded,
        width=padded[0].width,
        height=padded[0].height,
        num_inference_steps=settings.steps,
        strength=_pipeline_strength(settings),
        guidance_scale=settings.guidance_scale,
        prompt_embeds=embed_prompt(pipeline, settings.prompt, settings.clip_skip),
        # As in diffusers, clip_skip is for the positive prompt alone.
        negative_prompt_embeds=embed_prompt(pipeline, settings.negative_prompt) if guided else None,
        generator=torch.Generator("cpu").manual_seed(settings.seed),  # the same noise on every device
        callback_on_step_end=step_end,
        output_type="np",
    ).frames[0]
    if not np.isfinite(video).all():
        raise ArithmeticError("the model's pictures hold values that are no numbers")
    pixels = np.rint(video[:, :height, :width] * 255).astype(np.uint8)
    return [Image.fromarray(picture) for picture in pixels]


def _pipeline_strength(settings: RunSettings) -> float:
    """A strength from which diffusers' own ``int(steps * strength)`` gives :func:`denoising_steps`."""
    run = denoising_steps(settings.steps, settings.strength)
    return min(1.0, (run + 0.5) / settings.steps)


def _pad(frame: Image) -> Image:
    import numpy as np
    from PIL import Image

    right, below = -frame.width % _MULTIPLE, -frame.height % _MULTIPLE
    if not right and not below:
        return frame
    return Image.fromarray(np.pad(np.asarray(frame), ((0, below), (0, right), (0, 0)), mode="edge"))
