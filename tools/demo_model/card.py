"""The model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.demo_model.folder import Folder
from tools.demo_model.pictures import PHOTOGRAPHS
from tools.demo_model.styles import COLOURS, LORA_STYLE, STYLES

__all__ = ["FIGURES", "write_card"]

FIGURES = Path(__file__).parents[2] / "benchmarks" / "results" / "demo_model.json"
"""What ``--check --json`` said of the committed weights."""

_CARD = """\
---
license: apache-2.0
library_name: diffusers
---

# demo and demo-mosaic

A video-to-video model of {size:.1f} MB that restyles clips on a CPU in seconds: it repaints what it sees, and invents
nothing. It is made to show and to test the provider. `demo-mosaic` is a style LoRA for it.

- **Parts**: an ordinary diffusers folder of AnimateDiff's kind. A VAE (factor 4, 8 channels) whose encoder is a fixed
  linear map; CLIP's text model with a word-level vocabulary; a UNet with motion modules for up to 32 frames, which
  predicts the clean latents (`prediction_type` `sample`). Weights are float16 safetensors, run in float32 on a CPU.
- **Words that it knows**: the styles {styles};
  the colours {colours}; and some synonyms, among them painting and
  woodcut. Other words are ignored. The LoRA adds the style {lora}, whatever the prompt says.
- **Strength**: its noise schedule never hides the source. Below about 0.1 the source's look stays; from 0.2 on the new
  look is whole, and more strength makes it softer. 0.35 to 0.5 look best. Few steps do: 10 at strength 0.35 run three.
  Guidance is {guidance:g} by default, which runs the UNet once a step; more makes colours stronger.
- **Data**: pictures made by the project's own code (`tools/demo_model/pictures.py`, `scenes.py`: dead leaves, clouds,
  moving shapes), and {photographs}.
  The looks are renderings by `tools/demo_model/styles.py`. No clip that the figures below are measured on was used.
- **Objective**: see `tools/demo_model/objective.py`; first pictures, then the motion modules alone on clips.
- **Training**: `{command}`, seed {seed}, on a CPU:

{stages}
{remark}
{figures}
- **Limits**: what the looks do to a picture is all that it can do: no objects appear or change. It was trained on
  pieces of 64 to 96 pixels a side and 1 to 25 frames; 128 to 512 pixels work too.
- **License**: Apache-2.0, as the project. The photographs are not part of it.
"""


def write_card(folder: Folder, out: Path, seed: int, size: int) -> None:
    """Write ``README.md``; the stages' steps and seconds come from the folder's notes, the figures from a check."""
    from airflow_provider_modelslab.local.models.demo_model import DEMO_MODEL

    stages = ["| stage | steps | seconds |", "| --- | --- | --- |"]
    stages += [f"| {name} | {note['steps']} | {note['seconds']} |" for name, note in folder.notes().items()]
    text = _CARD.format(
        size=size / 1e6,
        styles=", ".join(STYLES),
        colours=", ".join(COLOURS),
        lora=LORA_STYLE,
        photographs="\n  ".join(f"`{name}` ({licence})," for name, licence in PHOTOGRAPHS.items()).rstrip(","),
        seed=seed,
        command=folder.command(),
        remark=folder.remark(),
        stages="\n".join(f"  {line}" for line in stages),
        figures=_figures_of(json.loads(FIGURES.read_text(encoding="utf-8"))) if FIGURES.is_file() else "",
        guidance=DEMO_MODEL.settings["guidance_scale"],
    )
    (out / "README.md").write_text(text, encoding="utf-8")


def _figures_of(figures: dict[str, Any]) -> str:
    edges = ", ".join(f"{style} {value}" for style, value in figures["edge_correlation_by_style"].items())
    real = f"{figures['vae_psnr_real']} dB on real footage, " if "vae_psnr_real" in figures else ""
    lines = [
        f"PSNR of the VAE: {real}{figures['vae_psnr_drawn']} dB on drawn clips",
        f"correlation of the blurred edge maps of source and result: {edges}",
        f"variance in flat regions over that of the true look: {figures['speckle_ratio']} at most",
        f"results whose style a linear classifier names: {figures['style_accuracy']:.0%}",
        f"results whose mean hue is nearer to the named colour than the source's: {figures['hue_shift']:.0%}",
        f"flicker of the result over the source's: {figures['flicker_ratio']} at most",
    ]
    head = "- **Figures**, by `--check` at strength 0.35 (`benchmarks/results/demo_model.json`):"
    return "\n".join([head, "", *(f"  - {line}" for line in lines)])
