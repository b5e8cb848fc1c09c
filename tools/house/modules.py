"""Import cycles of a package, and its largest folder."""

from __future__ import annotations

from pathlib import Path

import grimp

__all__ = ["import_cycles", "largest_folder"]


def import_cycles(package: str) -> list[list[str]]:
    """The groups of modules that import each other, directly or not: strongly connected components of 2 or more.

    Imports in functions count, those under ``if TYPE_CHECKING`` do not.

    :param package: name of a package that can be imported.
    :returns: module names in order; the largest group first.
    """
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    groups = {
        frozenset({module} | graph.find_upstream_modules(module) & graph.find_downstream_modules(module))
        for module in graph.modules
    }
    return sorted((sorted(group) for group in groups if len(group) > 1), key=lambda group: (-len(group), group))


def largest_folder(root: Path) -> tuple[int, list[Path]]:
    """The largest number of modules directly in one folder, and the folders that have as many.

    ``__init__.py`` does not count.

    :param root: the package's folder, which must have a module somewhere.
    """
    counts: dict[Path, int] = {}
    for path in root.rglob("*.py"):
        if path.name != "__init__.py":
            counts[path.parent] = counts.get(path.parent, 0) + 1
    largest = max(counts.values())
    return largest, sorted(folder for folder, count in counts.items() if count == largest)
