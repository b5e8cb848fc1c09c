"""A gif's palettes by k-means over the colours of each frame, begun with the palette of the frame before.

Colours are counted in boxes (64 x 64 x 64), and k-means runs over the boxes instead of the pixels. Since each frame
goes on from the last one's palette, what stands still keeps its colours and does not flicker; only where a palette cut
anew is nearer to the frame's colours, as after a cut in the film, it begins from that. A clip of few colours keeps them
exactly, in one palette.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Bytes: TypeAlias = NDArray[np.uint8]
    Colours: TypeAlias = NDArray[np.uint32]
    Boxes: TypeAlias = NDArray[np.uint32]
    Floats: TypeAlias = NDArray[np.float32]

__all__ = ["index_frames"]

_COLOURS = 256
_FINE, _COARSE = 6, 5  # bits of each channel that tell boxes apart
_MANY = 1 << 15  # more boxes than this are merged to coarse ones
_POINTS = 1 << 13  # boxes that k-means runs over at most, taken evenly
_PART = 256  # boxes compared with the palette at a time: they fit the cache, and BLAS starts no threads for so few
_SAMPLE = 1 << 13  # pixels that a new palette is cut from
_EVERY = 3  # of which the palette's colours are averaged in the end; odd, so that it does not follow the columns
_ROUNDS = 16
_ENOUGH = 0.02  # part of the error that a round must take away, or it was the last one
_CUT = 1.3  # times the error of the frame before with which its palette is not the best start


def index_frames(frames: Sequence[Image]) -> list[tuple[bytes, Image]]:
    """For each frame its palette (768 bytes: 256 times red, green, blue) and its pixels as indices into it.

    There is no dithering: over a clip it sparkles, and it doubles the file. The same frames give the same result.

    :param frames: RGB pictures of one size; at least one.
    """
    import numpy as np
    from PIL import Image

    exact = _few_colours(frames)
    indexed: list[tuple[bytes, Image.Image]] = []
    fitted: tuple[Floats, float] | None = None
    for frame in frames:
        colours = _packed(frame)
        if exact is not None:
            colours_of, indices = _table(exact), np.searchsorted(exact, colours).astype(np.uint8)
        else:
            palette, indices, fitted = _quantise(colours, fitted)
            colours_of = np.rint(palette).astype(np.uint8)
        indexed.append((colours_of.tobytes(), Image.fromarray(indices.reshape(frame.height, frame.width))))
    return indexed


def _packed(frame: Image) -> Colours:
    """Each pixel as one number: red in the lowest byte, then green, then blue."""
    import numpy as np

    return (np.frombuffer(frame.convert("RGBX").tobytes(), dtype="<u4") & 0xFFFFFF).astype(np.uint32)


def _channels(packed: Colours) -> Floats:
    import numpy as np

    return np.stack([packed & 0xFF, packed >> 8 & 0xFF, packed >> 16], axis=-1).astype(np.float32)


def _few_colours(frames: Sequence[Image]) -> Colours | None:
    """All colours of the clip in order, when a palette holds them; it stops looking at the frame where it does not."""
    import numpy as np

    seen: Colours = np.empty(0, dtype=np.uint32)
    for frame in frames:
        colours = _packed(frame)
        for part in (colours[:: 1 + len(colours) // 1024], colours):  # most clips show it in a thousand pixels
            seen = np.union1d(seen, part).astype(np.uint32)
            if len(seen) > _COLOURS:
                return None
    return seen


def _table(colours: Colours) -> Bytes:
    import numpy as np

    table = np.zeros((_COLOURS, 3), dtype=np.uint8)
    table[: len(colours)] = _channels(colours)
    return table


def _quantise(colours: Colours, before: tuple[Floats, float] | None) -> tuple[Floats, Bytes, tuple[Floats, float]]:
    """The frame's palette, each pixel's index, and what the next frame begins with: centres and their error."""
    import numpy as np

    boxes = (colours >> 2 & 0x3F) | (colours >> 4 & 0xFC0) | (colours >> 6 & 0x3F000)
    counts = np.bincount(boxes, minlength=1 << 3 * _FINE)
    used = np.flatnonzero(counts).astype(np.uint32)
    points, masses = _centres(used, _FINE), counts[used].astype(np.float32)
    groups: Boxes | None = None
    if len(used) > _MANY:
        groups, points, masses = _merged(used, points, masses)
    fitted = _kmeans(points, masses, before, lambda: _median_cut(colours))
    nearest = _nearest(points, fitted[0])[0]
    table = np.zeros(1 << 3 * _FINE, dtype=np.uint8)
    table[used] = nearest if groups is None else nearest[groups]
    indices = table[boxes]
    sample = _channels(colours[::_EVERY])
    return _means(indices[::_EVERY], sample, None, fitted[0])[0], indices, fitted


def _centres(boxes: Boxes, bits: int) -> Floats:
    """The colours in the middle of boxes."""
    import numpy as np

    mask, size = (1 << bits) - 1, 1 << 8 - bits
    parts = [boxes & mask, boxes >> bits & mask, boxes >> 2 * bits]
    return np.stack(parts, axis=-1).astype(np.float32) * size + (size - 1) / 2


def _merged(boxes: Boxes, points: Floats, masses: Floats) -> tuple[Boxes, Floats, Floats]:
    """The number of the coarse box of each fine one, and the coarse ones' mean colours and weights."""
    import numpy as np

    red, green, blue = boxes & 0x3F, boxes >> 6 & 0x3F, boxes >> 12
    coarse, groups = np.unique(red >> 1 | green >> 1 << _COARSE | blue >> 1 << 2 * _COARSE, return_inverse=True)
    means, totals = _means(groups, points, masses, np.zeros((len(coarse), 3), np.float32))
    return groups.astype(np.uint32), means, totals.astype(np.float32)


