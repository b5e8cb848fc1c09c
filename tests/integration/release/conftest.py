"""The distributions, built as a release builds them."""

from __future__ import annotations

import pytest

from tools.release.dist import Distributions, build


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist, and the wheel built from it; ``twine check --strict`` has passed."""
    return build(tmp_path_factory.mktemp("dist"))
