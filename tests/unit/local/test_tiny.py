from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from airflow_provider_modelslab.local.models.tiny import TINY_MAX_FRAMES, TINY_TEXT_LAYERS, build_tiny
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers


def weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def test_is_small_and_holds_nothing_but_safetensors_and_json(tmp_path: Path) -> None:
    folder = build_tiny(tmp_path / "tiny")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert sum(path.stat().st_size for path in files) < 1_500_000
    assert list(tmp_path.iterdir()) == [folder]


def test_is_the_same_each_time_and_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    first = weights(build_tiny(tmp_path / "first"))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert weights(build_tiny(tmp_path / "second")) == first
    assert len(first) == 3


def test_is_left_as_it_is_when_it_is_there(tmp_path: Path) -> None:
    folder = build_tiny(tmp_path / "tiny")
    (folder / "mark").touch()
    assert build_tiny(folder) == folder
    assert (folder / "mark").exists()


@pytest.mark.slow
def test_two_may_build_it_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "tiny"
    threads = [threading.Thread(target=build_tiny, args=(folder,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert len(weights(folder)) == 3


def test_behaves_like_a_stable_diffusion_1_5(tmp_path: Path) -> None:
    pipeline = load_diffusers().AnimateDiffVideoToVideoPipeline.from_pretrained(
        str(build_tiny(tmp_path / "tiny")), use_safetensors=True, local_files_only=True
    )
    assert pipeline.vae_scale_factor == 8
    assert pipeline.text_encoder.config.num_hidden_layers == TINY_TEXT_LAYERS
    assert pipeline.unet.config.motion_max_seq_length == TINY_MAX_FRAMES
    tokens = pipeline.tokenizer("a fox", padding="max_length", max_length=77).input_ids
    assert len(tokens) == 77
    assert (tokens[0], tokens[-1]) == (pipeline.text_encoder.config.bos_token_id, 513)
    assert pipeline.tokenizer.decode(tokens, skip_special_tokens=True).replace(" ", "") == "afox"


def test_its_latents_are_the_mean_colours_of_blocks(tmp_path: Path) -> None:
    vae = load_diffusers().AutoencoderKL.from_pretrained(str(build_tiny(tmp_path / "tiny") / "vae"))
    pictures = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        decoded = vae.decode(vae.encode(pictures).latent_dist.mean).sample
    blocks = torch.nn.functional.avg_pool2d(pictures, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert torch.allclose(decoded, blocks, atol=1e-3)
