"""Denoising a clip with an AnimateDiff UNet: diffusers' loop, with FreeInit and all-steps schedules done right.

For a plain run on the CPU the frames are those of ``AnimateDiffVideoToVideoPipeline`` to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.local.families.animatediff.freeinit import low_pass, mix_noise
from airflow_provider_modelslab.local.families.animatediff.guidance import Means, NoisePredictor
from airflow_provider_modelslab.local.families.animatediff.prompt_attention import prompt_states
from airflow_provider_modelslab.local.families.animatediff.prompt_embeddings import embed_prompt
from airflow_provider_modelslab.local.families.animatediff.schedulers import max_steps
from airflow_provider_modelslab.local.families.animatediff.vae_frames import decode, encode, noise_like
from airflow_provider_modelslab.local.plan import DenoisingPass

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["denoise", "denoise_latents", "truncated_schedule"]


def truncated_schedule(scheduler: Any, job: DenoisingPass, device: Any) -> Any:
    """Set the schedule and return its end: the timesteps that are run, the noisiest first.

    With ``all_steps`` the schedule is made longer, so that its end after ``strength`` has all the steps asked for.
    """
    run = job.steps_run
    length = job.steps
    if job.all_steps:
        length = min(max(run, int(job.steps / job.strength + 1e-9)), max_steps(job.scheduler))
    scheduler.set_timesteps(length, device=device)
    return scheduler.timesteps[-run * scheduler.order :]


def denoise(
    pipeline: Any,
    frames: Sequence[Image],
    job: DenoisingPass,
    *,
    on_step: Callable[[int], None],
    means: Means | None = None,
) -> Any:
    """One pass: pictures of (frames, height, width, 3), 0 to 1, as numpy has them.

    :param pipeline: a loaded ``AnimateDiffVideoToVideoPipeline`` with the pass' scheduler.
    :param frames: RGB pictures of one size, whose sides are multiples of 8.
    :param on_step: called with the steps done after each; what it raises ends the run.
    :param means: by default nothing is approximated, and nothing kept from one run to the next.
    """
    import torch

    means = means or Means()
    generator = torch.Generator("cpu").manual_seed(job.seed)  # the same noise on every device
    with torch.no_grad():
        clip = encode(pipeline, frames, generator, means.portions)
        latents = denoise_latents(pipeline, clip, generator, job, on_step=on_step, means=means)
        return decode(pipeline, latents, means.portions)


def denoise_latents(
    pipeline: Any, clip: Any, generator: Any, job: DenoisingPass, *, on_step: Callable[[int], None], means: Means
) -> Any:
    """The same between the VAE's two halves: noise is added to the clip, and taken away.

    :param clip: from :func:`~.vae_frames.encode`.
    :param generator: of all noise.
    :return: latents for :func:`~.vae_frames.decode`.
    """
    import torch

    unet, scheduler = pipeline.unet, pipeline.scheduler
    count = clip.shape[1]
    with torch.no_grad():
        timesteps = truncated_schedule(scheduler, job, unet.device)
        start = timesteps[:1]
        first = noise_like(clip, generator)
        latents = _frames_second(scheduler.add_noise(clip, first, start))
        # As in diffusers, clip_skip is for the positive prompt alone.
        embeds = embed_prompt(pipeline, job.prompt, job.clip_skip, means.prompts)
        if job.guidance_scale > 1:
            embeds = torch.cat([embed_prompt(pipeline, job.negative_prompt, None, means.prompts), embeds])
        at_once = count if means.windows is None else means.windows.size
        predict = NoisePredictor(pipeline, prompt_states(unet, embeds.to(unet.dtype), at_once), job, means)
        extra = pipeline.prepare_extra_step_kwargs(generator, 0.0)
        low = low_pass(count, *clip.shape[-2:]) if job.iterations > 1 else None
        for iteration in range(job.iterations):
            if iteration:
                timesteps = truncated_schedule(scheduler, job, unet.device)  # a fresh one: schedulers count their steps
                mixed = mix_noise(_frames_second(first), noise_like(latents, generator), low)
                latents = scheduler.add_noise(latents, mixed, start)
            for index, timestep in enumerate(timesteps):
                noise = predict(latents, timestep, index)
                latents = scheduler.step(noise, timestep, latents, **extra).prev_sample
                on_step(iteration * len(timesteps) + index + 1)
    return latents


def _frames_second(latents: Any) -> Any:
    """From (1, frames, channels, ...) to (1, channels, frames, ...), as the UNet wants them."""
    return latents.permute(0, 2, 1, 3, 4)
