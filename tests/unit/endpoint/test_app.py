"""The app without a socket: its pages, and how bodies are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from airflow_provider_modelslab.api.clip_modes import EXTENSIONS
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.echo import EchoEngine
from airflow_provider_modelslab.endpoint.http.app import create_app
from airflow_provider_modelslab.endpoint.settings import Settings
from tests.support.page import PAGE_ATTRIBUTES, SAMPLE_REQUEST

API = "/api/v1/enterprise"
SUBMIT = f"{API}/video/video2video"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(state_dir=tmp_path_factory.mktemp("state"), admin=True, admin_key="operator")
    with TestClient(create_app(settings, EchoEngine()), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def spec(client: TestClient) -> Any:
    return client.get("/openapi.json").json()


def body_of(spec: Any, path: str) -> Any:
    schema = spec["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


def test_the_open_api_document_has_every_attribute_of_the_vendors_page(spec: Any) -> None:
    body = body_of(spec, SUBMIT)
    assert set(body["properties"]) == {*PAGE_ATTRIBUTES, *SAMPLE_REQUEST, *EXTENSIONS}
    assert all("xtension" in body["properties"][name]["description"] for name in EXTENSIONS)
    assert body["required"] == ["key", "model_id", "prompt", "init_video"]
    assert all(attribute["description"] for attribute in body["properties"].values())
    for name, default in Video2VideoRequest.documented_defaults.items():
        assert body["properties"][name]["default"] == (list(default) if isinstance(default, tuple) else default)
    number = body["properties"]["num_frames"]
    assert (number["type"], number["minimum"], "maximum" in number) == ("integer", 1, False)
    for name, limit in Video2VideoRequest.vendor_limits.items():
        assert f"At most {limit} at ModelsLab" in body["properties"][name]["description"]
    names = {kind["type"] for kind in body["properties"]["lora_models"]["anyOf"]}
    assert names == {"string", "array", "null"}
    (example,) = spec["paths"][SUBMIT]["post"]["requestBody"]["content"]["application/json"]["examples"].values()
    sample = {name: value for name, value in SAMPLE_REQUEST.items() if value is not None and name != "key"}
    assert sample.items() <= example["value"].items()


def test_the_open_api_document_has_every_call_and_says_which_key_it_takes(spec: Any) -> None:
    calls = ("fetch/{job_id}", "system_details", "restart_server", "update_server", "clear_cache", "clear_queue")
    posts = {SUBMIT, f"{API}/update_s3", f"{API}/reset_s3", *(f"{API}/video/{call}" for call in calls)}
    admin = {"/admin/bills", "/admin/reset"}
    assert set(spec["paths"]) == posts | admin | {"/generations/{name}", "/temp/{name}", "/healthz"}
    for path, methods in spec["paths"].items():
        for call in methods.values():
            assert ("security" in call) == (path in admin)
            assert ("requestBody" in call) == (path in posts)
    assert all("key" in body_of(spec, path)["required"] for path in posts)
    assert all("422" not in spec["paths"][path]["post"]["responses"] for path in posts)
    assert len(body_of(spec, f"{API}/update_s3")["properties"]) == 8
    assert "video" in body_of(spec, f"{API}/reset_s3")["properties"]["deploy_type"]["enum"]


def test_docs_shows_the_attributes_and_loads_nothing(client: TestClient, spec: Any) -> None:
    answer = client.get("/docs")
    page = answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page
    assert "src=" not in page
    for name, attribute in body_of(spec, SUBMIT)["properties"].items():
        assert f"<code>{name}</code>" in page
        assert escape(attribute["description"]) in page
    assert "<td>integer</td><td>16</td><td>at least 1</td>" in page
    assert "<td>string or list of string</td>" in page
    assert "<td>mp4, gif</td>" in page
    assert "<td>sample, whole</td>" in page
    assert all(
        f"<code>{method.upper()} {path}</code>" in page for path in spec["paths"] for method in spec["paths"][path]
    )


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_the_pages_keep_to_the_allowed_hosts(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200
    assert client.get(path, headers={"Host": "attacker.example"}).status_code == 400


def test_pages_that_would_load_scripts_from_a_cdn_are_not_there(client: TestClient) -> None:
    assert client.get("/redoc").status_code == 404
    assert client.get("/docs/oauth2-redirect").status_code == 404


@pytest.mark.parametrize(
    "content", ["", "null", "[]", '"text"', "5", "{", "{]", "[" * 100_000, '{"key": ' + "9" * 5000 + "}", b"\xff{}"]
)
@pytest.mark.parametrize("path", [SUBMIT, f"{API}/video/system_details", f"{API}/update_s3"])
def test_what_is_no_json_object_is_an_invalid_request(client: TestClient, path: str, content: str | bytes) -> None:
    answer = client.post(path, content=content, headers=JSON)
    assert (answer.status_code, answer.json()["message"]) == (200, "Invalid API Request")


def test_attributes_whose_name_is_no_text_are_an_invalid_request(client: TestClient) -> None:
    answer = client.post(SUBMIT, content='{"key": "k", "\\ud800": 1}', headers=JSON)
    assert (answer.status_code, answer.json()["message"]) == (200, "Invalid API Request")


@pytest.mark.parametrize("key", [None, 5, [], {}, "", " ", "\ud800", "ключ"])
@pytest.mark.parametrize("path", [SUBMIT, f"{API}/video/system_details", f"{API}/update_s3"])
def test_a_wrong_key_is_said_before_any_other_mistake(client: TestClient, path: str, key: Any) -> None:
    answer = client.post(path, content=json.dumps({"key": key, "prompt": 5, "public_url": 5}), headers=JSON)
    assert (answer.status_code, answer.json()["message"]) == (200, "Invalid Api Key")


def test_the_limit_of_a_body_is_128_kib(client: TestClient) -> None:
    whole = json.dumps({"key": "k", "prompt": ""})
    for size, message in ((1 << 17, {}), ((1 << 17) + 1, "Invalid API Request")):
        content = whole.replace('""', '"' + "x" * (size - len(whole)) + '"')
        assert len(content) == size
        answer = client.post(SUBMIT, content=content, headers=JSON).json()
        assert isinstance(answer["message"], type(message))


def test_wrong_s3_attributes_are_named_and_none_is_repeated(client: TestClient) -> None:
    given = {"public_url": "", "region_name": "r" * 3000, "endpoint_url": None, "aws_access_key_id": ["AKIA-SECRET"]}
    answer = client.post(f"{API}/update_s3", json={"key": "k", "deploy_type": ["video"], **given})
    texts = {name: text.removeprefix(f"The {name} field ") for name, (text,) in answer.json()["message"].items()}
    assert texts.pop("deploy_type").startswith("must be one of 'text_to_image'")
    assert texts == {
        "public_url": "is required.",
        "region_name": "must be at most 2048 characters.",
        "endpoint_url": "is required.",
        "aws_access_key_id": "must be text.",
        "aws_secret_access_key": "is required.",
        "image_directory": "is required.",
    }
    assert "AKIA" not in answer.text


def test_without_admin_its_calls_are_not_documented(tmp_path: Path) -> None:
    spec = create_app(Settings(state_dir=tmp_path), EchoEngine()).openapi()
    assert not any(path.startswith("/admin") for path in spec["paths"])
    assert "securitySchemes" not in spec["components"]
