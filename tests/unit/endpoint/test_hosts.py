from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from airflow_provider_modelslab.endpoint.http.hosts import HostCheck, allowed_names, is_allowed_host
from airflow_provider_modelslab.endpoint.settings import Settings

LOCAL = Settings(state_dir=Path("s"))
EXPOSED = Settings(state_dir=Path("s"), host="0.0.0.0", api_keys=("a",))  # noqa: S104
NAMED = Settings(
    state_dir=Path("s"),
    api_keys=("a",),
    public_url="https://Clips.Example.com:8443/base",
    allowed_hosts=("gpu.example.com", "*.pods.example.com"),
)


@pytest.mark.parametrize("settings", [LOCAL, EXPOSED, NAMED])
@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:8188", "localhost.", "me.localhost:1", "127.0.0.1", "127.0.0.1:8188", "10.0.0.8"),
        *("[::1]", "[::1]:8188", "[2001:db8::1]:80"),
    ],
)
def test_addresses_and_localhost_are_always_allowed(settings: Settings, host: str) -> None:
    assert is_allowed_host(host, allowed_names(settings))


@pytest.mark.parametrize("settings", [LOCAL, EXPOSED, NAMED])
@pytest.mark.parametrize(
    "host",
    [
        *("attacker.example", "attacker.example:8188", "localhost.attacker.example", "127.0.0.1.attacker.example"),
        *("1.2.3.4.5", "", None, ":8188", "localhost@attacker.example", "attacker.example@localhost", "[::1"),
        *("pods.example.com", "xpods.example.com", "example.com", "a b", "localhost/", "*", "*.", "127.0.0.1:port"),
    ],
)
def test_other_names_are_not(settings: Settings, host: str | None) -> None:
    assert not is_allowed_host(host, allowed_names(settings))


@pytest.mark.parametrize(
    ("settings", "host", "allowed"),
    [
        (LOCAL, "gpu-box", False),
        (EXPOSED, "gpu-box:8188", True),  # a service of docker compose; only the own network says what it is
        (NAMED, "clips.example.com", True),
        (NAMED, "CLIPS.example.com:8443", True),
        (NAMED, "gpu.example.com", True),
        (NAMED, "a.pods.example.com", True),
        (NAMED, "a.b.pods.example.com.", True),
        (Settings(state_dir=Path("s"), host="gpu.lan", api_keys=("a",)), "gpu.lan:8188", True),
        (Settings(state_dir=Path("s"), allowed_hosts=("*",)), "anything.example", True),
    ],
)
def test_names_of_the_settings(settings: Settings, host: str, allowed: bool) -> None:
    assert is_allowed_host(host, allowed_names(settings)) is allowed


@pytest.fixture
def client() -> TestClient:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(Request(scope).url.path)(scope, receive, send)

    return TestClient(HostCheck(app, names=allowed_names(LOCAL)), base_url="http://localhost:8188")


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/enterprise/video/video2video", "/admin/reset", "/generations/a"])
def test_a_rebound_name_reaches_nothing(client: TestClient, path: str) -> None:
    for method in ("GET", "POST"):
        answer = client.request(method, path, headers={"Host": "attacker.example:8188"})
        assert (answer.status_code, answer.json()["status"]) == (400, "error")


@pytest.mark.parametrize(
    ("method", "origin", "status"),
    [
        ("POST", "https://attacker.example", 403),
        ("POST", "null", 403),
        ("POST", "http://localhost:9999", 403),
        ("POST", "file://localhost:8188", 403),
        ("PUT", "http://localhost.attacker.example:8188", 403),
        ("POST", "http://localhost:8188", 200),
        ("POST", None, 200),
        ("GET", "https://attacker.example", 200),  # the browser lets no page read the answer
    ],
)
def test_pages_of_other_sites_cannot_post(client: TestClient, method: str, origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"Origin": origin}
    assert client.request(method, "/admin/reset", headers=headers).status_code == status
