"""The families of local models, with their limits and defaults."""

from __future__ import annotations

from airflow_provider_modelslab.local.families.base import Family
from airflow_provider_modelslab.local.families.registry import FAMILIES
from tools.pages.markdown import code, table

__all__ = ["defaults", "limits"]


def limits() -> str:
    """What each family runs, and how much of it."""
    return table(
        ["family", "runs folders saved by", "built-in models", "longest side", "`num_frames`"],
        ([code(family.name), *_limits(family)] for family in FAMILIES.values()),
    )


def defaults() -> str:
    """What holds where neither the request nor the catalog names a value."""
    names = ("width", "height", "frames", "fps", "steps", "guidance_scale")
    heads = ("`width`", "`height`", "`num_frames`", "`fps`", "`num_inference_steps`", "`guidance_scale`")
    return table(
        ["family", *heads],
        ([code(family.name), *(str(family.defaults[name]) for name in names)] for family in FAMILIES.values()),
    )


def _limits(family: Family) -> list[str]:
    step = family.frame_step
    return [
        ", ".join(map(code, family.pipelines)),
        ", ".join(code(entry.id) for entry in family.models) or "none",
        str(family.max_side),
        f"1 to {family.defaults['max_frames']}" + (f", in steps of {step}: {step}k + 1" if step > 1 else ""),
    ]
