"""A Wan model over a clip of any length, in context windows over its latents.

Wan's VAE makes one latent of the first frame and one of every four after it, and keeps what it needs of the frames
before. So a clip streams through it four frames at a time, with the results of ``vae.encode`` and ``vae.decode`` of all
frames at once, which diffusers offers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.local.families.base import pad_frame, pictures_of
from airflow_provider_modelslab.local.families.windows import ClipRun, ContextWindows
from airflow_provider_modelslab.local.plan import DenoisingPass

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["WanClipRun", "latent_windows", "seen_in_windows"]

FRAMES_PER_LATENT = 4
"""After the first latent, which is of one frame."""


class WanClipRun(ClipRun):
    """See :class:`ClipRun`. A clip of one window gets the frames of the pipeline, to the last bit.

    The last frame is repeated up to the next ``4k + 1`` frames, and what comes of that is left out.

    :param pipeline: a loaded ``WanVideoToVideoPipeline``.
    :param windows: over the frames; each has ``4k + 1``.
    :param denoise: called with the noisy latents; gives the clean ones.
    :param pause: see :meth:`~.families.LoadedModel.begin_clip`.
    :param notes: of the run.
    """

    def __init__(
        self,
        pipeline: Any,
        job: DenoisingPass,
        windows: ContextWindows,
        denoise: Callable[[Any], Any],
        *,
        strength: float,
        multiple: int,
        pause: Callable[[], None],
        notes: dict[str, Any],
    ) -> None:
        self._pipeline = pipeline
        self._job = job
        self._windows = windows
        self._denoise = denoise
        self._strength = strength
        self._multiple = multiple
        self._pause = pause
        self._notes = notes
        self._waiting: list[Image] = []
        self._latents: list[Any] = []
        counts = pipeline.vae._cached_conv_counts
        # Not the VAE's own ones: the pass before this one is still being decoded when this one begins.
        self._encoder_state, self._decoder_state = [None] * counts["encoder"], [None] * counts["decoder"]

    def add(self, picture: Image) -> None:
        """See :meth:`ClipRun.add`."""
        self._waiting.append(pad_frame(picture, self._multiple))
        if len(self._waiting) == (FRAMES_PER_LATENT if self._latents else 1):
            self._encode()

    def finish(self, write: Callable[[Image], object]) -> None:
        """See :meth:`ClipRun.finish`."""
        import torch

        if self._waiting:
            self._waiting += self._waiting[-1:] * (FRAMES_PER_LATENT - len(self._waiting))
            self._encode()
        clip = torch.cat(self._latents, dim=2)
        self._latents.clear()
        self._encoder_state.clear()
        with torch.no_grad():
            self._decode(self._denoise(self._noisy(clip)), write)

    def notes(self) -> dict[str, Any]:
        """See :meth:`ClipRun.notes`."""
        return self._notes

    def _encode(self) -> None:
        import torch

        self._pause()
        pipeline, vae = self._pipeline, self._pipeline.vae
        width, height = self._waiting[0].size
        video = pipeline.video_processor.preprocess_video(self._waiting, height=height, width=width)
        with torch.no_grad():
            part = vae.encoder(video.to(vae.device, vae.dtype), feat_cache=self._encoder_state, feat_idx=[0])
            # The mean is the most likely latent, which the pipeline takes.
            self._latents.append(vae.quant_conv(part).chunk(2, dim=1)[0].float())
        self._waiting.clear()

    def _noisy(self, clip: Any) -> Any:
        """As the pipeline makes them of a clip."""
        import torch

        pipeline, scheduler = self._pipeline, self._pipeline.scheduler
        mean, spread = self._scale(clip)
        clip = (clip - mean) * (1.0 / spread)
        scheduler.set_timesteps(self._job.steps, device=clip.device)
        start = pipeline.get_timesteps(self._job.steps, scheduler.timesteps, self._strength, clip.device)[0][:1]
        noise = torch.randn(clip.shape, generator=torch.Generator("cpu").manual_seed(self._job.seed)).to(clip.device)
        if hasattr(scheduler, "add_noise"):
            return scheduler.add_noise(clip, noise, start)
        return scheduler.scale_noise(clip, start, noise)

    def _decode(self, latents: Any, write: Callable[[Image], object]) -> None:
        vae, left = self._pipeline.vae, self._windows.total
        latents = latents.to(vae.dtype)
        mean, spread = self._scale(latents)
        latents = latents / (1.0 / spread) + mean
        for number in range(latents.shape[2]):
            self._pause()
            part = vae.post_quant_conv(latents[:, :, number : number + 1])
            first = {"first_chunk": True} if number == 0 else {}
            video = vae.decoder(part, feat_cache=self._decoder_state, feat_idx=[0], **first).clamp(-1.0, 1.0)
            video = self._pipeline.video_processor.postprocess_video(video, output_type="np")[0]
            for picture in pictures_of(video[:left], self._job.width, self._job.height):
                write(picture)
                left -= 1

    def _scale(self, like: Any) -> tuple[Any, Any]:
        """The mean and the spread of latents."""
        import torch

        config = self._pipeline.vae.config
        shape = (1, config.z_dim, 1, 1, 1)
        mean, spread = (
            torch.tensor(values).view(shape).to(like) for values in (config.latents_mean, config.latents_std)
        )
        return mean, spread


def latent_windows(windows: ContextWindows) -> ContextWindows:
    """The same windows, counted in latents."""

    def latents(frames: int) -> int:
        return 1 + -(-(frames - 1) // FRAMES_PER_LATENT)

    length = latents(windows.length)
    return ContextWindows(latents(windows.total), length, min(-(-windows.overlap // FRAMES_PER_LATENT), length - 1))


@contextmanager
def seen_in_windows(
    transformer: Any, windows: ContextWindows, step: Callable[[], int], pause: Callable[[], None]
) -> Iterator[None]:
    """Let a transformer see the latents window by window, whoever calls it.

    :param windows: over the latents.
    :param step: the number of the step, from 0.
    """
    whole = transformer.forward

    def forward(hidden_states: Any, **options: Any) -> tuple[Any]:
        def predict(window: Any) -> Any:
            pause()
            return whole(hidden_states=window, **options)[0]

        return (windows.average(hidden_states, step(), predict),)

    transformer.forward = forward
    try:
        yield
    finally:
        transformer.forward = whole
