"""Prompts as embeddings, computed here instead of in diffusers.

The ``clip_skip`` of diffusers 0.42 fails with transformers 5.6 and later, where CLIP's text model lost a level of
nesting (huggingface/diffusers#14124).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["PromptMemory", "embed_prompt"]

log = logging.getLogger(__name__)

_KEPT = 32


class PromptMemory:
    """The embeddings of the last prompts, so that the text encoder runs once for each. One thread at a time."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What was kept under ``key``, else what ``make`` gives. It is not to be changed in place."""
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def clear(self) -> None:
        """Forget all: the text encoder is another one now."""
        self._kept.clear()


def embed_prompt(pipeline: Any, prompt: str, clip_skip: int | None = None, memory: PromptMemory | None = None) -> Any:
    """The text encoder's hidden states for a prompt: a tensor of shape (1, tokens, width).

    Equal to what the pipeline computes itself. Words beyond the encoder's 77 tokens are dropped, with a warning.

    :param clip_skip: layers skipped from the end, in diffusers' numbering: 1 takes the last but one layer, which web
        UIs call "clip skip 2"; ``None`` and 0 skip none. At most the number of layers.
    :param memory: takes the states from there, or leaves them there.
    """
    import torch

    tokenizer, encoder = pipeline.tokenizer, pipeline.text_encoder
    length = tokenizer.model_max_length
    tokens = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    wanted = len(tokenizer(prompt).input_ids)
    if wanted > length:
        log.warning("The prompt has %d tokens; the text encoder reads the first %d and drops the rest", wanted, length)
    # SD 1.5 attends to the padding as well, unless its configuration says otherwise.
    mask = tokens.attention_mask.to(encoder.device) if getattr(encoder.config, "use_attention_mask", False) else None

    def encode() -> Any:
        with torch.no_grad():
            states = encoder(tokens.input_ids.to(encoder.device), attention_mask=mask, output_hidden_states=True)
            if not clip_skip:
                return states.last_hidden_state
            nested = getattr(encoder, "text_model", encoder)
            return nested.final_layer_norm(states.hidden_states[-(clip_skip + 1)])

    key = (tuple(tokens.input_ids[0].tolist()), wanted, clip_skip or 0)  # how many are wanted decides the mask
    return encode() if memory is None else memory.get(key, encode)
