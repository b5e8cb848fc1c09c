"""What a caller cannot make the endpoint connect to: webhooks and ``update_s3`` on hosts inside its network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.endpoint.settings import AnswerStyle, Settings
from airflow_provider_modelslab.net import addresses
from tests.support.endpoint import serving
from tests.support.endpoint_engine import ScriptedEngine
from tests.support.s3 import S3Server, update_s3_details
from tests.support.scripted_server import Answer, ScriptedServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

UPDATE = "/api/v1/enterprise/update_s3"
CLOSED = (
    "which is outside the public internet (to allow private addresses, start the endpoint with "
    "--allow-private-addresses)"
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", hold_s=120)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names are found to be."""
    known: dict[str, list[str]] = {}
    resolve = addresses.resolve
    monkeypatch.setattr(addresses, "resolve", lambda host, port: known.get(host) or resolve(host, port))
    return known


def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait for the thread that calls webhooks; pytest's timeout is the limit."""
    while text not in caplog.text:
        time.sleep(0.01)


@pytest.mark.parametrize("style", ["legacy", "documented"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"])
def test_a_webhook_on_a_private_address_is_refused_at_the_submit(tmp_path: Path, style: AnswerStyle, host: str) -> None:
    engine = ScriptedEngine()
    with (
        ScriptedServer(Answer()) as server,
        serving(Settings(state_dir=tmp_path, hold_s=120, answers=style), engine) as caller,
    ):
        answer = caller.send(webhook=f"http://{host}:{server.port}/hook?token=hidden")
        body = answer.json()
        assert answer.status_code == (200 if style == "legacy" else 400)
        assert body["status"] == "error"
        told = body["message"]["webhook"][0] if style == "legacy" else body["message"]
        assert "webhook" in told
        assert f"the host {host.strip('[]')}" in told
        assert CLOSED in told
        assert f"got 'http://{host}:{server.port}/***'" in told
        assert "hidden" not in told
        assert caller.submit()["status"] == "success"
        assert len(engine.prompts) == 1
    assert server.connections == 0


def test_a_name_inside_the_network_is_not_called_and_the_job_succeeds(
    settings: Settings, names: dict[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    names["hooks.example"] = ["93.184.216.34", "127.0.0.1"]
    caplog.set_level("INFO", "airflow_provider_modelslab")
    with ScriptedServer(Answer()) as server, serving(settings, ScriptedEngine()) as caller:
        job = caller.submit(webhook=f"http://hooks.example:{server.port}/hook-token?more=secret")
        assert job["status"] == "success"
        place = f"http://hooks.example:{server.port}/***"
        until_logged(caplog, f"Job {job['id']}: the webhook {place} is not called: the host hooks.example has")
        assert caller.fetch(job["id"])["status"] == "success"
    assert f"has the address 127.0.0.1, {CLOSED}" in caplog.text
    assert "hook-token" not in caplog.text
    assert "secret" not in caplog.text
    assert server.connections == 0


def test_a_public_webhook_is_called_at_the_address_that_was_checked(
    settings: Settings,
    names: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And its redirect is not followed."""
    names["hooks.invalid"] = ["127.0.0.2", "127.0.0.1"]  # nobody listens on the first; the system knows no such name
    monkeypatch.setattr(addresses, "is_public", lambda address: address.startswith("127."))
    caplog.set_level("INFO", "airflow_provider_modelslab")
    redirect = Answer(status=307, headers={"Location": "/inside"})
    with ScriptedServer(redirect) as server, serving(settings, ScriptedEngine()) as caller:
        job = caller.submit(webhook=f"http://hooks.invalid:{server.port}/hook?token=hidden")
        until_logged(caplog, "HTTP 307")
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/hook?token=hidden")
    assert request.headers["host"] == f"hooks.invalid:{server.port}"
    assert request.headers["content-type"] == "application/json"
    assert request.json()["id"] == job["id"]
    assert "hidden" not in caplog.text


@pytest.fixture
def details(s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a bucket on the tests' S3 server."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(s3_server.ca_path))
    return update_s3_details(s3_server, bucket)


def named(url: str) -> str:
    """The same server under the other name of its certificate."""
    return url.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize(
    ("endpoint_url", "problem"),
    [
        ("https://10.0.0.8/clips", f"the host 10.0.0.8 has the address 10.0.0.8, {CLOSED}"),
        ("https://[::1]:9000/clips", f"the host ::1 has the address ::1, {CLOSED}"),
        ("http://clips.s3.inside.example", f"the host clips.s3.inside.example has the address 10.1.2.3, {CLOSED}"),
        ("https://s3.no-such-host.invalid/clips", "the host s3.no-such-host.invalid is not known"),
    ],
)
def test_s3_details_inside_the_network_are_not_stored(
    settings: Settings, details: dict[str, str], names: dict[str, list[str]], endpoint_url: str, problem: str
) -> None:
    names["clips.s3.inside.example"] = ["10.1.2.3"]
    with serving(settings, ScriptedEngine()) as caller:
        refused = caller.post(UPDATE, **{**details, "endpoint_url": endpoint_url}).json()
        (told,) = refused["message"]["endpoint_url"]
        assert refused == {"status": "error", "message": {"endpoint_url": [told]}}
        assert f": {problem}; got '{endpoint_url}'." in told
        assert caller.submit()["output"][0].startswith(f"{caller.url}/generations/")


def test_a_bucket_whose_name_moves_into_the_network_gets_nothing(
    settings: Settings, details: dict[str, str], names: dict[str, list[str]], s3: S3Client, bucket: str
) -> None:
    details["endpoint_url"] = named(details["endpoint_url"])
    names["localhost"] = ["93.184.216.34"]
    with serving(settings, ScriptedEngine()) as caller:
        assert caller.post(UPDATE, **details).json()["status"] == "success"
        names["localhost"] = ["127.0.0.1"]
        failed = caller.submit()
        assert failed["status"] == "failed"
        problem = (
            f"the upload to bucket '{bucket}' was not started: the host localhost has the address 127.0.0.1, {CLOSED}"
        )
        assert problem in failed["message"]
        assert caller.submit(temp=True)["status"] == "success"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_details_of_a_time_when_it_was_allowed_are_not_used(
    settings: Settings, details: dict[str, str], s3: S3Client, bucket: str
) -> None:
    with serving(Settings(settings.state_dir, hold_s=120, allow_private_addresses=True), ScriptedEngine()) as caller:
        assert caller.post(UPDATE, **details).json()["status"] == "success"
    with serving(settings, ScriptedEngine()) as caller:
        assert "which is outside the public internet" in caller.submit()["message"]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_public_bucket_is_reached_over_tls_at_the_address_that_was_checked(
    settings: Settings,
    details: dict[str, str],
    names: dict[str, list[str]],
    s3: S3Client,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    details["endpoint_url"] = named(details["endpoint_url"])
    names["localhost"] = ["127.0.0.2", "127.0.0.1"]  # nobody listens on the first
    monkeypatch.setattr(addresses, "is_public", lambda address: address.startswith("127."))
    with serving(settings, ScriptedEngine()) as caller:
        assert caller.post(UPDATE, **details).json()["status"] == "success"
        job: dict[str, Any] = caller.submit(output_type="gif")
        assert job["output"] == [f"{details['public_url']}/generations/{job['meta']['file_prefix']}.gif"]
    stored = s3.get_object(Bucket=bucket, Key=f"generations/{job['meta']['file_prefix']}.gif")
    assert stored["Body"].read().startswith(b"GIF89a")
    assert stored["ContentType"] == "image/gif"
