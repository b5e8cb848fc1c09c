"""Sizes for a result that keep the proportions of its clip, and what another size does to it."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, get_args

from airflow_provider_modelslab.api.errors import InvalidRequestError

__all__ = ["ON_STRETCH", "OnStretch", "Size", "check_on_stretch", "describe_stretch", "sizes_that_keep"]

Size = tuple[int, int]
"""Width and height in pixels."""

OnStretch = Literal["warn", "fail", "ignore"]
"""What happens before a submit that would stretch the clip."""

ON_STRETCH: tuple[str, ...] = get_args(OnStretch)

_NOTICEABLE = Fraction(1, 20)
"""How much longer one side may become, compared with the other, before it is worth a warning."""

_CLOSE = Fraction(1, 100)
"""The same for a size that is proposed."""

_STEP, _SMALLEST = 8, 64
_NAMED = 3


def check_on_stretch(given: object) -> None:
    """Refuse another value than those of :data:`OnStretch`.

    :raises InvalidRequestError: for ``on_stretch``.
    """
    if given not in ON_STRETCH:
        raise InvalidRequestError.of("on_stretch", f"must be one of {', '.join(ON_STRETCH)}; got {given!r:.200}")


def sizes_that_keep(clip: Size, asked: Size, most: int) -> list[Size]:
    """Up to three sizes with the proportions of a clip, within 1 %: multiples of 8 pixels, the largest first.

    :param clip: the size of its picture.
    :param asked: the largest size is one of them; the others are the nearest to this one, by area.
    :param most: pixels, for each side.
    """
    fitting = []
    for width in range(_SMALLEST, most + 1, _STEP):
        height = max(round(Fraction(width * clip[1], clip[0]) / _STEP) * _STEP, _STEP)
        if _SMALLEST <= height <= most and _distortion(clip, (width, height)) <= _CLOSE:
            fitting.append((width, height))
    exact = [size for size in fitting if _distortion(clip, size) == 0]
    *others, largest = exact if len(exact) >= _NAMED else fitting or [(0, 0)]
    nearest = sorted(others, key=lambda size: abs(_area(size) - _area(asked)))[: _NAMED - 1]
    return sorted([largest, *nearest], key=_area, reverse=True) if fitting else []


def describe_stretch(clip: Size, asked: Size, most: int) -> str | None:
    """What a size does to a clip of other proportions, and which sizes keep them; ``None`` if nobody would notice.

    :param most: pixels, the most that a side may have.
    """
    distortion = _distortion(clip, asked)
    if distortion <= _NOTICEABLE:
        return None
    found = ", ".join(f"{width}x{height}" for width, height in sizes_that_keep(clip, asked, most))
    advice = f"These sizes keep its proportions: {found}" if found else f"No size up to {most}x{most} keeps them"
    way = "wider" if asked[0] * clip[1] > asked[1] * clip[0] else "taller"
    return (
        f"{asked[0]}x{asked[1]} makes the picture of a clip of {clip[0]}x{clip[1]} {float(distortion):.0%} {way}. "
        f"{advice}"
    )


def _distortion(clip: Size, asked: Size) -> Fraction:
    ratio = Fraction(asked[0] * clip[1], asked[1] * clip[0])
    return max(ratio, 1 / ratio) - 1


def _area(size: Size) -> int:
    return size[0] * size[1]
