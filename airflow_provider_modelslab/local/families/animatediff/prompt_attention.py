"""Attention to the prompt, whose keys and values are computed once per run instead of for each frame and step.

The text is the same for all frames and in all steps. diffusers repeats its embedding for every frame and projects all
of them in each step: with 16 frames and 14 steps that is 224 times the same in each of the UNet's 16 such layers.
"""

from __future__ import annotations

import importlib
from typing import Any

from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers

__all__ = ["PromptAttention", "prompt_states", "rows", "use_prompt_attention"]


class PromptAttention:
    """An attention processor for diffusers, equal to its usual one.

    In place of the prompt's embedding it takes what :func:`prompt_states` made, and finds its own layer there.

    :param layer: the layer's name in the UNet.
    :param usual: diffusers' processor, for whatever this one is not made for.
    """

    def __init__(self, layer: str, usual: Any) -> None:
        self.layer = layer
        self.usual = usual

    def __call__(
        self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, attention_mask: Any = None
    ) -> Any:
        """See :func:`torch.nn.functional.scaled_dot_product_attention`; (rows, positions, width) in and out."""
        from torch.nn.functional import scaled_dot_product_attention

        ready = encoder_hidden_states is None or isinstance(encoder_hidden_states, dict)
        if not ready or attention_mask is not None:
            return self.usual(attn, hidden_states, encoder_hidden_states, attention_mask)
        count, positions, _ = hidden_states.shape
        query = attn.to_q(hidden_states)
        if encoder_hidden_states is None:
            key, value = (_heads(part(hidden_states), attn.heads, count) for part in (attn.to_k, attn.to_v))
        else:
            key, value = encoder_hidden_states[self.layer]
        # Frames that share a prompt's row are one long sequence of queries: nothing is copied for them.
        found = scaled_dot_product_attention(_heads(query, attn.heads, key.shape[0]), key, value)
        found = found.transpose(1, 2).reshape(count, positions, -1)
        return attn.to_out[0](found)  # behind it diffusers has a dropout that is off, and a division by 1


def use_prompt_attention(unet: Any) -> None:
    """Give every attention layer of a ``UNetMotionModel`` this processor. Its results stay the same."""
    load_diffusers()
    attention: Any = importlib.import_module("diffusers.models.attention_processor")
    for name, layer in unet.named_modules():
        if isinstance(layer, attention.Attention):
            layer.set_processor(PromptAttention(name, attention.AttnProcessor2_0()))


def prompt_states(unet: Any, embeds: Any, frames: int) -> Any:
    """What to give the UNet for the prompt: all layers' keys and values, or for a plain UNet the repeated embedding.

    On the CPU the rows are repeated for the frames too, after the projection: the sums are then those of diffusers to
    the last bit. Elsewhere frames share a row.

    :param embeds: (prompts, tokens, width); with guidance the negative prompt first.
    """
    layers = [
        (name, layer)
        for name, layer in unet.named_modules()
        if isinstance(getattr(layer, "processor", None), PromptAttention) and layer.is_cross_attention
    ]
    repeat = frames if embeds.device.type == "cpu" or not layers else 1
    if not layers:
        return embeds.repeat_interleave(repeat, dim=0)
    return {
        name: tuple(
            _heads(part(embeds), layer.heads, len(embeds)).repeat_interleave(repeat, dim=0)
            for part in (layer.to_k, layer.to_v)
        )
        for name, layer in layers
    }


def rows(states: Any, half: slice) -> Any:
    """The states of one of two prompts: ``slice(0, 1)`` or ``slice(1, 2)``."""
    if isinstance(states, dict):
        return {name: tuple(rows(part, half) for part in pair) for name, pair in states.items()}
    size = len(states) // 2
    return states[half.start * size : half.stop * size]


def _heads(states: Any, heads: int, count: int) -> Any:
    """(rows, positions, width) as (count, heads, positions of all rows that belong together, width per head)."""
    return states.reshape(count, -1, heads, states.shape[-1] // heads).transpose(1, 2)
