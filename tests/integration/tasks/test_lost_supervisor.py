"""A task process whose supervisor died: Airflow's logger raises in it, and what is paid for is still not lost."""

from __future__ import annotations

from unittest.mock import Mock, PropertyMock, patch

import pytest

from tests.integration.tasks.conftest import Restyle, Store, WatchedEngine
from tests.support.tasks import execute


@pytest.mark.usefixtures("connections")
def test_the_id_is_written_before_anything_is_logged(restyle: Restyle, engine: WatchedEngine, store: Store) -> None:
    def info(*_: object) -> None:
        if engine.submitted:
            raise BrokenPipeError(32, "Broken pipe")

    orphan = restyle(deferrable=False)
    with (
        patch.object(type(orphan), "log", PropertyMock(return_value=Mock(info=info))),
        pytest.raises(BrokenPipeError),
    ):
        execute(orphan)

    manifest = execute(restyle(deferrable=False))
    assert len(engine.submitted) == 1
    assert store.frames(manifest["uri"]) == 5
