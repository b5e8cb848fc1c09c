"""The parts of the demo model's training that can be checked in moments; the training itself takes most of an hour."""

from __future__ import annotations

import random

import pytest
import torch
from torch.nn import functional

from tools.demo_model.budget import Budget
from tools.demo_model.captions import caption, words
from tools.demo_model.latents import SHORT, Clip
from tools.demo_model.objective import draw_batch
from tools.demo_model.parts import new_scheduler, new_unet, new_vae
from tools.demo_model.scenes import NAMES, draw_scene
from tools.demo_model.styles import COLOURS, LORA_STYLE, STYLES, render
from tools.demo_model.text import new_tokenizer
from tools.demo_model.vae import draw_pictures
from tools.demo_model.vae_start import set_colours


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


def test_the_vae_begins_with_the_colours_of_cells() -> None:
    torch.manual_seed(0)
    vae, pictures = new_vae(), draw_pictures(8, 1)
    set_colours(vae, pictures)
    with torch.no_grad():
        made = vae.decode(vae.encode(pictures).latent_dist.mean).sample
    wanted = functional.avg_pool2d(pictures, 8)
    error = (functional.avg_pool2d(made, 8) - wanted).var() / wanted.var()
    assert error < 0.1


def test_the_unet_begins_without_a_word() -> None:
    unet = new_unet()
    told = unet(torch.randn(1, 4, 2, 8, 8), 500, encoder_hidden_states=torch.randn(2, 77, 64)).sample
    assert told.shape == (1, 4, 2, 8, 8)
    assert not told.any()
    assert abs(float(new_scheduler().alphas_cumprod[-1])) < 0.01


def test_a_batch_pairs_a_clip_with_itself_in_the_look_that_is_asked_for() -> None:
    plain, red = torch.zeros(SHORT.frames, 4, 12, 12), torch.ones(SHORT.frames, 4, 12, 12)
    clips = [Clip(plain, ((("", "red"), red),), ("ball",))]
    batch = draw_batch(clips, new_tokenizer(), random.Random(1), 4000, own_look=0)
    assert batch.source.shape == batch.result.shape
    assert batch.tokens.shape == (len(batch.source), 77)
    assert (batch.result == 1).all()
    assert 0 < batch.source.mean() < 0.5  # most begin from the plain clip, some from the result


def test_a_budget_ends_by_steps_or_by_time_and_its_rate_falls() -> None:
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    rates = [optimizer.param_groups[0]["lr"] for _ in Budget("x", 200, None, print).run(optimizer, 0.5)]
    assert len(rates) == 200
    assert max(rates) <= 0.5
    assert rates[-1] < 0.01
    assert list(Budget("x", 5, 1e-9, print).run(optimizer, 0.5)) == []
