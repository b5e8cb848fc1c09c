"""The API key, the AWS secret and the signatures of links are in nothing that is written down."""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.operators.s3_settings import ModelsLabUpdateS3Operator
from tests.integration.tasks.conftest import Restyle, WatchedEngine
from tests.support.connections import set_modelslab
from tests.support.endpoint import Caller
from tests.support.files_server import FilesServer, ServedFile
from tests.support.s3 import S3Server, keys_of
from tests.support.samples import small_mp4
from tests.support.scripted_server import Answer, ScriptedServer
from tests.support.tasks import TaskInstance, context_of, deferral_of, event_of, execute, in_the_triggerer, resume

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

KEY = "sk-live/very+secret&key"
HOOK_TOKEN = "token-of-the-webhook"
SIGNATURE = "0123456789abcdef-of-a-link"

# At DEBUG these two write what they send, which is all of a link. They never see the key, which is in a body.
_THIRD_PARTIES = ("botocore", "urllib3")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", api_keys=(KEY,), hold_s=120, allow_private_addresses=True)


@pytest.fixture
def connections(
    endpoint: Caller, s3_connection: None, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_modelslab(monkeypatch, endpoint.url, key=KEY, **s3_extra)


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Everything logged or printed so far, at DEBUG."""
    caplog.set_level(logging.DEBUG)

    def read(*, without: tuple[str, ...] = ()) -> str:
        records = [record for record in caplog.records if not record.name.startswith(without)]
        lines = [f"{record.getMessage()} {record.args} {record.exc_text}" for record in records]
        return "\n".join([*lines, caplog.text if not without else "", *capfd.readouterr()])

    return read


def stored(s3: S3Client, bucket: str) -> str:
    """All that is in the bucket beside the videos: sidecars and ledger."""
    keys = [key for key in keys_of(s3, bucket) if not key.endswith((".mp4", ".gif"))]
    bodies = [s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys]
    return "\n".join(keys + bodies)


@pytest.mark.usefixtures("connections")
@pytest.mark.parametrize("source", ["s3", "link"])
def test_secrets_are_nowhere(
    restyle: Restyle,
    engine: WatchedEngine,
    gate: threading.Event,
    files: FilesServer,
    s3: S3Client,
    s3_server: S3Server,
    bucket: str,
    logs: Callable[..., str],
    source: str,
) -> None:
    s3.put_object(Bucket=bucket, Key="in.mp4", Body=small_mp4())
    files.add("/in.mp4", ServedFile(small_mp4()))
    init_video = f"s3://{bucket}/in.mp4" if source == "s3" else files.url(f"/in.mp4?X-Amz-Signature={SIGNATURE}")
    webhook = files.url(f"/hook?token={HOOK_TOKEN}")

    def make() -> Any:
        return restyle(init_video=init_video, webhook=webhook, deferrable=True)

    deferred = deferral_of(make())
    gate.set()
    trigger = in_the_triggerer(deferred)
    event = event_of(trigger)
    manifest = resume(make(), deferred, event)
    others = [
        execute(restyle(init_video=init_video, webhook=webhook, **change), context_of(TaskInstance(run_id=str(change))))
        for change in ({"wait_for_completion": False}, {"land_result": False})
    ]

    [signature] = parse_qs(urlsplit(engine.submitted[0].init_video).query)["X-Amz-Signature"]  # what was really sent
    assert (signature == SIGNATURE) == (source == "link")
    logged = logs()
    assert f"Submitting {init_video.partition('?')[0]} as " in logged
    places = {
        "the trigger's arguments": json.dumps(trigger.serialize()) + repr(trigger) + repr(vars(trigger)),
        "what is kept while the task is deferred": json.dumps(deferred.kwargs),
        "the event": json.dumps(event),
        "the manifest": json.dumps(manifest),
        "the manifests of other kinds": json.dumps(others),
        "the sidecars and the ledger": stored(s3, bucket),
        "the operator": repr(make()),
    }
    assert "in.mp4" in places["the sidecars and the ledger"]
    for name, text in places.items():
        for secret in (KEY, json.dumps(KEY)[1:-1], s3_server.secret_key, signature, HOOK_TOKEN):
            assert secret not in text, name
    for secret in (KEY, s3_server.secret_key):
        assert secret not in logged


@pytest.mark.parametrize("spelling", [str, partial(quote, safe="")], ids=["plain", "encoded"])
def test_a_server_that_repeats_the_key_wherever_it_can(
    restyle: Restyle,
    s3_connection: None,
    s3_extra: dict[str, Any],
    files: FilesServer,
    s3: S3Client,
    bucket: str,
    logs: Callable[..., str],
    spelling: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = spelling(KEY)
    files.add("/in.mp4", ServedFile(small_mp4()))
    good, bad = files.add("/out.mp4", ServedFile(small_mp4())), files.url(f"/{key}/out.mp4")
    echo = {"status": "processing", "message": key, "meta": {f"a {key}": {key: key}, "prompt": key}}
    done = {**echo, "status": "success", "id": key, "output": [bad, good], "proxy_links": [bad]}
    shown: list[Any] = []

    def make() -> Any:
        return restyle(init_video=files.url("/in.mp4"), deferrable=True)

    headers = {"X-Key": KEY, "Set-Cookie": f"{KEY}[]={KEY}"}
    running = {**echo, "id": 7, "future_links": [bad, good]}
    answers = [Answer(running, headers=headers), Answer(f"<h1>{key}</h1>", 502), Answer(done, headers=headers)]
    with ScriptedServer(*answers) as server:
        set_modelslab(monkeypatch, server.url, key=KEY, **s3_extra)
        deferred = deferral_of(make())
        trigger = in_the_triggerer(deferred)
        event = event_of(trigger)
        manifest = resume(make(), deferred, event)
        shown += [trigger.serialize(), vars(trigger), deferred.kwargs, event, manifest]
    assert good in repr(manifest) + stored(s3, bucket)
    with ScriptedServer(Answer({**echo, "id": key, "future_links": [bad]})) as server:
        set_modelslab(monkeypatch, server.url, key=KEY, **s3_extra)
        for _ in range(2):  # what was sent once is not sent again
            with pytest.raises(Exception, match=r"dashboard|unknown") as caught:
                execute(
                    restyle(init_video=files.url("/in.mp4"), prompt="another"), context_of(TaskInstance(run_id="b"))
                )
            shown += [*traceback.format_exception(caught.value), vars(caught.value)]
        assert server.posts == 1
    text = repr(shown) + stored(s3, bucket) + logs()
    assert "in.mp4" in text
    assert KEY not in text
    assert quote(KEY, safe="") not in text


@pytest.mark.usefixtures("connections")
def test_signatures_are_in_no_log_of_ours(
    restyle: Restyle, engine: WatchedEngine, files: FilesServer, logs: Callable[..., str]
) -> None:
    files.add("/in.mp4", ServedFile(small_mp4()))
    execute(restyle(init_video=files.url(f"/in.mp4?X-Amz-Signature={SIGNATURE}")))
    assert SIGNATURE in engine.submitted[0].init_video
    logged = logs(without=_THIRD_PARTIES)
    assert files.url("/in.mp4") in logged
    assert SIGNATURE not in logged


def test_secrets_are_in_no_exception(
    restyle: Restyle,
    s3_connection: None,
    s3_extra: dict[str, Any],
    s3_server: S3Server,
    logs: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(s3_server.ca_path))
    # Servers that repeat in their errors what they were sent.
    told = f"you sent key={KEY} and aws_secret_access_key={s3_server.secret_key}"
    answers = [
        Answer({"status": "error", "message": told}),
        Answer({"status": "error", "message": "Invalid API key " + told}, status=401),
        Answer(f"<html>{told}</html>", status=502),
    ]
    for answer in answers:
        with ScriptedServer(answer) as server:
            set_modelslab(monkeypatch, server.url, key=KEY, **s3_extra)
            # With the keys of S3 in the body, both are secrets of the call.
            with pytest.raises(Exception, match=r"you sent key=\*\*\* and aws_secret_access_key=\*\*\*") as caught:
                execute(ModelsLabUpdateS3Operator(task_id="update_s3"))
            text = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
            with pytest.raises(Exception, match=r"you sent key=\*\*\*") as caught:
                execute(restyle(), context_of(TaskInstance(run_id=repr(answer.status) + str(answers.index(answer)))))
            text += "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
            works, why = ModelsLabHook().test_connection()
            assert not works
            assert KEY not in text + why
    assert KEY not in logs()
