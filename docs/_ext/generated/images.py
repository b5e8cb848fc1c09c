"""Screenshots that no page shows in a place of their own."""

from __future__ import annotations

from generated.markdown import DOCS

__all__ = ["not_shown_elsewhere"]


def not_shown_elsewhere() -> str:
    """Each with its file name as the caption."""
    pages = "\n".join(path.read_text() for path in DOCS.rglob("*.md") if "_build" not in path.parts)
    left = [path for path in sorted((DOCS / "images").glob("*.png")) if path.name not in pages]
    return "\n\n".join(f"```{{figure}} /images/{path.name}\n{_caption(path.stem)}\n```" for path in left)


def _caption(stem: str) -> str:
    words = stem.replace("-", " ").replace("_", " ")
    return f"{words[0].upper()}{words[1:]}"
