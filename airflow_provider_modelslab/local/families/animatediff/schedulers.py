"""The schedules by name, with the settings that each kind of motion module was made for."""

from __future__ import annotations

from typing import Any

from airflow_provider_modelslab.local.models.specs import TRAIN_STEPS
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers

__all__ = ["PRESETS", "build_scheduler", "max_steps"]

_LCM_STEPS = 50

# Stable Diffusion 1.5 was saved with PNDM and "scaled_linear" betas, made for pictures; motion modules want "linear".
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    # From diffusers' AnimateDiff page.
    "ddim": (
        "DDIMScheduler",
        {"beta_schedule": "linear", "clip_sample": False, "timestep_spacing": "linspace", "steps_offset": 1},
    ),
    # From AnimateLCM's model card.
    "lcm": ("LCMScheduler", {"beta_schedule": "linear"}),
    # From AnimateDiff-Lightning's model card.
    "euler-trailing": ("EulerDiscreteScheduler", {"beta_schedule": "linear", "timestep_spacing": "trailing"}),
}
"""Name: the class in diffusers, and what differs from the settings that were saved with the model."""


def build_scheduler(name: str, saved: Any) -> Any:
    """A fresh scheduler of this preset on the settings ``saved``; of ``own`` there is none to build."""
    kind, changes = PRESETS[name]
    return getattr(load_diffusers(), kind).from_config(saved, **changes)


def max_steps(name: str) -> int:
    """The most steps that a schedule of this preset can have."""
    return _LCM_STEPS if name == "lcm" else TRAIN_STEPS
