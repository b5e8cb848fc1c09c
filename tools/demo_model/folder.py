"""The folder that a training works in: what each stage left for the next, in diffusers' layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers, load_transformers
from tools.demo_model.budget import Budget

__all__ = ["Folder"]

_NOTES = "stages.json"
_COMMAND = "python -m tools.train_demo_model --out DIR"


class Folder:
    """Reads and writes the parts in float32, and keeps a log."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def vae(self) -> Any:
        """The VAE, frozen."""
        vae = load_diffusers().AutoencoderKL.from_pretrained(str(self.path / "vae"))
        return vae.eval().requires_grad_(False)

    def tokenizer(self) -> Any:
        """The tokenizer."""
        return load_transformers().CLIPTokenizer.from_pretrained(str(self.path / "tokenizer"))

    def text_encoder(self) -> Any:
        """The text encoder."""
        return load_transformers().CLIPTextModel.from_pretrained(str(self.path / "text_encoder"))

    def unet(self) -> Any:
        """The motion UNet."""
        return load_diffusers().UNetMotionModel.from_pretrained(str(self.path / "unet"))

    def has(self, name: str) -> bool:
        """Whether a part of this name was saved."""
        return (self.path / name / "config.json").is_file()

    def save(self, name: str, part: Any) -> None:
        """Save a part under a name."""
        part.save_pretrained(str(self.path / name))

    def log(self, line: str) -> None:
        """Print a line and keep it in ``training.log``."""
        print(line, flush=True)
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "training.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def note(self, stage: str, budget: Budget) -> None:
        """Keep how long a stage took, for the model card."""
        notes = self.notes() | {stage: {"steps": budget.steps, "seconds": round(budget.seconds)}}
        (self.path / _NOTES).write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")

    def command(self) -> str:
        """The command that filled this folder, from ``command.txt`` where one lies there."""
        file = self.path / "command.txt"
        return file.read_text(encoding="utf-8").strip() if file.is_file() else _COMMAND

    def remark(self) -> str:
        """What the model card is to say beside that, from ``remark.txt`` where one lies there; ends with a new line."""
        file = self.path / "remark.txt"
        return f"\n{file.read_text(encoding='utf-8').rstrip()}\n" if file.is_file() else ""

    def notes(self) -> dict[str, dict[str, int]]:
        """Steps and seconds of the stages that are done."""
        file = self.path / _NOTES
        if not file.is_file():
            return {}
        notes: dict[str, dict[str, int]] = json.loads(file.read_text(encoding="utf-8"))
        return notes
