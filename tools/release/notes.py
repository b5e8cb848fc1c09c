"""``python -m tools.release.notes v1.2.3``: the changelog's section of a version, as the text of its GitHub release."""

from __future__ import annotations

import re
import sys
from pathlib import Path

__all__ = ["notes"]

ROOT = Path(__file__).resolve().parents[2]


def notes(version: str, changelog: str) -> str:
    """What the section says, without its heading.

    :raises LookupError: when there is no section of that version.
    """
    for section in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        if re.match(rf"\[?{re.escape(version)}\]? - ", heading):
            return text.strip() + "\n"
    raise LookupError(f"CHANGELOG.md has no section of {version}")


if __name__ == "__main__":
    print(notes(sys.argv[1].removeprefix("v"), (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")), end="")
