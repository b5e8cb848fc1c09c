"""The built-in model ``demo``: how well its autoencoder reproduces clips, and how well it applies its styles.

python -m tools.train_demo_model --check --clips DIR --json FILE
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.encode import Mp4Writer
from airflow_provider_modelslab.local.models.demo_model import DEMO_MODEL
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from tools.contact_sheet import draw_sheet
from tools.demo_model.measures import StyleClassifier, edge_correlation, flicker, hue_angle, psnr, speckle_ratio
from tools.demo_model.pictures import Pictures
from tools.demo_model.scenes import draw_scene
from tools.demo_model.styles import COLOURS, STYLES, Look, render
from tools.make_clip import draw_frames

__all__ = ["check"]

SIZE = (288, 192)
_FRAMES, _SKIPPED = 6, 10  # the frames follow each other; the first ones of a film are often black
_COLOUR_FRAMES = 2  # enough for a hue
_STRENGTH, _STEPS, _SEED = 0.35, 10, 7
_PROMPTS = {"poster": "a poster", "sketch": "a pencil sketch", "watercolour": "a watercolour", "neon": "neon lights"}
_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")

Restyle = Callable[[Path, str], Tensor]


def check(clips: Path | None, sheets: Path | None = None) -> dict[str, Any]:
    """Measure the committed weights by requests to the engine, at strength 0.35.

    :param clips: a folder with real footage; without it its figures are left out, and the others come of drawn clips.
    :param sheets: where to write a contact sheet of each request.
    :returns: the figures; ratios and correlations as means over the clips, by style.
    """
    torch.set_num_threads(1)
    real = {file.stem: _read(file) for file in sorted(clips.iterdir()) if file.suffix in _SUFFIXES} if clips else {}
    drawn = {"clip": _tensor(draw_frames()[:_FRAMES])} | {
        f"scene{seed}": draw_scene(seed, _FRAMES, SIZE[1], SIZE[0]).frames for seed in (1, 2)
    }
    figures: dict[str, Any] = {"clips": [*real, *drawn], "strength": _STRENGTH, "steps": _STEPS}
    vae = load_diffusers().AutoencoderKL.from_pretrained(str(_folder() / "model" / "vae")).float().eval()
    if real:
        figures["vae_psnr_real_by_clip"] = {name: round(_carried(vae, clip), 2) for name, clip in real.items()}
        figures["vae_psnr_real"] = round(mean(figures["vae_psnr_real_by_clip"].values()), 2)
    figures["vae_psnr_drawn"] = round(mean(_carried(vae, clip) for clip in drawn.values()), 2)
    with tempfile.TemporaryDirectory() as folder:
        made = _restyled(real | drawn, Path(folder), sheets)
    figures |= _figures(made)
    files = _folder().rglob("*.safetensors")
    return figures | {"weights_mb": round(sum(file.stat().st_size for file in files) / 1e6, 2)}


def _restyled(sources: dict[str, Tensor], folder: Path, sheets: Path | None) -> dict[tuple[str, Look], list[Tensor]]:
    """Source, result and true look of each clip in each look."""
    engine = LocalEngine(device="cpu", dtype="float32", offline=True)
    made = {}
    for name, clip in sources.items():
        file = folder / f"{name}.mp4"
        with Mp4Writer(file, 12, SIZE, crf=8) as writer:
            for frame in _images(clip):
                writer.add(frame)
        for look in [*((style, "") for style in STYLES), *(("", colour) for colour in COLOURS)]:
            count = _FRAMES if look[0] else _COLOUR_FRAMES
            prompt = _PROMPTS[look[0]] if look[0] else f"a video in {look[1]}"
            request = Video2VideoRequest(
                model_id="demo", prompt=prompt, init_video=str(file), width=SIZE[0], height=SIZE[1], seed=_SEED,
                num_frames=count, num_inference_steps=_STEPS, strength=_STRENGTH, output_type="mp4",
            )  # fmt: skip
            result = read_frames(engine.generate(request, folder / "made").path, count)[0]
            source = _tensor(read_frames(file, count)[0])
            if sheets:
                draw_sheet(
                    _images(source), result, f"{name}: {prompt}", sheets / f"{name}-{'-'.join(look)}.png", columns=3
                )
            made[name, look] = [source, _tensor(result), render(source, *look)]
    return made


def _figures(made: dict[tuple[str, Look], list[Tensor]]) -> dict[str, Any]:
    by_style = {style: [found for (_, look), found in made.items() if look == (style, "")] for style in STYLES}

    def each(measure: Callable[[Tensor, Tensor, Tensor], float]) -> dict[str, float]:
        return {style: round(mean(measure(*found) for found in by_style[style]), 3) for style in STYLES}

    speckle = each(speckle_ratio)
    moving = each(lambda source, result, _: flicker(result) / flicker(source))
    known = _classifier()
    named = [
        (style, name) for style, found in by_style.items() for _, result, _ in found for name in known.names(result)
    ]
    angles = {
        colour: [(hue_angle(source, colour), hue_angle(result, colour)) for source, result, _ in _of(made, colour)]
        for colour in COLOURS
    }
    towards = [after < max(before, 15) for before, after in itertools.chain.from_iterable(angles.values())]
    return {
        "edge_correlation_by_style": each(lambda source, result, _: edge_correlation(source, result)),
        "edge_correlation_of_true_style": each(lambda source, _, true: edge_correlation(source, true)),
        "speckle_ratio": max(speckle.values()),
        "speckle_ratio_by_style": speckle,
        "style_accuracy": round(mean(style == name for style, name in named), 3),
        "style_accuracy_among_results": round(_accuracy_among_results(made), 3),
        "hue_shift": round(mean(towards), 3),
        "hue_degrees_off": {colour: round(mean(after for _, after in found)) for colour, found in angles.items()},
        "flicker_ratio": max(moving.values()),
        "flicker_ratio_by_style": moving,
        "flicker_ratio_of_true_style": each(lambda source, _, true: flicker(true) / flicker(source)),
        "error_by_style": each(lambda _, result, true: float((result - true).abs().mean())),
    }


def _of(made: dict[tuple[str, Look], list[Tensor]], colour: str) -> list[list[Tensor]]:
    return [found for (_, look), found in made.items() if look == ("", colour)]


def _accuracy_among_results(made: dict[tuple[str, Look], list[Tensor]]) -> float:
    """The share of frames whose style a classifier knows that has seen the results of the other clips alone."""
    found = []
    for clip in {name for name, _ in made}:
        others: dict[str, list[Tensor]] = {style: [] for style in STYLES}
        for (name, (style, _)), (_, result, _) in made.items():
            if style and name != clip:
                others[style].append(result)
        known = StyleClassifier({style: torch.cat(results) for style, results in others.items()})
        found += [style == name for style in STYLES for name in known.names(made[clip, (style, "")][1])]
    return mean(found)


def _classifier() -> StyleClassifier:
    """Trained on the true looks of procedural pictures, not on anything that the model made."""
    rng = random.Random(5)
    pictures = torch.cat(
        [
            Pictures([], 5).draw(120, SIZE[1], SIZE[0]),
            *(draw_scene(rng.getrandbits(48), 1, SIZE[1], SIZE[0]).frames for _ in range(60)),
        ]
    )
    return StyleClassifier({style: render(pictures, style, "") for style in ("", *STYLES)})


@torch.no_grad()
def _carried(vae: Any, clip: Tensor) -> float:
    made = vae.decode(vae.encode(2 * clip - 1).latent_dist.mean).sample
    return psnr(made.clamp(-1, 1) / 2 + 0.5, clip)


def _read(file: Path) -> Tensor:
    with av.open(str(file)) as video:
        frames = [frame.to_image() for frame in itertools.islice(video.decode(video=0), _SKIPPED, _SKIPPED + _FRAMES)]  # type: ignore[no-untyped-call]
    return _tensor(frames)


def _tensor(frames: list[Image.Image]) -> Tensor:
    pixels = [np.asarray(frame.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS), np.float32) for frame in frames]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255


def _images(clip: Tensor) -> list[Image.Image]:
    pixels = (clip.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(frame) for frame in pixels]


def _folder() -> Path:
    return Path(str(DEMO_MODEL.source.path)).parent
