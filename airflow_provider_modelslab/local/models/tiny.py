"""A real AnimateDiff pipeline with random weights, about 1 MB: tests run the whole way without a download.

It makes a noisy mosaic of the source: the more strength, the more noise. All else is as with a real checkpoint: the
folder's layout, the VAE's scale factor of 8, the text encoder, the motion modules, the scheduler.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.local.models.load_lock import GATE
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers, load_transformers

__all__ = ["TINY_MAX_FRAMES", "TINY_TEXT_LAYERS", "build_tiny", "byte_symbols"]

TINY_TEXT_LAYERS = 5
"""Layers of its text encoder."""

TINY_MAX_FRAMES = 32
"""The most frames that its motion modules know, as with AnimateDiff's own v2 modules."""

_SEED = 0
_CHANNELS = (8, 8, 8, 8)  # four blocks, so that the VAE's scale factor is 8 as with every Stable Diffusion 1.5 model
_TEXT_WIDTH = 32
_CONSTANT = 64.0


def build_tiny(folder: Path) -> Path:
    """Save the pipeline in ``folder`` in diffusers' layout (safetensors only); a folder that is there is left as it is.

    The weights come from a fixed seed. It is built beside ``folder`` and moved there in one step, so two processes may
    do this at the same time; two threads take turns.

    :returns: ``folder``.
    :raises OSError: when the folder cannot be written.
    """
    if (folder / "model_index.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with GATE.loading():  # the seed is the whole process's
            _pipeline().save_pretrained(str(building), safe_serialization=True)
        building.chmod(0o755)
        try:
            building.rename(folder)
        except OSError:
            if not (folder / "model_index.json").is_file():  # else another process was faster, and its folder is equal
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _pipeline() -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.manual_seed(_SEED)
        return load_diffusers().AnimateDiffVideoToVideoPipeline(
            vae=_vae(),
            text_encoder=_text_encoder(),
            tokenizer=_tokenizer(),
            unet=_unet(),
            motion_adapter=None,  # its modules are part of the UNet
            scheduler=_scheduler(),
        )


def _tokenizer() -> Any:
    """CLIP's tokenizer without a merge table: every byte is a token, alone or at the end of a word."""
    symbols = byte_symbols()
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return load_transformers().CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=77
    )


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes, as CLIP uses them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(others))]


def _text_encoder() -> Any:
    transformers = load_transformers()
    model = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=514,
            bos_token_id=512,
            eos_token_id=513,
            pad_token_id=513,
            hidden_size=_TEXT_WIDTH,
            intermediate_size=37,
            num_hidden_layers=TINY_TEXT_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=77,
            layer_norm_eps=1e-5,
        )
    )
    return model.eval()


def _unet() -> Any:
    return load_diffusers().UNetMotionModel(
        sample_size=64,
        block_out_channels=_CHANNELS,
        layers_per_block=1,
        down_block_types=(*("CrossAttnDownBlockMotion",) * 3, "DownBlockMotion"),
        up_block_types=("UpBlockMotion", *("CrossAttnUpBlockMotion",) * 3),
        cross_attention_dim=_TEXT_WIDTH,
        norm_num_groups=2,
        num_attention_heads=2,
        motion_num_attention_heads=2,
        motion_max_seq_length=TINY_MAX_FRAMES,
    )


def _vae() -> Any:
    import torch

    vae = load_diffusers().AutoencoderKL(
        block_out_channels=_CHANNELS,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=1,
        sample_size=512,
    )
    with torch.no_grad():
        _make_mosaic(vae)
    return vae


def _make_mosaic(vae: Any) -> None:
    """Set the weights so that the latents are the mean colours of blocks of 8 x 8 pixels, and decoding paints them.

    Random weights would drown the source in the posterior's noise, and ``strength`` would mean nothing. The channels
    are red, green, blue, the same three negated, and two constants. The last norm divides all of them by nearly the
    same number whatever the picture is, since the constants outweigh it; the activation after it drops out of the
    difference of a channel and its negation: silu(x) - silu(-x) = x.
    """
    gain = 1 / (vae.config.scaling_factor * 0.7)  # brings the latents of usual pictures near to unit variance
    for half in (vae.encoder, vae.decoder):
        for block in half.modules():
            if hasattr(block, "conv2"):  # a residual block: adds nothing
                _set(block.conv2)
            if hasattr(block, "to_out"):  # the attention: adds nothing
                _set(block.to_out[0])
        half.conv_norm_out.weight.fill_(_CONSTANT / 2)  # what the norm divides by: both constants among 8 channels
        half.conv_norm_out.bias.zero_()
    for block in vae.encoder.down_blocks[:-1]:
        _set(block.downsamplers[0].conv, {(c, c): 0.25 for c in range(8)}, taps=[(0, 0), (0, 1), (1, 0), (1, 1)])
    for block in vae.decoder.up_blocks[:-1]:
        _set(block.upsamplers[0].conv, {(c, c): 1.0 for c in range(8)})
    signed = {(sign * 3 + c, c): 1.0 - 2 * sign for c in range(3) for sign in (0, 1)}
    _set(vae.encoder.conv_in, signed)
    _set(vae.decoder.conv_in, {place: weight / gain for place, weight in signed.items()})
    for half in (vae.encoder, vae.decoder):
        half.conv_in.bias[6], half.conv_in.bias[7] = _CONSTANT, -_CONSTANT
    difference = {(c, sign * 3 + c): 1.0 - 2 * sign for c in range(3) for sign in (0, 1)}
    _set(vae.encoder.conv_out, {place: weight * gain for place, weight in difference.items()})
    vae.encoder.conv_out.bias[4:] = -12.0  # the posterior's log variance: next to none
    _set(vae.decoder.conv_out, difference)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        _set(conv, {(c, c): 1.0 for c in range(conv.out_channels)})


def _set(
    layer: Any, weights: dict[tuple[int, int], float] | None = None, taps: list[tuple[int, int]] | None = None
) -> None:
    """All zeros, but for these weights from channel to channel (out, in), at the kernel's middle or at ``taps``."""
    layer.weight.zero_()
    layer.bias.zero_()
    for (out, source), weight in (weights or {}).items():
        middle = layer.kernel_size[0] // 2
        for row, column in taps or [(middle, middle)]:
            layer.weight[out, source, row, column] = weight


def _scheduler() -> Any:
    return load_diffusers().DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, steps_offset=1
    )
