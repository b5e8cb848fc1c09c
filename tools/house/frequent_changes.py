"""The five frequent changes of ``CONTRIBUTING.md``, kept as patches in ``tools/house/changes``.

The text before a patch names in its line ``Tests:`` what proves the change. A patch that no longer applies is made
anew: make the change, and write ``git diff`` behind that text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FrequentChange", "frequent_changes"]

_FOLDER = Path(__file__).parent / "changes"


@dataclass(frozen=True)
class FrequentChange:
    """One change.

    :param name: the patch's, without its suffix.
    :param patch: the file.
    :param tests: that pass with the change; those in the patch itself fail without it.
    :param files: all that it touches, relative to the repository's root.
    """

    name: str
    patch: Path
    tests: list[str]
    files: list[str]

    @property
    def package_files(self) -> list[str]:
        """Those of the package: what a person edits to make the change, without tests and documentation."""
        return [file for file in self.files if file.startswith("airflow_provider_modelslab/")]


def frequent_changes() -> list[FrequentChange]:
    """All of them, by name."""
    return [_read(patch) for patch in sorted(_FOLDER.glob("*.patch"))]


def _read(patch: Path) -> FrequentChange:
    text = patch.read_text()
    tests = re.search(r"^Tests: (.+)$", text, re.MULTILINE)
    if tests is None:
        raise ValueError(f"{patch} has no line 'Tests: ...'")
    return FrequentChange(patch.stem, patch, tests[1].split(), re.findall(r"^\+\+\+ b/(.+)$", text, re.MULTILINE))
