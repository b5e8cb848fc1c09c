"""Permissions are asked for where blocking harms nobody: in a thread, not in the API server's event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.models.dag import DagModel
from fastapi.testclient import TestClient

from airflow_provider_modelslab.plugins.gallery import app as gallery_app
from airflow_provider_modelslab.plugins.media import access
from airflow_provider_modelslab.plugins.media import app as media_app


class Manager:
    """An auth manager that asks another server, and waits for it."""

    def __init__(self) -> None:
        self.asked_in_a_loop: list[bool] = []

    def is_authorized_dag(self, **_: Any) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self.asked_in_a_loop.append(False)
        else:
            self.asked_in_a_loop.append(True)
        return False


@pytest.mark.parametrize(
    ("module", "path"),
    [
        (gallery_app, "/api/dags/d/tasks/t/-1?run_id=r"),
        (gallery_app, "/api/dags/d/tasks/t/-1/links?run_id=r"),
        (gallery_app, "/api/dags/d/tasks/t/-1/media/0/result?run_id=r"),
        (media_app, "/?dag_id=d&run_id=r&task_id=t&what=result"),
    ],
)
def test_permissions_do_not_block_the_event_loop(module: Any, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager()

    async def somebody(_: str | None) -> str:
        return "somebody"

    monkeypatch.setattr(access, "resolve_user_from_token", somebody)
    monkeypatch.setattr(access, "get_auth_manager", lambda: manager)
    monkeypatch.setattr(DagModel, "get_team_name", lambda _: None)
    answer = TestClient(module.make_app()).get(path)
    assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})
    assert manager.asked_in_a_loop == [False]
