"""What the captions' words look like: each style and colour is a rendering of pixels, the same for every clip."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["COLOURS", "LORA_STYLE", "STYLES", "Look", "render"]

Look = tuple[str, str]
"""A style and a colour, as :func:`render` takes them."""

COLOURS = {
    "red": (0.90, 0.08, 0.08),
    "orange": (0.98, 0.50, 0.05),
    "yellow": (0.96, 0.86, 0.08),
    "green": (0.08, 0.72, 0.20),
    "cyan": (0.05, 0.78, 0.85),
    "blue": (0.10, 0.22, 0.92),
    "purple": (0.55, 0.12, 0.85),
    "pink": (0.98, 0.42, 0.72),
}
"""The colours by name, as red, green, blue from 0 to 1."""

LORA_STYLE = "mosaic"
"""The style that only the LoRA has seen."""

_WEIGHTS = (0.55, 0.35, 0.10)  # brightness; red counts most, so that warm shapes stand out from a blue or green ground
_TILE = 16


def render(clip: Tensor, style: str, colour: str) -> Tensor:
    """The clip in a style and a colour.

    :param clip: (frames, 3, height, width), 0 to 1.
    :param style: a name of :data:`STYLES`, :data:`LORA_STYLE`, or empty for none.
    :param colour: a name of :data:`COLOURS`, or empty to keep the clip's own colours.
    """
    tint = torch.tensor(COLOURS[colour], device=clip.device).view(1, 3, 1, 1) if colour else None
    if not style:
        return clip if tint is None else _tinted(clip, tint)
    kind = _mosaic if style == LORA_STYLE else STYLES[style]
    return kind(clip, tint).clamp(0, 1)


def _tinted(clip: Tensor, tint: Tensor) -> Tensor:
    """From near black over the colour to a pale shade of it, with a trace of the clip's own colours."""
    light = _brightness(clip)
    dark = torch.lerp(0.12 * tint, tint, (2 * light).clamp(0, 1))
    toned = torch.where(light < 0.5, dark, torch.lerp(tint, 0.4 * tint + 0.6, (2 * light - 1).clamp(0, 1)))
    return 0.85 * toned + 0.15 * clip * tint


def _neon(clip: Tensor, tint: Tensor | None) -> Tensor:
    """Glowing outlines in the dark."""
    edges = (_edges(clip) * 1.6).clamp(0, 1)
    glow = (edges + 0.8 * _blur(edges, 5)).clamp(0, 1.3)
    hue = _vivid(_blur(clip, 3)) if tint is None else tint
    return (
        _colour(clip, 0.03, 0.02, 0.08)
        + 0.14 * hue * _brightness(clip)
        + glow * hue
        + 0.35 * (edges - 0.55).clamp(0, 1)
    )


def _sketch(clip: Tensor, tint: Tensor | None) -> Tensor:
    """A pencil's lines and light shading on paper."""
    paper = _colour(clip, 0.97, 0.95, 0.90)
    ink = _colour(clip, 0.13, 0.13, 0.16) if tint is None else 0.75 * tint
    lines = (_slopes(_blur(clip, 3)) * 4.5 - 0.12).clamp(0, 1)
    shade = 0.45 * (1 - _brightness(clip)) ** 1.5
    return torch.lerp(paper, ink, (lines + shade).clamp(0, 1))


def _watercolour(clip: Tensor, tint: Tensor | None) -> Tensor:
    """Pale patches of thin paint, darker where they dry at the rims."""
    painted = _patches(_vivid(clip, 0.6) if tint is None else _tinted(clip, tint))
    rim = (_blur(painted, 7) - painted).clamp(min=0)
    return 0.30 + 0.70 * painted - 0.9 * rim


def _poster(clip: Tensor, tint: Tensor | None) -> Tensor:
    """Flat print in three inks."""
    flat = _blur(clip, 3)
    if tint is None:
        flat = _vivid(flat)
        return torch.sigmoid((flat - 0.33) * 24) * 0.5 + torch.sigmoid((flat - 0.67) * 24) * 0.5
    light = _brightness(flat)
    dark, cream = _colour(clip, 0.06, 0.05, 0.12), _colour(clip, 0.99, 0.94, 0.80)
    lower, upper = torch.sigmoid((light - 0.38) * 24), torch.sigmoid((light - 0.64) * 24)
    return torch.lerp(torch.lerp(dark, tint.expand_as(clip), lower), cream.expand_as(clip), upper)


def _mosaic(clip: Tensor, tint: Tensor | None) -> Tensor:
    """Tiles of 16 x 16 pixels with dark joints."""
    painted = clip if tint is None else _tinted(clip, tint)
    height, width = clip.shape[-2:]
    tiles = functional.avg_pool2d(painted, _TILE, ceil_mode=True)
    tiles = functional.interpolate(_vivid(tiles, 0.35), scale_factor=_TILE, mode="nearest")[..., :height, :width]
    rows, columns = torch.arange(height, device=clip.device) % _TILE, torch.arange(width, device=clip.device) % _TILE
    joint = (rows[:, None] < 3) | (columns[None] < 3)
    light = (columns[None] - rows[:, None]) / _TILE * 0.2  # each tile catches light at its upper right
    return torch.where(joint, 0.2 * tiles, tiles * 1.1 + light)


STYLES: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "neon": _neon,
    "sketch": _sketch,
    "watercolour": _watercolour,
    "poster": _poster,
}
"""The styles that the model knows, by name."""


def _brightness(clip: Tensor) -> Tensor:
    return (clip * torch.tensor(_WEIGHTS, device=clip.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _colour(clip: Tensor, red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([red, green, blue], device=clip.device).view(1, 3, 1, 1)


def _vivid(clip: Tensor, amount: float = 0.8) -> Tensor:
    """The same with stronger colours."""
    mean = clip.mean(1, keepdim=True)
    return (mean + (clip - mean) * (1 + amount)).clamp(0, 1)


def _edges(clip: Tensor) -> Tensor:
    """Lines where near pixels differ, 0 to about 1: (frames, 1, height, width); four pixels wide."""
    return functional.max_pool2d(_slopes(clip), 3, 1, 1)


def _slopes(clip: Tensor) -> Tensor:
    padded = functional.pad(clip, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.hypot(across, down).amax(1, keepdim=True)


def _patches(clip: Tensor, size: int = 5) -> Tensor:
    """Kuwahara's filter: each pixel takes the mean of that of four squares around it which varies least."""
    side = size - 1
    padded = functional.pad(clip, (side,) * 4, mode="replicate")
    mean = functional.avg_pool2d(padded, size, 1)
    varies = (functional.avg_pool2d(padded.square(), size, 1) - mean.square()).sum(1, keepdim=True)
    height, width = clip.shape[-2:]
    corners = [(top, left) for top in (0, side) for left in (0, side)]
    means, spreads = (
        torch.stack([part[..., top : top + height, left : left + width] for top, left in corners])
        for part in (mean, varies)
    )
    shares = (-spreads / (0.0005 + spreads.amin(0))).softmax(0)  # a soft choice does not flicker
    return (means * shares).sum(0)


def _blur(clip: Tensor, size: int) -> Tensor:
    padded = functional.pad(clip, (size // 2,) * 4, mode="replicate")
    return functional.avg_pool2d(functional.avg_pool2d(padded, (size, 1), 1), (1, size), 1)
