"""The wheel in an environment that has nothing else: what Airflow's own commands show of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.release.check_wheel import Expected, Installed, check
from tools.release.dist import build

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_everything_shows_up(tmp_path: Path) -> None:
    here = Installed(tmp_path, build(tmp_path / "dist").wheel)
    assert check(here) == []
    # It would be noticed: with one thing more expected, the same check says what is missing.
    [problem] = check(here, Expected(commands=Expected.commands | {"conjure"}))
    assert "conjure" in problem
