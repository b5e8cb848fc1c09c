"""``python -m tools.release.dist [FOLDER]``: the sdist and the wheel, ready to be published.

The wheel is built from the sdist, as it is wherever pip finds no wheel; twine then reads both as PyPI would.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Distributions", "build"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Distributions:
    """The two files."""

    sdist: Path
    wheel: Path


def build(folder: Path, *, check: bool = True) -> Distributions:
    """Build both into an empty folder.

    :raises subprocess.CalledProcessError: when the build fails, or when twine finds fault with what came out.
    """
    # With the hook that puts the bill of materials into the wheel.
    environment = {**os.environ, "HATCH_BUILD_HOOK_ENABLE_CUSTOM": "true"}
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    if check:
        command = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", str(sdist), str(wheel)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return Distributions(sdist, wheel)


if __name__ == "__main__":
    made = build(Path(sys.argv[1] if len(sys.argv) > 1 else "dist"))
    print(made.sdist, made.wheel, sep="\n")
