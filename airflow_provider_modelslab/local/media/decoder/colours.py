"""Colours of HDR clips as those of a screen: BT.2020 by PQ, HLG or an SDR curve, mapped to BT.709.

``tone_maps.png`` holds what FFmpeg's scale filter makes of a grid of colours (``intent=perceptual``); it is written by
``tools/make_tone_maps.py``. The filter itself takes seconds of processor time for each clip before its first frame.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.ImageFilter import Color3DLUT  # here, since a confined decoder can import nothing more

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PATH", "SIDE", "TRANSFERS", "is_wide", "read_tables", "to_bt709"]

PATH = Path(__file__).with_name("tone_maps.png")
"""The tables, one below the other."""

SIDE = 33
"""Colours along each side of a table's cube."""

TRANSFERS = {16: "smpte2084", 18: "arib-std-b67", 14: "bt2020-10"}
"""ITU-T H.273's number of the transfer function of each table, in the file's order, and FFmpeg's name of it."""

_PQ, _HLG, _SDR = TRANSFERS
_BT2020 = 9  # the number of its primaries


def is_wide(transfer: int, primaries: int) -> bool:
    """Whether colours tagged so are no BT.709 colours."""
    return transfer in {_PQ, _HLG} or primaries == _BT2020


def to_bt709(picture: Image, transfer: int) -> Image:
    """A picture in BT.2020 as BT.709.

    :param picture: RGB, coded by the transfer function.
    :param transfer: H.273's number; any but those of PQ and HLG is taken for SDR.
    """
    return picture.filter(_table(transfer if transfer in TRANSFERS else _SDR))


@cache
def read_tables() -> bytes:
    """The content of :data:`PATH`. A decoder calls this before it confines itself."""
    from PIL import Image

    with Image.open(PATH) as tables:
        return tables.tobytes()


@cache
def _table(transfer: int) -> Color3DLUT:
    length = 3 * SIDE**3
    start = length * list(TRANSFERS).index(transfer)
    return Color3DLUT(SIDE, [value / 255 for value in read_tables()[start : start + length]])
