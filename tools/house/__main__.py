"""``python -m tools.house [--json FILE] [--limits]``: prints how deep and how tangled the package is.

It runs both operators for real (see :mod:`tools.house.submits`), which takes about 10 seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tools.house.figures import LIMITS, Figures, check, measure
from tools.house.submits import SubmitPath


def main() -> int:
    """The exit status: 1 when ``--limits`` is given and a figure is above its limit, else 0."""
    limits = ", ".join(f"{name} {limit}" for name, limit in LIMITS.items())
    parser = argparse.ArgumentParser(prog="python -m tools.house", description="Figures about the package's structure.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--limits", action="store_true", help=f"exit with status 1 above these limits: {limits}")
    given = parser.parse_args()
    figures = measure()
    print(_report(figures))
    if given.json is not None:
        given.json.write_text(json.dumps(figures.to_dict(), indent=2) + "\n")
    above = check(figures) if given.limits else []
    for name in above:
        print(f"{name} is {getattr(figures, name)}, its limit is {LIMITS[name]}", file=sys.stderr)
    return 1 if above else 0


def _report(figures: Figures) -> str:
    lines = [*_path("frames_single", figures.single), *_path("frames_batch", figures.batch)]
    lines.append(f"circles: {figures.circles} (groups of modules that import each other)")
    lines += [f"  {len(group)} modules: {', '.join(group)}" for group in figures.cycles]
    lines.append(f"widest_room: {figures.widest_room} modules in {', '.join(figures.widest_rooms)}")
    lines.append(f"package_lines: {figures.package_lines}")
    counts = ", ".join(f"{name} {len(files)}" for name, files in figures.files_per_change.items())
    lines.append(f"files_per_change: {counts}")
    return "\n".join(lines)


def _path(name: str, path: SubmitPath) -> list[str]:
    count, wrappers = len(path.frames), len(path.wrappers)
    lines = [f"{name}: {count} from execute to the POST, {wrappers + count} with the wrappers above execute"]
    lines += [f"  wrapper {frame}" for frame in path.wrappers]
    lines += [f"  {number:7} {frame}" for number, frame in enumerate(path.frames, 1)]
    return lines


if __name__ == "__main__":
    sys.exit(main())
