"""What the tests of each family share whose models diffusers' own pipeline runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.families.pipeline_model import PipelineModel
from airflow_provider_modelslab.local.plan import DenoisingPass
from tests.support.moving import moving_frames

__all__ = ["are_the_frames_of_diffusers", "engine_with", "requests_for"]


def engine_with(folder: Path) -> LocalEngine:
    """An engine on the CPU for the models in this folder."""
    return LocalEngine(model_dir=folder, cache_dir=folder, device="cpu", dtype="float32", offline=True)


def requests_for(model_id: str, source: Path, num_frames: int) -> Callable[..., Video2VideoRequest]:
    """Makes small requests for a model; what is given changes them."""

    def request(**changes: Any) -> Video2VideoRequest:
        values = {"model_id": model_id, "prompt": "a fox", "init_video": str(source), "seed": 3}
        small = {"num_frames": num_frames, "width": 32, "height": 32, "num_inference_steps": 4}
        return Video2VideoRequest(**values | small | changes)

    return request


def are_the_frames_of_diffusers(model: PipelineModel, count: int, guidance: float) -> bool:
    """Whether the model makes as many frames as it gets, each as its own pipeline makes it."""
    frames = moving_frames(count, 32, 32)
    given = DenoisingPass("a fox", "bad", 4, 0.5, guidance, 3, 32, 32, scheduler="own")
    ours = model.run(frames, given, on_step=lambda _done: None)
    theirs = model.pipeline(
        video=frames, prompt="a fox", negative_prompt="bad", height=32, width=32, num_inference_steps=4, strength=0.5,
        guidance_scale=guidance, generator=torch.Generator().manual_seed(3), output_type="np",
    ).frames[0]  # fmt: skip
    return len(ours) == count and np.array_equal(
        np.stack([np.asarray(frame) for frame in ours]), np.rint(theirs * 255).astype(np.uint8)
    )
