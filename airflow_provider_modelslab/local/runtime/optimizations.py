"""What may be traded for speed, and what is merely faster.

What changes no result is always on where it helps (see :mod:`~.model`); what costs something is a field
here, and by default off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_modelslab.local.plan import DenoisingPass

__all__ = ["Optimizations"]


@dataclass(frozen=True, slots=True)
class Optimizations:
    """How to run a model. The defaults change no result.

    PSNR is against the exact result, for the ``tiny`` model: 16 frames, 14 steps, guidance 7.5, measured with
    ``python -m benchmarks.local --skip load overhead gif --approximations``. Its weights are random, which is unkind:
    real ones change less from step to step, so look at your own clips before you turn one on. The share of the UNet's
    work is counted for Stable Diffusion 1.5's sizes, 16 frames of 512x512 and 14 steps. What was in force for a clip is
    in its meta under ``approximations``.

    :param compile: compile the denoiser with ``torch.compile``: exact but for rounding. Needs a C++ compiler, and
        Triton on a GPU. Every new number of frames, size and guidance (on or off) is compiled once, which takes
        minutes at first and is kept on disk for the next process, so it pays for many clips of one kind.
    :param tiny_vae: a folder or a Hub id (``madebyollin/taesd``) of an ``AutoencoderTiny`` that makes the latents and
        the pictures instead of the model's own VAE, at a tenth of its work or less. What it loses is in its training:
        one trained for seconds on one clip got 4.7 dB, which is no picture; measure yours. AnimateDiff models only.
    :param guidance_until: the share of the steps, the noisiest first, that run with classifier-free guidance, 0 to 1;
        the others follow the prompt alone, at half the work. 1 is exact. 0.8 gave 43.1 dB at 93 % of the UNet's work,
        0.6 33.1 dB at 82 %, 0.4 26.7 dB at 71 %.
    :param reuse_deep: run the UNet below its first resolution in every so many-th step only, and reuse what came out of
        it in between, where a step costs 36 %. 1 is exact. 2 gave 41.8 dB at 68 % of the UNet's work, 3 37.2 dB at
        59 %, 5 32.7 dB at 50 %. AnimateDiff models only.
    :raises ValueError: naming the field that is out of range.
    """

    compile: bool = False
    tiny_vae: str | Path | None = None
    guidance_until: float = 1.0
    reuse_deep: int = 1

    def __post_init__(self) -> None:
        if self.compile not in (True, False):
            raise ValueError(f"compile must be True or False; got {self.compile!r}")
        if self.tiny_vae is not None and (not isinstance(self.tiny_vae, (str, Path)) or not str(self.tiny_vae).strip()):
            raise ValueError(f"tiny_vae must be a folder or a Hub id such as madebyollin/taesd; got {self.tiny_vae!r}")
        share = self.guidance_until
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f"guidance_until must be a share of the steps from 0 to 1; got {share!r}")
        every = self.reuse_deep
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"reuse_deep must be a whole number of steps from 1; got {every!r}")

    def approximations(self, job: DenoisingPass | None = None) -> dict[str, Any]:
        """The approximations that are on, by field; JSON.

        :param job: leaves out those that change nothing in this pass.
        """
        on: dict[str, Any] = {}
        if self.tiny_vae is not None:
            on["tiny_vae"] = str(self.tiny_vae)
        if self.guidance_until < 1 and (
            job is None or (job.guidance_scale > 1 and self.guided_steps(job.steps_run) < job.steps_run)
        ):
            on["guidance_until"] = self.guidance_until
        if self.reuse_deep > 1 and (job is None or job.steps_run > 1):
            on["reuse_deep"] = self.reuse_deep
        return on

    def guided_steps(self, steps: int) -> int:
        """How many of so many steps run with guidance."""
        return math.ceil(self.guidance_until * steps - 1e-9)
