"""What a woken task gets is what its trigger would have sent."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import ErrorCode
from airflow_provider_modelslab.api.response import Answer, Failed, Finished, Processing
from airflow_provider_modelslab.plugins.lazy_asgi import LazyApp
from airflow_provider_modelslab.plugins.webhook.asset_events import asset_uri
from airflow_provider_modelslab.plugins.webhook.plugin import mounted_apps, served_conn_ids
from airflow_provider_modelslab.plugins.webhook.trigger_wakeup import _TRIGGER
from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger
from tests.support.connections import set_modelslab
from tests.support.scripted_server import Answer as Said
from tests.support.scripted_server import ScriptedServer

LINK = "https://example.com/v.mp4"


def trigger(**given: Any) -> ModelsLabVideo2VideoTrigger:
    now = time.time()
    return ModelsLabVideo2VideoTrigger("7", **{"submitted_at": now - 120, "deadline": now + 600, **given})


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ({"status": "success", "id": 7, "output": [LINK], "proxy_links": [LINK]}, Finished("7", (LINK,))),
        (
            {"status": "failed", "id": "", "message": "bad clip"},
            Failed(ErrorCode.JOB_FAILED, "bad clip", http_status=200),
        ),
    ],
)
async def test_the_event_is_that_of_the_trigger(
    said: dict[str, Any], answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Said(said)) as server:
        set_modelslab(monkeypatch, server.url)
        sent = [event.payload async for event in trigger(poll_policy={"min_interval": 0.01}).run()]
    assert sent == [trigger().event_for(answer)]


def test_what_the_trigger_would_wait_on_wakes_nobody() -> None:
    assert trigger().event_for(Processing(None)) is None
    patient = trigger(poll_policy={"lost_after": 3})
    assert patient.event_for(Failed(ErrorCode.JOB_LOST, "Request not found")) is None
    assert trigger().event_for(Failed(ErrorCode.TRANSPORT, "HTTP 500")) is None


def test_the_trigger_is_known_by_its_path() -> None:
    assert trigger().serialize()[0] == _TRIGGER


@pytest.mark.parametrize(
    ("named", "served"), [(None, []), ("", []), (" , ", []), ("a", ["a"]), (" a , b,a", ["a", "b"])]
)
def test_nothing_is_mounted_unless_a_connection_is_named(
    named: str | None, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__MODELSLAB__WEBHOOK_CONN_IDS", raising=False)
    if named is not None:
        monkeypatch.setenv("AIRFLOW__MODELSLAB__WEBHOOK_CONN_IDS", named)
    assert served_conn_ids() == served
    mounted = mounted_apps()
    assert [app["url_prefix"] for app in mounted] == (["/modelslab/webhook"] if served else [])
    assert all(isinstance(app["app"], LazyApp) for app in mounted)


def test_the_assets_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asset_uri("some") == "x-modelslab://some/finished"
    monkeypatch.setenv("AIRFLOW__MODELSLAB__WEBHOOK_ASSET", "x-videos://CONN_ID")
    assert asset_uri("some") == "x-videos://some"
