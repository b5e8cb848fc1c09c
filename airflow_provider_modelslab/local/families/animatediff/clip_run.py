"""An AnimateDiff model over a clip of any length, in context windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.local.families.animatediff.denoise import denoise_latents
from airflow_provider_modelslab.local.families.animatediff.guidance import Means
from airflow_provider_modelslab.local.families.animatediff.vae_frames import DRAWN, decode, encode
from airflow_provider_modelslab.local.families.base import pad_frame, pictures_of
from airflow_provider_modelslab.local.families.windows import ClipRun
from airflow_provider_modelslab.local.plan import DenoisingPass

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["AnimateDiffClipRun"]


class AnimateDiffClipRun(ClipRun):
    """See :class:`ClipRun`. A clip of one window gets the frames of :func:`~.denoise.denoise`, to the last bit.

    :param pipeline: a loaded ``AnimateDiffVideoToVideoPipeline`` with the pass' scheduler.
    :param means: with the windows.
    :param multiple: sides are widened to a multiple of this.
    :param on_step: called with the steps done after each; what it raises ends the run.
    """

    def __init__(
        self, pipeline: Any, job: DenoisingPass, means: Means, *, multiple: int, on_step: Callable[[int], None]
    ) -> None:
        import torch

        self._pipeline = pipeline
        self._job = job
        self._means = means
        self._multiple = multiple
        self._on_step = on_step
        self._generator = torch.Generator("cpu").manual_seed(job.seed)
        self._waiting: list[Image] = []
        self._latents: list[Any] = []

    def add(self, picture: Image) -> None:
        """See :meth:`ClipRun.add`."""
        self._waiting.append(pad_frame(picture, self._multiple))
        if len(self._waiting) == DRAWN:
            self._encode()

    def finish(self, write: Callable[[Image], object]) -> None:
        """See :meth:`ClipRun.finish`."""
        import torch

        if self._waiting:
            self._encode()
        clip = torch.cat(self._latents, dim=1)
        self._latents.clear()
        latents = denoise_latents(
            self._pipeline, clip, self._generator, self._job, on_step=self._on_step, means=self._means
        )
        for start in range(0, latents.shape[2], DRAWN):
            self._means.pause()
            with torch.no_grad():
                video = decode(self._pipeline, latents[:, :, start : start + DRAWN], self._means.portions)
            for picture in pictures_of(video, self._job.width, self._job.height):
                write(picture)

    def notes(self) -> dict[str, Any]:
        """See :meth:`ClipRun.notes`."""
        return self._means.notes(self._job)

    def _encode(self) -> None:
        import torch

        self._means.pause()
        with torch.no_grad():
            self._latents.append(encode(self._pipeline, self._waiting, self._generator, self._means.portions))
        self._waiting.clear()
