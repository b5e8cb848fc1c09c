"""The parts of the demo model's training that can be checked in moments; the training itself takes an hour or two."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tools.demo_model import card
from tools.demo_model.budget import Budget
from tools.demo_model.captions import caption, words
from tools.demo_model.checkpoint import Checkpoint
from tools.demo_model.clips import LOOKS, Supply
from tools.demo_model.ema import Average
from tools.demo_model.folder import Folder
from tools.demo_model.measures import StyleClassifier, edge_correlation, flicker, hue_angle, psnr, speckle_ratio
from tools.demo_model.objective import Batch, Noise, draw_batch
from tools.demo_model.parts import LATENT_CHANNELS, VAE_FACTOR, is_motion, new_scheduler, new_text_encoder, new_unet
from tools.demo_model.pictures import PHOTOGRAPHS, Pictures, read_photographs
from tools.demo_model.scenes import NAMES, draw_scene
from tools.demo_model.styles import COLOURS, LORA_STYLE, STYLES, render
from tools.demo_model.text import Captions, new_tokenizer
from tools.demo_model.unet import motionless
from tools.demo_model.unet_start import set_unet
from tools.demo_model.vae import start_vae
from tools.demo_model.vae_start import cells_of


@pytest.fixture(scope="module")
def supply() -> Supply:
    return Supply(Pictures([], 1), random.Random(1), "cpu", LOOKS, pool=8)


def test_a_scene_is_a_function_of_its_seed_and_moves() -> None:
    first, again, other = (draw_scene(seed, 4, 48, 64) for seed in (3, 3, 4))
    assert torch.equal(first.frames, again.frames)
    assert first.frames.shape == other.frames.shape == (4, 3, 48, 64)
    assert not torch.equal(first.frames, other.frames)
    assert first.frames.diff(dim=0).abs().amax() > 0.1
    assert 0 <= first.frames.amin() <= first.frames.amax() <= 1


def test_no_two_looks_are_alike() -> None:
    clip = draw_scene(1, 2, 48, 48).frames
    looks = {(style, colour) for style in ("", *STYLES, LORA_STYLE) for colour in ("", *COLOURS)}
    rendered = [render(clip, *look) for look in sorted(looks)]
    apart = [
        float((first - second).abs().mean()) for place, first in enumerate(rendered) for second in rendered[:place]
    ]
    assert min(apart) > 0.01


@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_is_the_colour_of_its_name(colour: str) -> None:
    clip = draw_scene(2, 2, 48, 48).frames
    mean = render(clip, "", colour).mean((0, 2, 3))
    wanted = torch.tensor(COLOURS[colour])
    assert functional.cosine_similarity(mean - mean.mean(), wanted - wanted.mean(), dim=0) > 0.9


def test_every_word_of_the_captions_is_one_token_and_others_are_read_too() -> None:
    tokenizer = new_tokenizer()
    lengths = {len(tokenizer(word).input_ids) for word in words()}
    assert lengths == {3}  # with the start and the end
    assert len(tokenizer("zxqv 龍 🙂").input_ids) > 5
    rng = random.Random(1)
    for _ in range(50):
        assert len(tokenizer(caption(rng, "neon", "red", (NAMES[0],))).input_ids) < 77


def test_the_vae_begins_with_smooth_colours_and_its_encoder_is_a_linear_map() -> None:
    torch.manual_seed(0)
    vae, pictures = start_vae("cpu"), 2 * Pictures([], 1).draw(4, 64, 64) - 1
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist.mean
        made = vae.decode(latents).sample
    assert latents.shape == (4, LATENT_CHANNELS, 64 // VAE_FACTOR, 64 // VAE_FACTOR)
    assert (latents - cells_of(pictures, LATENT_CHANNELS)).abs().mean() < 0.03
    assert (made - pictures).var() < 0.3 * pictures.var()
    assert not any(parameter.requires_grad for parameter in vae.encoder.parameters())


def test_the_unet_begins_with_what_it_is_given_at_every_time_and_caption() -> None:
    torch.manual_seed(0)
    unet = new_unet()
    set_unet(unet)
    given = 2 * torch.randn(1, LATENT_CHANNELS, 2, 16, 16)
    with torch.no_grad():
        for time in (0, 300, 999):
            predicted = unet(given, time, encoder_hidden_states=torch.randn(2, 77, 64)).sample
            assert (predicted - given).abs().mean() < 0.15 * given.abs().mean()


def test_without_its_motion_modules_a_unet_takes_each_frame_by_itself() -> None:
    torch.manual_seed(0)
    unet = new_unet()
    for name, part in unet.named_modules():
        if is_motion(name):  # they begin as nothing
            torch.nn.init.normal_(part.proj_out.weight)
    clip, states = torch.randn(1, LATENT_CHANNELS, 3, 8, 8), torch.randn(1, 77, 64)

    def first(frames: int) -> Tensor:
        predicted: Tensor = unet(clip[:, :, :frames], 500, encoder_hidden_states=states.expand(frames, -1, -1)).sample
        return predicted[:, :, :1].detach()

    assert not torch.allclose(first(1), first(3), atol=1e-3)
    with motionless(unet):
        assert torch.allclose(first(1), first(3), atol=1e-4)
    assert not torch.allclose(first(1), first(3), atol=1e-3)


def test_the_source_is_not_drowned_at_any_strength() -> None:
    kept = new_scheduler().alphas_cumprod
    assert kept[-1] > 0.5
    assert new_scheduler().config.prediction_type == "sample"


def test_a_batch_pairs_a_clip_with_itself_in_the_look_that_its_caption_names(supply: Supply) -> None:
    class Asked(Captions):
        def __init__(self) -> None:
            self.looks: list[Any] = []

        def states(self, look: Any, rng: random.Random) -> Tensor:
            self.looks.append(look)
            return torch.zeros(77, 64)

    asked = Asked()
    batch = draw_batch(supply, asked, random.Random(1), 12, 2, 64)
    assert batch.source.shape == batch.result.shape == (12, LATENT_CHANNELS, 2, 16, 16)
    far = (batch.source - batch.result).abs().mean((1, 2, 3, 4))
    changed = torch.tensor([look != ("", "") for look in asked.looks])
    assert far[changed].min() > far[~changed].max() if not changed.all() else far.min() > 0


def test_a_model_that_is_right_has_no_loss() -> None:
    """Whatever it is asked about: the first step, one after it, or what it said itself."""
    source, result = torch.randn(2, 8, LATENT_CHANNELS, 1, 4, 4)
    noise = Noise(new_scheduler(), "cpu")
    noise._times = lambda count: (torch.full((count,), 100), torch.full((count,), 400))  # type: ignore[method-assign]

    class Right:
        sample = result

    for own in (False, True):
        loss = noise.loss(lambda *_, **__: Right, Batch(source, result, torch.zeros(8, 77, 64)), own=own)
        assert loss < 1e-6


def test_captions_of_a_look_differ_and_looks_too() -> None:
    tokenizer = new_tokenizer()
    captions = Captions(tokenizer, new_text_encoder(len(tokenizer)), [("neon", ""), ("", "red")], 1)
    drawn = {look: [captions.states(look, random.Random(n)) for n in range(9)] for look in (("neon", ""), ("", "red"))}
    assert drawn["neon", ""][0].shape == (77, 64)
    assert len({float(states.sum()) for states in drawn["neon", ""]}) > 3


def test_photographs_are_read_from_wheels_at_several_sizes(tmp_path: Path) -> None:
    image = io.BytesIO()
    Image.new("RGB", (100, 60), (255, 0, 0)).save(image, "png")
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.writestr(f"skimage/data/{next(iter(PHOTOGRAPHS))}", image.getvalue())
        wheel.writestr("skimage/data/lena.png", image.getvalue())  # of another licence
    found = read_photographs([tmp_path / "some.whl"])
    assert [tuple(photograph.shape) for photograph in found] == [(3, 60, 100), (3, 42, 70), (3, 30, 50)]
    drawn = Pictures(found, 1).draw(4, 64, 64)
    assert drawn.shape == (4, 3, 64, 64)
    assert 0 <= drawn.amin() <= drawn.amax() <= 1


def test_pieces_of_all_lengths_and_sizes_are_cut(supply: Supply) -> None:
    for frames, side in ((1, 96), (25, 64), (4, 128)):
        for pair in supply.draw(6, frames, side):
            assert pair.source.shape == pair.result.shape == (frames, 3, side, side)
            assert pair.look in LOOKS
    assert {pair.look for pair in supply.draw(3, 1, 64, plain=1.0)} == {("", "")}


def test_a_stage_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    def parts() -> tuple[Any, Any, Average]:
        layer = torch.nn.Linear(2, 2)
        return layer, torch.optim.AdamW(layer.parameters()), Average(layer)

    layer, optimizer, average = parts()
    budget = Budget("x", 10, None, print)
    for _ in zip(budget.run(optimizer, 0.1), range(4), strict=False):
        layer(torch.ones(2)).sum().backward()
        optimizer.step()
        average.update(layer)
        budget.note(1.0)
    Checkpoint(tmp_path / "x.pt").save(budget, layer, optimizer, average)
    again, later = parts(), Budget("x", 10, None, print)
    assert Checkpoint(tmp_path / "x.pt").load(later, *again)
    assert torch.equal(again[0].weight, layer.weight)
    assert torch.equal(again[2].model.weight, average.model.weight)
    assert list(later.run(again[1], 0.1)) == [4, 5, 6, 7, 8, 9]
    assert not Checkpoint(tmp_path / "other.pt").load(later, *again)


def test_measures_of_a_clip_against_itself_and_against_noise() -> None:
    clip = draw_scene(1, 4, 96, 96).frames
    noisy = (clip + 0.1 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert psnr(noisy, clip) == pytest.approx(20, abs=1.5)
    assert edge_correlation(clip, clip) == pytest.approx(1, abs=1e-3)
    assert edge_correlation(clip, clip.flip(-1)) < 0.7
    assert speckle_ratio(clip, clip, clip) == pytest.approx(1)
    assert speckle_ratio(clip, noisy, clip) > 10
    assert flicker(noisy) > 2 * flicker(clip)
    assert hue_angle(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), "red") < 5
    assert hue_angle(torch.tensor([0, 1.0, 1.0]).view(1, 3, 1, 1), "red") > 170


def test_the_classifier_tells_styles_that_it_was_not_shown_in_these_pictures() -> None:
    shown, others = (
        torch.cat([draw_scene(seed, 1, 64, 64).frames for seed in range(first, first + 20)]) for first in (0, 50)
    )
    classifier = StyleClassifier({style: render(shown, style, "") for style in STYLES})
    named = [(style, name) for style in STYLES for name in classifier.names(render(others, style, ""))]
    assert sum(style == name for style, name in named) >= 0.85 * len(named)


def test_the_card_names_photographs_stages_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path / "work")
    folder.path.mkdir()
    folder.note("vae", Budget("vae", 1, None, print))
    figures = {
        "vae_psnr_real": 33.25, "vae_psnr_drawn": 38.5, "edge_correlation_by_style": {"neon": 0.7},
        "speckle_ratio": 1.5, "style_accuracy": 1.0, "hue_shift": 1.0, "flicker_ratio": 1.1,
    }  # fmt: skip
    monkeypatch.setattr(card, "FIGURES", tmp_path / "figures.json")
    card.FIGURES.write_text(json.dumps(figures), encoding="utf-8")
    card.write_card(folder, tmp_path, 7, 12_300_000)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    for fact in ("12.3 MB", "seed 7", "| vae |", "33.25 dB", "neon 0.7", *PHOTOGRAPHS, "CC0", "Apache-2.0", "Limits"):
        assert fact in text


def test_a_budget_ends_by_steps_or_by_time_and_its_rate_falls() -> None:
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    rates = [optimizer.param_groups[0]["lr"] for _ in Budget("x", 200, None, print).run(optimizer, 0.5)]
    assert len(rates) == 200
    assert max(rates) <= 0.5
    assert rates[-1] < 0.01
    assert list(Budget("x", 5, 1e-9, print).run(optimizer, 0.5)) == []
