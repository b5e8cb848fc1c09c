"""The model card."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_modelslab.local.models.demo_model import DEMO_MODEL
from tools.demo_model.folder import Folder
from tools.demo_model.styles import COLOURS, LORA_STYLE, STYLES

__all__ = ["write_card"]

_CARD = """\
---
license: apache-2.0
library_name: diffusers
---

# demo and demo-mosaic

A video-to-video model of {size:.1f} MB that restyles clips of simple shapes on a CPU in seconds. It is made to show and
to test the provider, not for real footage. `demo-mosaic` is a style LoRA for it.

- **Parts**: Stable Diffusion 1.5's and AnimateDiff's structure in a small size: a VAE (factor 8, 4 channels), CLIP's
  text model with a word-level vocabulary, a UNet with motion modules for up to 32 frames. Weights are float16
  safetensors; on a CPU they are run in float32.
- **Words that it knows**: the styles {styles};
  the colours {colours}; and some synonyms. Other words are
  ignored. The LoRA adds the style {lora}, whatever the prompt says.
- **Data**: synthetic clips of moving shapes on gradients, drawn and rendered in each style and colour by the project's
  own code (`tools/demo_model/scenes.py`, `styles.py`). No picture, video or text of anybody else was used.
- **Objective**: noise prediction on paired clips, see `tools/demo_model/objective.py`; 12 % have no caption.
- **Training**: `{command}`, seed {seed}, on a CPU:

{stages}
{remark}
- **Limits**: fine detail is lost, since a cell of 8 x 8 pixels is four numbers; faces, text and real scenes become
  blobs of the right colour. It was trained on clips of 64 to 96 pixels a side and 3 to 24 frames; 128 to 256 pixels
  work too. Guidance far above its default of {guidance:g} oversaturates.
- **License**: Apache-2.0, as the project.
"""


def write_card(folder: Folder, out: Path, seed: int, size: int) -> None:
    """Write ``README.md``; the stages' steps and seconds come from the folder's notes."""
    stages = ["| stage | steps | seconds |", "| --- | --- | --- |"]
    stages += [f"| {name} | {note['steps']} | {note['seconds']} |" for name, note in folder.notes().items()]
    text = _CARD.format(
        size=size / 1e6,
        styles=", ".join(STYLES),
        colours=", ".join(COLOURS),
        lora=LORA_STYLE,
        seed=seed,
        command=folder.command(),
        remark=folder.remark(),
        stages="\n".join(f"  {line}" for line in stages),
        guidance=DEMO_MODEL.settings["guidance_scale"],
    )
    (out / "README.md").write_text(text, encoding="utf-8")
