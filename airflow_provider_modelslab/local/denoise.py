"""Denoising a clip with an AnimateDiff UNet: diffusers' loop, with FreeInit and all-steps schedules done right.

For a plain run the frames are those of ``AnimateDiffVideoToVideoPipeline`` to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.local.freeinit import low_pass, mix_noise
from airflow_provider_modelslab.local.plan import Pass
from airflow_provider_modelslab.local.schedulers import max_steps
from airflow_provider_modelslab.local.text import embed_prompt

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["denoise", "truncated_schedule"]

_CHUNK = 16  # frames that the VAE takes at a time


def truncated_schedule(scheduler: Any, job: Pass, device: Any) -> Any:
    """Set the schedule and return its end: the timesteps that are run, the noisiest first.

    With ``all_steps`` the schedule is made longer, so that its end after ``strength`` has all the steps asked for.
    """
    run = job.steps_run
    length = job.steps
    if job.all_steps:
        length = min(max(run, int(job.steps / job.strength + 1e-9)), max_steps(job.scheduler))
    scheduler.set_timesteps(length, device=device)
    return scheduler.timesteps[-run * scheduler.order :]


def denoise(pipeline: Any, frames: Sequence[Image], job: Pass, *, on_step: Callable[[int], None]) -> Any:
    """One pass: pictures of (frames, height, width, 3), 0 to 1, as numpy has them.

    :param pipeline: a loaded ``AnimateDiffVideoToVideoPipeline`` with the pass' scheduler.
    :param frames: RGB pictures of one size, whose sides are multiples of 8.
    :param on_step: called with the steps done after each; what it raises ends the run.
    """
    import torch

    unet, scheduler = pipeline.unet, pipeline.scheduler
    device, dtype = unet.device, unet.dtype
    generator = torch.Generator("cpu").manual_seed(job.seed)  # the same noise on every device
    guided = job.guidance_scale > 1
    with torch.no_grad():
        timesteps = truncated_schedule(scheduler, job, device)
        start = timesteps[:1]
        clip = encode(pipeline, frames, generator)
        first = _noise(clip, generator)
        latents = _frames_second(scheduler.add_noise(clip, first, start))
        # As in diffusers, clip_skip is for the positive prompt alone.
        embeds = embed_prompt(pipeline, job.prompt, job.clip_skip)
        if guided:
            embeds = torch.cat([embed_prompt(pipeline, job.negative_prompt), embeds])
        embeds = embeds.to(dtype).repeat_interleave(len(frames), dim=0)
        extra = pipeline.prepare_extra_step_kwargs(generator, 0.0)
        low = low_pass(len(frames), *clip.shape[-2:]) if job.iterations > 1 else None
        for iteration in range(job.iterations):
            if iteration:
                timesteps = truncated_schedule(scheduler, job, device)  # a fresh one: schedulers count their steps
                mixed = mix_noise(_frames_second(first), _noise(latents, generator), low)
                latents = scheduler.add_noise(latents, mixed, start)
            for index, timestep in enumerate(timesteps):
                model_input = torch.cat([latents] * 2) if guided else latents
                model_input = scheduler.scale_model_input(model_input, timestep)
                noise = unet(model_input, timestep, encoder_hidden_states=embeds).sample
                if guided:
                    without, with_prompt = noise.chunk(2)
                    noise = without + job.guidance_scale * (with_prompt - without)
                latents = scheduler.step(noise, timestep, latents, **extra).prev_sample
                on_step(iteration * len(timesteps) + index + 1)
        video = pipeline.decode_latents(latents, _CHUNK)
    return pipeline.video_processor.postprocess_video(video=video, output_type="np")[0]


def encode(pipeline: Any, frames: Sequence[Image], generator: Any) -> Any:
    """The frames' latents: (1, frames, channels, height / 8, width / 8)."""
    import torch

    vae, unet = pipeline.vae, pipeline.unet
    width, height = frames[0].size
    video = pipeline.video_processor.preprocess_video(list(frames), height=height, width=width)
    video = video.permute(0, 2, 1, 3, 4).to(device=unet.device, dtype=unet.dtype)[0]
    if vae.config.force_upcast:
        vae.to(dtype=torch.float32)
        video = video.float()
    clip = pipeline.encode_video(video, generator, _CHUNK)
    if vae.config.force_upcast:
        vae.to(unet.dtype)
    return vae.config.scaling_factor * clip.unsqueeze(0).contiguous().to(unet.dtype)


def _noise(like: Any, generator: Any) -> Any:
    import torch

    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def _frames_second(latents: Any) -> Any:
    """From (1, frames, channels, ...) to (1, channels, frames, ...), as the UNet wants them."""
    return latents.permute(0, 2, 1, 3, 4)
