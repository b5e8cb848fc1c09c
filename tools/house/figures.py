"""The figures and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import airflow_provider_modelslab
from tools.house.frequent_changes import frequent_changes
from tools.house.modules import import_cycles, largest_folder
from tools.house.submits import PACKAGE, SubmitPath, submit_paths

__all__ = ["LIMITS", "Figures", "check", "measure"]

LIMITS = {"frames_single": 6, "frames_batch": 9, "circles": 0}
"""The largest allowed value of each figure that has a limit."""


@dataclass(frozen=True)
class Figures:
    """How deep and how tangled the package is.

    :param single: from the operator's ``execute`` to the POST of the submit.
    :param batch: the same for the batch operator.
    :param cycles: groups of modules that import each other.
    :param widest_room: the largest number of modules in one folder.
    :param widest_rooms: the folders that have as many, relative to the package's parent.
    :param package_lines: lines of the package's Python files.
    :param files_per_change: the files of the package that each frequent change touches.
    """

    single: SubmitPath
    batch: SubmitPath
    cycles: list[list[str]]
    widest_room: int
    widest_rooms: list[str]
    package_lines: int
    files_per_change: dict[str, list[str]]

    @property
    def frames_single(self) -> int:
        """Frames from ``execute`` inclusive."""
        return len(self.single.frames)

    @property
    def frames_batch(self) -> int:
        """Frames from ``execute`` inclusive."""
        return len(self.batch.frames)

    @property
    def circles(self) -> int:
        """How many such groups there are."""
        return len(self.cycles)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "frames_single": self.frames_single,
            "frames_single_with_wrappers": len(self.single.wrappers) + self.frames_single,
            "path_single": [*self.single.frames],
            "wrappers_single": [*self.single.wrappers],
            "frames_batch": self.frames_batch,
            "frames_batch_with_wrappers": len(self.batch.wrappers) + self.frames_batch,
            "path_batch": [*self.batch.frames],
            "wrappers_batch": [*self.batch.wrappers],
            "circles": self.circles,
            "circles_modules": self.cycles,
            "widest_room": self.widest_room,
            "widest_rooms": self.widest_rooms,
            "package_lines": self.package_lines,
            "files_per_change": {name: len(files) for name, files in self.files_per_change.items()},
            "files_of_changes": self.files_per_change,
        }


def measure() -> Figures:
    """Measure the package that Python imports here.

    :raises LookupError: when a task sends no submit that its ``execute`` leads to.
    :raises PartFailedError: when the endpoint or the S3 server does not start.
    """
    root = Path(airflow_provider_modelslab.__file__).parent
    single, batch = submit_paths()
    count, folders = largest_folder(root)
    names = [folder.relative_to(root.parent).as_posix() for folder in folders]
    lines = sum(len(file.read_text().splitlines()) for file in root.rglob("*.py"))
    changes = {change.name: change.package_files for change in frequent_changes()}
    return Figures(single, batch, import_cycles(PACKAGE), count, names, lines, changes)


def check(figures: Figures) -> list[str]:
    """The names of the figures that are above their limit."""
    return [name for name, limit in LIMITS.items() if getattr(figures, name) > limit]
