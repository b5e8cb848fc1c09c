"""Writes the colour tables that HDR clips are read with: ``python -m tools.make_tone_maps [PATH]``.

FFmpeg's scale filter maps HDR to SDR well, but takes seconds of processor time for each clip to prepare that. So it
maps a grid of all colours once, here, and Pillow looks colours up in the grid. Needs PyAV 16 or later.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from PIL import Image

from airflow_provider_modelslab.local.media.decoder.colours import PATH, SIDE, TRANSFERS

__all__ = ["main", "map_colours"]

_MASTERED = "G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,1)"
"""BT.2020 at up to 1000 cd/m², as phones and most streams are mastered. Without it FFmpeg takes 10,000 for PQ."""


def map_colours(pictures: np.ndarray[Any, Any], transfer: str) -> np.ndarray[Any, Any]:
    """BT.2020 colours, as one picture of 10-bit values (height, width, RGB), as BT.709 of 8 bits.

    :param transfer: FFmpeg's name of the transfer function.
    """
    height, width, _ = pictures.shape
    frame = av.VideoFrame(width, height, "gbrp10le")
    for plane, channel in zip(frame.planes, (1, 2, 0), strict=True):
        rows = np.zeros((height, plane.line_size // 2), np.uint16)
        rows[:, :width] = pictures[..., channel]
        plane.update(rows.tobytes())
    encoder: Any = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "gbrp10le", Fraction(1, 25)
    mastered = "" if transfer.startswith("bt2020") else f":master-display={_MASTERED}"
    encoder.options = {"x265-params": f"lossless=1:log-level=none{mastered}"}
    decoder: Any = av.CodecContext.create("hevc", "r")
    packets = [*encoder.encode(frame), *encoder.encode(None), None]
    (frame,) = [frame for packet in packets for frame in decoder.decode(packet)]  # with what it was mastered for
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(width=width, height=height, format=frame.format, time_base=Fraction(1, 25)),
        graph.add(
            "scale",
            f"in_transfer={transfer}:in_primaries=bt2020:out_transfer=bt709:out_primaries=bt709:intent=perceptual",
        ),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    ).configure()
    graph.vpush(frame)
    return graph.vpull().to_ndarray()


def main(path: Path = PATH) -> None:
    """Write all tables below one another, red changing fastest, then green."""
    steps = np.round(np.linspace(0, 1023, SIDE)).astype(np.uint16)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    colours = np.stack([red, green, blue], -1).reshape(SIDE, SIDE * SIDE, 3)
    padded = np.pad(colours, ((0, 64), (0, 0), (0, 0)))  # x265 wants a few rows
    tables = [map_colours(padded, transfer)[:SIDE] for transfer in TRANSFERS.values()]
    Image.fromarray(np.concatenate(tables)).save(path, optimize=True)
    print(f"{path}: {len(tables)} tables of {SIDE}x{SIDE}x{SIDE} colours, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
