"""``python -m tools.release.tag v1.2.3``: whether this tag may be published. Needs nothing but Python."""

from __future__ import annotations

import re
import sys
from pathlib import Path

__all__ = ["problems"]

ROOT = Path(__file__).resolve().parents[2]


def problems(tag: str, *, version: str, changelog: str) -> list[str]:
    """Why the tag may not be published; empty when it may."""
    found = []
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, but __version__ is {version}")
    if not re.search(rf"^## \[?{re.escape(version)}\]? - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md has no section '## {version} - <year>-<month>-<day>'")
    return found


def main(tag: str) -> int:
    """Exit status 0 when the tag may be published."""
    source = (ROOT / "airflow_provider_modelslab" / "__init__.py").read_text(encoding="utf-8")
    [version] = re.findall(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    found = problems(tag, version=version, changelog=(ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    print(*(found or [f"{tag} may be published"]), sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
