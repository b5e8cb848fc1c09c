from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.redaction import scrub
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.client.requests import RequestFactory
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.hooks.webhook import WebhookSettings, with_webhook
from airflow_provider_modelslab.ledger.model import Fingerprint
from tests.support.connections import set_modelslab
from tests.support.scripted_server import Answer, ScriptedServer

TOKEN = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
ON = {"webhook_url": "https://airflow.example.com/sub/", "webhook_token": TOKEN}
TARGET = f"https://airflow.example.com/sub/modelslab/webhook/{TOKEN}"


def request(**given: Any) -> Video2VideoRequest:
    return Video2VideoRequest(model_id="m", prompt="p", init_video="https://example.com/c.mp4", **given)


@pytest.mark.parametrize(
    "extra", [None, {}, {"webhook_url": None, "webhook_token": ""}, {"webhook_url": " "}, {"webhook_token": TOKEN}]
)
def test_nothing_is_sent_unless_both_are_set(extra: dict[str, Any] | None) -> None:
    assert WebhookSettings.from_extra(extra).target is None
    assert with_webhook(request(), extra).wire() == request().wire()


def test_the_first_token_is_sent_and_all_are_known() -> None:
    settings = WebhookSettings.from_extra({**ON, "webhook_token": f" {TOKEN} , {OTHER}"})
    assert settings.tokens == (TOKEN, OTHER)
    assert settings.target == TARGET
    assert TOKEN not in repr(settings)


def test_a_tasks_own_webhook_goes_before_it() -> None:
    own = request(webhook="https://example.com/mine")
    assert with_webhook(own, ON) is own
    assert with_webhook(request(), ON).wire() == {**request().wire(), "webhook": TARGET}


@pytest.mark.parametrize("token", ["short", "x" * 31, "x" * 129, "a b" * 20, "ä" * 40, f"{TOKEN},short", f"{TOKEN}/.."])
def test_a_token_that_can_be_guessed_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(InvalidRequestError, match="webhook_token: ") as raised:
        WebhookSettings.from_extra({**ON, "webhook_token": token})
    assert token not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("airflow.example.com", "webhook_url: must be the http"),
        ("ftp://airflow.example.com", "webhook_url: must be the http"),
        ("https://user:pass@airflow.example.com", "webhook_url: must be the http"),
        ("https://airflow.example.com?token=1", "webhook_url: must be the http"),
        ("https://", "webhook_url: must be the http"),
        ("https://[", "webhook_url: must be the http"),
        ("https://airflow.example.com/modelslab/webhook/", "must not contain /modelslab/webhook"),
    ],
)
def test_urls_that_cannot_be(url: str, problem: str) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        WebhookSettings.from_extra({**ON, "webhook_url": url})


def test_a_url_without_a_token() -> None:
    with pytest.raises(InvalidRequestError, match="webhook_token: is required"):
        WebhookSettings.from_extra({"webhook_url": "https://airflow.example.com"})


def test_the_hook_sends_it_and_keeps_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"status": "processing", "id": 7, "eta": 5, "output": [], "meta": {"webhook": TARGET, "seed": 1}}
    with ScriptedServer(Answer(answer)) as server:
        set_modelslab(monkeypatch, server.url, **ON)
        job, _ = ModelsLabHook().submit(request())
    assert [received.json()["webhook"] for received in server.requests] == [TARGET]
    assert job.request["webhook"] is None
    assert job.meta["webhook"] == "***"
    assert TOKEN not in repr(job)


def test_the_fingerprint_is_the_same_with_and_without() -> None:
    def fingerprint(of: EndpointRequest) -> Fingerprint:
        return Fingerprint.of(of, conn_id="c", source="s")

    assert fingerprint(with_webhook(request(), ON)) == fingerprint(request())


def test_what_is_recorded_of_a_webhook_is_its_host() -> None:
    record = with_webhook(request(), ON).record()
    assert record["webhook"] == "https://airflow.example.com/***"
    assert scrub(record) == record
    assert scrub({"webhook": None}) == {"webhook": None}
    assert scrub({"meta": {"webhook": "https://example.com"}}) == {"meta": {"webhook": "https://example.com"}}
    assert scrub({"webhook": "no link"}) == {"webhook": "***"}


def test_errors_show_neither_the_url_nor_the_token() -> None:
    call = RequestFactory("some-key").submit(with_webhook(request(), ON))
    assert set(call.secrets) == {"some-key", TARGET, TOKEN}
    assert RequestFactory("some-key").submit(request()).secrets == ("some-key",)
