"""Trains the small model that ships as ``demo``: ``python -m tools.train_demo_model --out DIR``.

Everything comes from a seed: the pictures, the clips, the captions, the weights. The stages are the text encoder, the
VAE's decoder, the UNet on pictures, the UNet on clips, the style LoRA, and the packing of the parts in float16. The
VAE's encoder is a fixed linear map, so ``--stage vae`` and the UNet's stages may run at the same time. ``DIR/work``
keeps checkpoints; the same command goes on where it was stopped. ``DIR/model`` and ``DIR/demo-mosaic.safetensors`` are
the result, with its card ``DIR/README.md``.

    pip download --no-deps --dest wheels --only-binary :all: --python-version 3.10 scikit-image==0.19.3
    pip download --no-deps --dest wheels --only-binary :all: --python-version 3.11 scikit-learn==1.7.2
    python -m tools.train_demo_model --out DIR --wheels wheels/*.whl --minutes 60

``--check`` measures the committed model instead.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.demo_model import check
from benchmarks.report import add_json_option, machine, write_json
from tools.demo_model.budget import Budget
from tools.demo_model.checkpoint import Checkpoint
from tools.demo_model.clips import LOOKS, Supply
from tools.demo_model.device import find_device
from tools.demo_model.folder import Folder
from tools.demo_model.lora import LORA_LOOKS, train_lora
from tools.demo_model.pack import pack
from tools.demo_model.pictures import Pictures, read_photographs
from tools.demo_model.styles import Look
from tools.demo_model.text import Captions, new_tokenizer, train_text_encoder
from tools.demo_model.unet import train_unet
from tools.demo_model.vae import train_vae

__all__ = ["STAGES", "Plan", "main"]

SEED = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a training works, and how much it does."""

    out: Path
    wheels: list[Path]
    seed: int
    minutes: float | None
    scale: float

    @property
    def folder(self) -> Folder:
        """What the stages leave for each other."""
        return Folder(self.out / "work")

    def budget(self, stage: str, steps: int, share: float) -> Budget:
        """A stage's steps, and its share of the time if that is limited."""
        seconds = None if self.minutes is None else 60 * self.minutes * share
        return Budget(stage, max(1, round(steps * self.scale)), seconds, self.folder.log)

    def pictures(self, offset: int) -> Pictures:
        """A stage's pictures."""
        return Pictures(read_photographs(self.wheels), self.seed + offset, find_device())

    def supply(self, offset: int, looks: list[Look]) -> tuple[Supply, Captions]:
        """A stage's clips in these looks, and captions that ask for them."""
        supply = Supply(self.pictures(offset), random.Random(self.seed + offset), find_device(), looks)
        words = sorted(set(looks))
        folder = self.folder
        return supply, Captions(folder.tokenizer(), folder.text_encoder(), words, self.seed + offset, find_device())

    def checkpoint(self, stage: str) -> Checkpoint:
        """Where a stage goes on."""
        return Checkpoint(self.folder.path / f"{stage}.pt")


def main(arguments: list[str] | None = None) -> int:
    """Run what is left of the stages, or one of them, or the check."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_demo_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, help="the folder of the result")
    parser.add_argument("--wheels", type=Path, nargs="*", default=[], help="wheels with photographs, see above")
    parser.add_argument("--minutes", type=float, help="cuts the stages short")
    parser.add_argument("--scale", type=float, default=1.0, help="the share of the usual steps of each stage")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--stage", choices=STAGES, help="this stage alone, on what the ones before it left")
    parser.add_argument("--check", action="store_true", help="measure the model that the package has; trains nothing")
    parser.add_argument("--clips", type=Path, help="for --check: a folder of real footage")
    parser.add_argument("--sheets", type=Path, help="for --check: a folder for contact sheets")
    add_json_option(parser)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the tensors are small: threads cost more than they bring
    if given.check:
        command = shlex.join(["python", "-m", "tools.train_demo_model", *(arguments or sys.argv[1:])])
        figures = {"machine": machine(), "command": command} | check(given.clips, given.sheets)
        print(json.dumps(figures, indent=2))
        write_json(given.json, figures)
        return 0
    if given.out is None:
        parser.error("--out is required without --check")
    plan = Plan(given.out, given.wheels, given.seed, given.minutes, given.scale)
    done = plan.folder.notes()
    for name in [given.stage] if given.stage else [name for name in STAGES if name not in done]:
        STAGES[name](plan)
    return 0


def _text(plan: Plan) -> None:
    tokenizer = new_tokenizer()
    plan.folder.save("tokenizer", tokenizer)
    budget = plan.budget("text", 300, 0.02)
    plan.folder.save("text_encoder", train_text_encoder(tokenizer, budget, plan.seed))
    plan.folder.note("text", budget)


def _vae(plan: Plan) -> None:
    budget = plan.budget("vae", 8000, 0.3)
    train_vae(
        budget,
        plan.seed,
        plan.pictures(0),
        find_device(),
        plan.checkpoint("vae"),
        lambda vae: plan.folder.save("vae", vae),
    )
    plan.folder.note("vae", budget)


def _unet(plan: Plan, stage: str, steps: int, share: float, offset: int, start: Any = None) -> None:
    budget = plan.budget(stage, steps, share)
    supply, captions = plan.supply(offset, LOOKS)
    train_unet(
        budget, supply, captions, plan.seed + offset, find_device(), plan.checkpoint(stage),
        lambda unet: plan.folder.save("unet", unet), clips=start is not None, start=start,
    )  # fmt: skip
    plan.folder.note(stage, budget)


def _stills(plan: Plan) -> None:
    _unet(plan, "unet-stills", 6000, 0.35, 10)


def _clips(plan: Plan) -> None:
    _unet(plan, "unet-clips", 3000, 0.25, 20, plan.folder.unet())


def _lora(plan: Plan) -> None:
    budget = plan.budget("lora", 500, 0.08)
    supply, captions = plan.supply(30, LORA_LOOKS)
    train_lora(budget, plan.folder.unet(), supply, captions, plan.seed + 30, find_device(), plan.folder.path / "lora")
    plan.folder.note("lora", budget)


def _pack(plan: Plan) -> None:
    print(f"{plan.out}: {pack(plan.folder, plan.out, plan.seed)} bytes of weights")


STAGES: dict[str, Callable[[Plan], None]] = {
    "text": _text,
    "vae": _vae,
    "unet-stills": _stills,
    "unet-clips": _clips,
    "lora": _lora,
    "pack": _pack,
}


if __name__ == "__main__":
    sys.exit(main())
