"""Trains the small model that ships as ``demo``: ``python -m tools.train_demo_model --out DIR``.

Everything comes from a seed: the clips, the captions, the weights. The stages are the text encoder, the VAE, the
motion UNet, the style LoRA, and the packing of the parts in float16. ``DIR/work`` keeps
what a stage left, so a run that was stopped goes on with ``--stage``; ``DIR/model`` and ``DIR/demo-mosaic.safetensors``
are the result, with its card ``DIR/README.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tools.demo_model.budget import Budget
from tools.demo_model.folder import Folder
from tools.demo_model.lora import train_lora
from tools.demo_model.pack import pack
from tools.demo_model.text import new_tokenizer, train_text_encoder
from tools.demo_model.unet import train_unet
from tools.demo_model.vae import train_vae

__all__ = ["Plan", "main"]

SEED = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of each stage, and how far ``--minutes`` cuts it short."""

    folder: Folder
    seed: int
    minutes: float | None
    workers: int
    scale: float

    def steps(self, usual: int) -> int:
        """A stage's steps."""
        return max(1, round(usual * self.scale))

    def seconds(self, share: float) -> float | None:
        """A stage's share of the time, ``None`` without a limit."""
        return None if self.minutes is None else 60 * self.minutes * share

    def budget(self, stage: str, steps: int, share: float) -> Budget:
        """The budget of a stage in this process."""
        return Budget(stage, self.steps(steps), self.seconds(share), self.folder.log)


def main(arguments: list[str] | None = None) -> int:
    """Run all stages, or one of them."""
    parser = argparse.ArgumentParser(prog="python -m tools.train_demo_model", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the result")
    parser.add_argument("--minutes", type=float, help="cuts the stages short")
    parser.add_argument("--scale", type=float, default=1.0, help="the share of the usual steps of each stage")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that train the UNet")
    parser.add_argument("--stage", choices=STAGES, help="this stage alone, on what the ones before it left")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the tensors are small: threads cost more than they bring
    plan = Plan(Folder(given.out / "work"), given.seed, given.minutes, given.workers, given.scale)
    for name in [given.stage] if given.stage else STAGES:
        STAGES[name](plan)
    if given.stage in (None, "pack"):
        print(f"{given.out}: {pack(plan.folder, given.out, plan.seed)} bytes of weights")
    return 0


def _text(plan: Plan) -> None:
    tokenizer = new_tokenizer()
    plan.folder.save("tokenizer", tokenizer)
    budget = plan.budget("text", 300, 0.02)
    plan.folder.save("text_encoder", train_text_encoder(tokenizer, budget, plan.seed))
    plan.folder.note("text", budget)


def _vae(plan: Plan) -> None:
    budget = plan.budget("vae", 900, 0.25)
    vae = train_vae(budget, plan.seed, lambda vae: plan.folder.save("vae", vae))
    plan.folder.save("vae", vae)
    plan.folder.note("vae", budget)


def _unet(plan: Plan) -> None:
    train_unet(
        plan.folder,
        steps=plan.steps(1600),
        seconds=plan.seconds(0.6),
        seed=plan.seed + 2,
        workers=plan.workers,
        scale=plan.scale,
    )


def _lora(plan: Plan) -> None:
    train_lora(plan.folder, steps=plan.steps(500), seconds=plan.seconds(0.13), seed=plan.seed + 3, scale=plan.scale)


STAGES: dict[str, Callable[[Plan], None]] = {
    "text": _text,
    "vae": _vae,
    "unet": _unet,
    "lora": _lora,
    "pack": lambda _: None,
}


if __name__ == "__main__":
    sys.exit(main())
