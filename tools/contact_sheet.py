"""A restyled clip as one picture: what was asked, frames of the source, and below them the same ones of the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from airflow_provider_modelslab.local.media.decode import sample_indices

__all__ = ["draw_sheet"]

COLUMNS = 6
_TEXT, _MARGIN, _LABEL = 16, 8, 64
_PAPER, _INK, _PALE = (255, 255, 255), (20, 20, 20), (110, 110, 110)


def draw_sheet(
    source: Sequence[Image.Image], result: Sequence[Image.Image], caption: str, path: Path, *, columns: int = COLUMNS
) -> Path:
    """Write the sheet to ``path`` as PNG.

    :param source: the frames that the result was made from, of any size; empty leaves their row out.
    :param result: as many frames as ``source`` where it has any; at least one. They are shown as they are, unscaled.
    :param caption: one or several lines above the frames; lines that are too long are broken.
    :param columns: the most frames in a row, at least 1, spread evenly over the clip.
    :returns: ``path``.
    :raises ValueError: for no result, no column, or a source of another length.
    """
    if not result or columns < 1:
        raise ValueError("a contact sheet needs at least one frame of the result and one column")
    if source and len(source) != len(result):
        raise ValueError(f"the source has {len(source)} frames and the result {len(result)}; they must be as many")
    shown = sample_indices(len(result), min(columns, len(result)))
    width, height = result[0].size
    rows = [(label, frames) for label, frames in (("source", source), ("result", result)) if frames]
    across = _LABEL + len(shown) * (width + _MARGIN) + _MARGIN
    font = ImageFont.load_default(_TEXT)
    lines = _broken(caption, font, across - 2 * _MARGIN)
    top = 2 * _MARGIN + len(lines) * (_TEXT + 6)
    sheet = Image.new("RGB", (across, top + len(rows) * (height + _MARGIN)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN + number * (_TEXT + 6)), line, _INK, font)
    for number, (label, frames) in enumerate(rows):
        y = top + number * (height + _MARGIN)
        draw.text((_MARGIN, y + height // 2 - _TEXT // 2), label, _PALE, font)
        for column, index in enumerate(shown):
            frame = frames[index].convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(frame, (_LABEL + _MARGIN + column * (width + _MARGIN), y))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _broken(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The text's lines, broken between words where they are wider than ``width`` pixels."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines
