"""One palette of 256 colours for all frames of a gif, by k-means over the clip's colours.

Colours are counted in boxes (64 x 64 x 64), and k-means runs over the boxes instead of the pixels: its cost does not
grow with the clip. A clip of few colours keeps them exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Bytes: TypeAlias = NDArray[np.uint8]
    Boxes: TypeAlias = NDArray[np.int32]
    Floats: TypeAlias = NDArray[np.float32]

__all__ = ["index_frames"]

_COLOURS = 256
_FINE, _COARSE = 6, 5  # bits of each channel that tell boxes apart
_MANY = 1 << 14  # more boxes than this are merged to coarse ones for k-means
_SAMPLE = 1 << 16  # pixels that the starting palette is cut from
_ROUNDS = 6  # k-means gains under 0.1 dB after that


def index_frames(frames: Sequence[Image]) -> tuple[bytes, list[Image]]:
    """The palette (768 bytes: 256 times red, green, blue) and the frames as indices into it.

    There is no dithering: over a clip it sparkles, and it doubles the file. The same frames give the same result.

    :param frames: RGB pictures of one size; at least one.
    """
    import numpy as np
    from PIL import Image

    pixels = [np.asarray(frame, dtype=np.uint8).reshape(-1, 3) for frame in frames]
    boxes = [_boxes_of(colours, _FINE) for colours in pixels]
    used, means, counts = _box_means(pixels, boxes)
    palette = means if len(means) <= _COLOURS else _kmeans(means, counts, _median_cut(pixels))
    table = np.zeros(1 << 3 * _FINE, dtype=np.uint8)
    table[used] = _nearest(means, palette)
    colours = np.zeros((_COLOURS, 3), dtype=np.uint8)
    colours[: len(palette)] = np.rint(palette)
    indexed = [
        Image.fromarray(table[box].reshape(frame.height, frame.width)) for frame, box in zip(frames, boxes, strict=True)
    ]
    return colours.tobytes(), indexed


def _boxes_of(colours: Bytes, bits: int) -> Boxes:
    import numpy as np

    red, green, blue = (colours >> (8 - bits)).astype(np.int32).T
    boxes: Boxes = (red << 2 * bits) | (green << bits) | blue
    return boxes


def _box_means(pixels: list[Bytes], boxes: list[Boxes]) -> tuple[NDArray[np.int64], Floats, Floats]:
    """The boxes in use, the mean colour of each (in a box of one colour, that colour) and its number of pixels."""
    import numpy as np

    size = 1 << 3 * _FINE
    counts = np.zeros(size)
    sums = np.zeros((3, size))
    for colours, box in zip(pixels, boxes, strict=True):
        counts += np.bincount(box, minlength=size)
        for channel in range(3):
            sums[channel] += np.bincount(box, weights=colours[:, channel], minlength=size)
    used = np.flatnonzero(counts)
    means = (sums[:, used] / counts[used]).T.astype(np.float32)
    return used, means, counts[used].astype(np.float32)


def _median_cut(pixels: list[Bytes]) -> Floats:
    """Pillow's palette for pixels taken evenly from all frames."""
    import numpy as np
    from PIL import Image

    every = sum(len(colours) for colours in pixels) // _SAMPLE | 1  # odd, so that it does not follow the columns
    sample = np.ascontiguousarray(np.concatenate([colours[::every] for colours in pixels]))
    cut = Image.fromarray(sample[None]).quantize(_COLOURS, method=Image.Quantize.MEDIANCUT)
    return np.asarray(cut.getpalette(), dtype=np.float32).reshape(-1, 3)


def _kmeans(colours: Floats, weights: Floats, start: Floats) -> Floats:
    """The centres after some rounds from ``start``; one that no colour is nearest to stays where it is."""
    import numpy as np

    if len(colours) > _MANY:
        boxes = _boxes_of(colours.astype(np.uint8), _COARSE)
        colours, weights = _weighted_means(boxes, colours, weights, np.zeros((1 << 3 * _COARSE, 3), np.float32))
        colours, weights = colours[weights > 0], weights[weights > 0]
    centres = start
    for _ in range(_ROUNDS):
        centres, _totals = _weighted_means(_nearest(colours, centres), colours, weights, centres)
    return centres


def _weighted_means(groups: Boxes | Bytes, colours: Floats, weights: Floats, empty: Floats) -> tuple[Floats, Floats]:
    """The mean colour and the weight of each group; a group without a colour has that of ``empty``, and weight 0."""
    import numpy as np

    totals = np.bincount(groups, weights=weights, minlength=len(empty))
    means = empty.copy()
    for channel in range(3):
        sums = np.bincount(groups, weights=weights * colours[:, channel], minlength=len(empty))
        np.divide(sums, totals, out=means[:, channel], where=totals > 0, casting="same_kind")
    return means, totals.astype(np.float32)


def _nearest(colours: Floats, centres: Floats) -> Bytes:
    """The index of the nearest centre. The squares of the colours are left out: they are the same for every centre."""
    import numpy as np

    squares = (centres**2).sum(axis=1)
    nearest = np.empty(len(colours), dtype=np.uint8)
    for start in range(0, len(colours), _MANY):  # in parts, to bound the memory
        part = slice(start, start + _MANY)
        nearest[part] = np.argmin(squares - 2 * (colours[part] @ centres.T), axis=1)
    return nearest
