"""What is done with a clip that has another aspect ratio than the size asked for. It is cheap to import."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["KEEP_ASPECT", "KeepAspect"]

KeepAspect = Literal["stretch", "crop", "fit"]
"""The ways.

``stretch`` distorts the clip, as the endpoint does. ``crop`` fills the size and cuts off what is outside, on both sides
alike. ``fit`` keeps the whole picture: one side is shorter than asked for, in multiples of 8 pixels.
"""

KEEP_ASPECT: tuple[str, ...] = get_args(KeepAspect)
"""All of them."""
