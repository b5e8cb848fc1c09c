"""What the words and numbers of a request mean, asked of the small trained model that ships.

Each test compares two clips that differ in one attribute, by a number that says what that attribute is for. Small
sizes and few steps; results are kept for all tests of this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.families.animatediff.family import AnimateDiff
from airflow_provider_modelslab.local.media.decode import read_frames, resize_frames
from airflow_provider_modelslab.local.models import demo_model
from tests.support.moving import distance
from tools.make_clip import DEFAULT_PATH

SIZE = (96, 64)
FRAMES = 8
Frames = list[Image.Image]
Make = Callable[..., Frames]


@pytest.fixture(scope="module")
def source() -> Frames:
    """The demo's clip at the tests' size."""
    return resize_frames(read_frames(DEFAULT_PATH, FRAMES)[0], *SIZE)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Restyle the demo's clip: 8 frames of 96x64, 4 of 10 steps; equal requests are made once."""
    engine = LocalEngine(device="cpu", dtype="float32", offline=True)
    folder = tmp_path_factory.mktemp("made")
    known: dict[str, Frames] = {}

    def restyle(prompt: str = "a poster in blue", **changes: Any) -> Frames:
        values: dict[str, Any] = {
            "model_id": "demo",
            "prompt": prompt,
            "init_video": str(DEFAULT_PATH),
            "seed": 7,
            "num_frames": FRAMES,
            "width": SIZE[0],
            "height": SIZE[1],
            "num_inference_steps": 10,
            "strength": 0.4,
            "output_type": "gif",
            **changes,
        }
        key = repr(sorted(values.items()))
        if key not in known:
            made = engine.generate(Video2VideoRequest(**values), folder / "made")
            known[key] = read_frames(made.path, FRAMES)[0]
        return known[key]

    return restyle


def colour(frames: Frames) -> Any:
    """Mean red, green and blue, 0 to 255."""
    return np.mean([np.asarray(frame, dtype=float).mean((0, 1)) for frame in frames], axis=0)


def lead(frames: Frames, channel: int) -> float:
    """How far one channel's mean is above the mean of the other two."""
    means = colour(frames)
    return float(means[channel] - np.delete(means, channel).mean())


RED, GREEN, BLUE = range(3)


def test_it_ships_small_with_its_card() -> None:
    folder = Path(demo_model.__file__).parents[1] / "demo"
    weights = list(folder.rglob("*.safetensors"))
    assert len(weights) == 4
    assert sum(file.stat().st_size for file in weights) <= 16_000_000
    card = (folder / "README.md").read_text(encoding="utf-8")
    for fact in ("Apache-2.0", "CC0", "tools.train_demo_model", "seed 1", "seconds", "Limits"):
        assert fact in card


def test_what_the_catalog_says_of_it_is_what_its_files_say(tmp_path: Path) -> None:
    catalog = LocalEngine(cache_dir=tmp_path, offline=True).catalog
    built_in = AnimateDiff().spec(demo_model.DEMO_MODEL)
    assert catalog.lookup("demo") == replace(built_in, base=None, text_layers=3, has_motion=True)
    assert catalog.parts.lora("demo-mosaic") == demo_model.DEMO_LORA
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("word", "channel"), [("red", RED), ("green", GREEN), ("blue", BLUE)])
def test_the_prompt_names_the_colour(make: Make, word: str, channel: int) -> None:
    others = {"red": "blue", "green": "red", "blue": "green"}
    assert lead(make(f"a poster in {word}"), channel) > lead(make(f"a poster in {others[word]}"), channel) + 40


@pytest.mark.slow
def test_the_prompt_names_the_style(make: Make) -> None:
    neon, sketch = (colour(make(f"a {style} of shapes")).mean() for style in ("neon", "sketch"))
    assert sketch > neon + 50


