"""The tokenizer, in which every word of the captions is one token, and a first training of the text encoder."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from airflow_provider_modelslab.local.models.tiny import byte_symbols
from airflow_provider_modelslab.local.runtime.lazy_imports import load_transformers
from tools.demo_model.budget import Budget
from tools.demo_model.captions import caption, words
from tools.demo_model.parts import new_text_encoder
from tools.demo_model.scenes import NAMES
from tools.demo_model.styles import COLOURS, STYLES, Look

__all__ = ["Captions", "new_tokenizer", "tokenize", "train_text_encoder"]

_END = "</w>"
_LENGTH = 77
_KEPT = 24  # captions of a look, of 20 kB each


def new_tokenizer() -> Any:
    """CLIP's tokenizer with a small table of merges. Words that it does not know become several tokens."""
    symbols = byte_symbols()
    merges = _merges(words())
    vocabulary = [*symbols, *(symbol + _END for symbol in symbols), *(first + second for first, second in merges)]
    vocabulary = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    return load_transformers().CLIPTokenizer(
        vocab={token: number for number, token in enumerate(vocabulary)}, merges=merges, model_max_length=_LENGTH
    )


def tokenize(tokenizer: Any, texts: list[str]) -> Tensor:
    """Numbers of tokens, (texts, 77), padded as the pipeline does."""
    made = tokenizer(texts, padding="max_length", max_length=_LENGTH, truncation=True, return_tensors="pt")
    ids: Tensor = made.input_ids
    return ids


def train_text_encoder(tokenizer: Any, budget: Budget, seed: int) -> Any:
    """A text encoder whose every token knows the style and the colour. The UNet's training goes on from there."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    encoder = new_text_encoder(len(tokenizer))
    styles, colours = ["", *STYLES], ["", *COLOURS]
    heads = torch.nn.Linear(encoder.config.hidden_size, len(styles) + len(colours))
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-4)
    for _ in budget.run(optimizer, 2e-3):
        asked = [(rng.choice(styles), rng.choice(colours)) for _ in range(32)]
        texts = [caption(rng, style, colour, (rng.choice(NAMES),)) for style, colour in asked]
        scores = heads(encoder(tokenize(tokenizer, texts)).last_hidden_state[:, 1:])  # the first token sees no other
        weight = torch.linspace(0, 1, scores.shape[1])[None]  # a token sees those before it alone
        loss: Any = torch.zeros(())
        for part, place in ((scores[..., : len(styles)], 0), (scores[..., len(styles) :], 1)):
            wanted = torch.tensor([(styles, colours)[place].index(one[place]) for one in asked])
            each = functional.cross_entropy(
                part.transpose(1, 2), wanted[:, None].expand(part.shape[:2]), reduction="none"
            )
            loss = loss + (each * weight).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        budget.note(loss.item())
    return encoder


class Captions:
    """Captions by look, as a finished text encoder encodes them; many of each look are made at the start.

    :param looks: the styles and colours to be named.
    """

    def __init__(self, tokenizer: Any, text_encoder: Any, looks: list[Look], seed: int, device: str = "cpu") -> None:
        rng = random.Random(seed)
        encoder = text_encoder.to(device).eval().requires_grad_(False)
        self._kept: dict[Look, Tensor] = {}
        for look in looks:
            texts = [caption(rng, *look, (rng.choice(NAMES),)) for _ in range(_KEPT)]
            self._kept[look] = self._encoded(tokenizer, encoder, texts, device)
        self._kept["", ""] = self._encoded(tokenizer, encoder, [""] * 12 + self._plain(rng), device)

    def states(self, look: Look, rng: random.Random) -> Tensor:
        """One that asks for this look, (77, width)."""
        return rng.choice(self._kept[look])

    @staticmethod
    def _plain(rng: random.Random) -> list[str]:
        return [caption(rng, "", "", (rng.choice(NAMES),)) for _ in range(60)]

    @staticmethod
    @torch.no_grad()
    def _encoded(tokenizer: Any, encoder: Any, texts: list[str], device: str) -> Tensor:
        states: Tensor = encoder(tokenize(tokenizer, texts).to(device)).last_hidden_state
        return states


def _merges(known: list[str]) -> list[tuple[str, str]]:
    """Byte pair encoding, learned until each of these words is one token."""
    split = {word: [*word[:-1], word[-1] + _END] for word in known}
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for parts in split.values() for pair in itertools.pairwise(parts))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = {word: _merged(parts, best) for word, parts in split.items()}


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result
