"""The small model that ships with this package and really restyles: ``demo``, with its style LoRA ``demo-mosaic``.

It was trained by ``tools/train_demo_model.py``, see ``demo/README.md`` beside this file. It is there to show and to
test what the engine does: it repaints any clip in a few styles and colours, and invents nothing.
"""

from __future__ import annotations

from pathlib import Path

from airflow_provider_modelslab.local.models.specs import ANIMATEDIFF, LoraSpec, ModelEntry, Source

__all__ = ["DEMO_LORA", "DEMO_MODEL"]

_FOLDER = Path(__file__).parent.parent / "demo"
_LICENSE = "Apache-2.0"

DEMO_MODEL = ModelEntry(
    "demo",
    Source(path=_FOLDER / "model"),
    ANIMATEDIFF,
    {
        "own_motion": "v2_sd15_mm",
        "steps": 10,
        "guidance_scale": 1.0,
        "width": 288,  # 512 x 512 takes a CPU minutes, and shows no more
        "height": 192,
        "license": _LICENSE,
    },
)
"""The model: its motion modules go by the page's default name, so a request needs no ``motion_module``."""

DEMO_LORA = LoraSpec("demo-mosaic", Source(path=_FOLDER / "demo-mosaic.safetensors"), license=_LICENSE)
"""A style that the model does not know without it: tiles with dark joints."""