def test_the_source_is_still_to_be_seen(make: Make, source: Frames) -> None:
    """Where the source is bright or dark, the result is: a picture of another clip would be at about 0."""

    def brightness(frames: Frames) -> Any:
        return np.stack([np.asarray(frame, dtype=float).mean(-1).ravel() for frame in frames])

    for word in ("red", "blue"):
        assert np.corrcoef(brightness(source).ravel(), brightness(make(f"a poster in {word}")).ravel())[0, 1] > 0.65


@pytest.mark.slow
def test_more_strength_goes_further_from_the_source(make: Make, source: Frames) -> None:
    far = [distance(source, make(strength=strength)) for strength in (0.1, 0.4, 0.8)]
    assert far[0] + 10 < far[1]
    assert far[1] + 10 < far[2]


@pytest.mark.slow
def test_guidance_pushes_towards_the_prompt(make: Make) -> None:
    leads = [lead(make("a red picture", guidance_scale=scale), RED) for scale in (1, 2, 4)]
    assert leads[0] + 15 < leads[1]
    assert leads[1] + 15 < leads[2]


@pytest.mark.slow
def test_a_negative_prompt_pushes_away_from_its_words(make: Make) -> None:
    without_red, without_blue = (
        make("a picture", negative_prompt=f"a {word} picture", guidance_scale=2) for word in ("red", "blue")
    )
    assert lead(without_red, RED) + 40 < lead(without_blue, RED)
    assert lead(without_blue, BLUE) + 40 < lead(without_red, BLUE)


@pytest.mark.slow
def test_the_lora_brings_its_style_in_proportion_to_its_strength(make: Make) -> None:
    joints = [
        joint_darkness(
            make("a picture", lora_models="demo-mosaic", lora_strength=strength) if strength else make("a picture")
        )
        for strength in (0, 0.5, 0.75, 1)
    ]
    assert joints[0] < joints[1]
    assert joints[1] + 5 < joints[2]
    assert joints[2] + 5 < joints[3]


def joint_darkness(frames: Frames) -> float:
    """How much darker the joints between tiles of 16 pixels are than the tiles, of 255."""
    rows, columns = (np.arange(side) % 16 for side in reversed(SIZE))
    joints = (rows[:, None] < 3) | (columns[None] < 3)
    inner = (abs(rows[:, None] - 9) < 4) & (abs(columns[None] - 9) < 4)
    pixels = np.stack([np.asarray(frame, dtype=float).mean(-1) for frame in frames])
    return float(pixels[:, inner].mean() - pixels[:, joints].mean())


def flicker(frames: Frames) -> float:
    """How much each frame stands out from the mean of the two beside it, of 255."""
    pixels = np.stack([np.asarray(frame, dtype=float) for frame in frames])
    return float(np.abs(pixels[1:-1] - (pixels[:-2] + pixels[2:]) / 2).mean())


@pytest.mark.slow
def test_improved_sampling_makes_another_clip_of_the_same_look_that_is_as_steady(make: Make) -> None:
    """The model's schedule has so little noise that there is hardly any flicker of it to be taken away."""
    plain, improved = make("a red picture"), make("a red picture", use_improved_sampling=True)
    assert distance(plain, improved) > 1
    assert lead(improved, RED) > 0.7 * lead(plain, RED)
    assert flicker(improved) < 1.2 * flicker(plain)


@pytest.mark.slow
def test_unknown_words_change_little(make: Make) -> None:
    plain, other = make("a poster in blue"), make("a poster in blue, zxqv ärger 龍 🙂 octopus")
    assert distance(plain, other) < 0.5 * distance(plain, make("a poster in red"))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height", "frames"), [(256, 128, 4), (64, 64, 25)])
def test_other_sizes_and_lengths_than_it_saw(make: Make, width: int, height: int, frames: int) -> None:
    red, blue = (make(f"a {word} picture", width=width, height=height, num_frames=frames) for word in ("red", "blue"))
    assert red[0].size == (width, height)
    assert lead(red, RED) > lead(blue, RED) + 30