def _median_cut(colours: Colours) -> Floats:
    """Pillow's palette for pixels taken evenly."""
    import numpy as np
    from PIL import Image

    sample = np.ascontiguousarray(_channels(colours[:: len(colours) // _SAMPLE | 1]).astype(np.uint8))
    cut = Image.fromarray(sample[None]).quantize(_COLOURS, method=Image.Quantize.MEDIANCUT)
    palette = np.zeros((_COLOURS, 3), dtype=np.float32)
    found = np.asarray(cut.getpalette(), dtype=np.float32).reshape(-1, 3)[:_COLOURS]
    palette[: len(found)] = found
    return palette


def _kmeans(
    points: Floats, masses: Floats, before: tuple[Floats, float] | None, cut: Callable[[], Floats]
) -> tuple[Floats, float]:
    """The centres after some rounds, and their mean squared error.

    It begins with the centres of the frame before, or with a palette cut anew where that is better. A centre that no
    colour is nearest to goes to where the error is largest.
    """
    import numpy as np

    every = 1 + len(points) // _POINTS
    points, masses = np.ascontiguousarray(points[::every]), masses[::every] / masses[::every].sum()

    def tried(centres: Floats) -> tuple[float, Floats, Bytes, Floats]:
        nearest, squares = _nearest(points, centres)
        return float(masses @ squares), centres, nearest, squares

    best = None if before is None else tried(before[0])
    if before is None or best is None or best[0] > _CUT * before[1]:
        best = min((found for found in (best, tried(cut())) if found is not None), key=lambda found: found[0])
    error, centres, nearest, squares = best
    for _ in range(_ROUNDS):
        centres, totals = _means(nearest, points, masses, centres)
        idle = np.flatnonzero(totals == 0)
        if len(idle):
            worst = np.argsort(-masses * squares, kind="stable")[: len(idle)]
            centres[idle[: len(worst)]] = points[worst]
        last = error
        error, centres, nearest, squares = tried(centres)
        if error > last * (1 - _ENOUGH):
            break
    return centres, error


def _means(
    groups: Bytes | Boxes, points: Floats, masses: Floats | None, empty: Floats
) -> tuple[Floats, NDArray[np.float64]]:
    """The mean colour and the weight of each group; a group without a colour has that of ``empty``, and weight 0."""
    import numpy as np

    totals = np.bincount(groups, weights=masses, minlength=len(empty)).astype(np.float64)
    means = empty.copy()
    for channel in range(3):
        values = points[:, channel] if masses is None else masses * points[:, channel]
        sums = np.bincount(groups, weights=values, minlength=len(empty))
        np.divide(sums, totals, out=means[:, channel], where=totals > 0, casting="same_kind")
    return means, totals


def _nearest(points: Floats, centres: Floats) -> tuple[Bytes, Floats]:
    """The index of the nearest centre, and the square of the distance to it."""
    import numpy as np

    # As one product: (x, y, z, 1) times (-2a, -2b, -2c, a² + b² + c²); the point's own square is the same for all.
    factors = np.concatenate([-2 * centres, (centres**2).sum(axis=1, keepdims=True)], axis=1).T
    nearest = np.empty(len(points), dtype=np.uint8)
    squares = np.empty(len(points), dtype=np.float32)
    for start in range(0, len(points), _PART):
        part = points[start : start + _PART]
        products = np.concatenate([part, np.ones((len(part), 1), np.float32)], axis=1) @ factors
        found = products.argmin(axis=1)
        nearest[start : start + _PART] = found
        squares[start : start + _PART] = products[np.arange(len(part)), found] + (part**2).sum(axis=1)
    return nearest, squares
