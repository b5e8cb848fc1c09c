"""The endpoint on a real socket, spoken to as any client would."""

from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.settings import Settings, UnknownAttributes
from tests.support.endpoint import KEY, VIDEO, Caller, serving
from tests.support.endpoint_engine import ScriptedEngine
from tests.support.inbox import inbox
from tests.support.page import SAMPLE_REQUEST, SAMPLE_RESPONSE
from tools.stack.process import free_port

SIGNED = "https://example.com/in.gif?X-Amz-Signature=0123456789abcdef"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", hold_s=120, allow_private_addresses=True)


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def kinds(value: Any) -> Any:
    """The types of a JSON value, at any depth. JSON knows one kind of number."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    if isinstance(value, list):
        return [kinds(item) for item in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def test_the_pages_request_sent_by_curl_is_answered_in_the_pages_shape(settings: Settings) -> None:
    with serving(settings, ScriptedEngine()) as caller:
        done = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--fail", "--location"),
                *("--request", "POST", f"{caller.url}{VIDEO}/video2video"),
                *("--header", "Content-Type: application/json"),
                *("--data", json.dumps({**SAMPLE_REQUEST, "key": KEY})),
            ],
            capture_output=True,
            check=True,
            timeout=60,
        )
        answer = json.loads(done.stdout)
        expected = kinds(SAMPLE_RESPONSE)
        expected["meta"]["clip_skip"] = "number"  # the page asks for 2 and shows null: its pair does not match
        assert kinds(answer) == expected
        assert list(answer) == list(SAMPLE_RESPONSE)
        assert list(answer["meta"]) == list(SAMPLE_RESPONSE["meta"])
        meta = answer["meta"]
        for name in ("model_id", "prompt", "negative_prompt", "init_video", "strength", "guidance_scale", "clip_skip"):
            assert meta[name] == SAMPLE_REQUEST[name]
        assert (meta["base64"], meta["instant_response"], meta["temp"], meta["num_frames"]) == ("no", "no", "no", 16)
        assert 0 <= meta["seed"] < 2**32
        assert all(isinstance(meta[name], int) for name in ("fps", "height", "width", "num_frames", "seed"))
        assert answer["output"] == [f"{caller.url}/generations/{meta['file_prefix']}.{meta['output_type']}"]
        clip = requests.get(answer["output"][0], timeout=60)
        assert clip.headers["content-type"] == "video/mp4"
        assert clip.content[4:8] == b"ftyp"


def test_an_alias_of_a_model_is_made_by_that_model_which_all_answers_name(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The vendor's example body, as clients of others send it, runs unchanged."""
    caplog.set_level(logging.INFO)
    checked: list[str] = []

    class Watched(ScriptedEngine):
        def check(self, request: Video2VideoRequest) -> None:
            checked.append(request.model_id)

    with serving(replace(settings, aliases={"dark-sushi-mix": "demo"}), Watched()) as caller:
        answer = caller.submit(**{**SAMPLE_REQUEST, "key": KEY})
        later = caller.submit(model_id="tiny", instant_response=True)
    assert (answer["status"], answer["meta"]["model_id"], later["meta"]["model_id"]) == ("success", "demo", "tiny")
    assert checked == ["demo", "tiny"]
    assert [text for text in caplog.messages if "dark-sushi-mix" in text and "demo" in text]


def test_numbers_as_text_and_words_for_switches_are_read(settings: Settings) -> None:
    with serving(settings, ScriptedEngine()) as caller:
        answer = caller.submit(num_frames="3", strength="0.5", instant_response="no", temp="no", seed="7")
    meta = answer["meta"]
    assert (answer["status"], meta["num_frames"], meta["strength"], meta["seed"]) == ("success", 3, 0.5, 7)


def test_instant_response_then_future_links_then_fetch(settings: Settings) -> None:
    gate = threading.Event()
    with serving(settings, ScriptedEngine(gate)) as caller:
        answer = caller.submit(instant_response=True, track_id=300, output_type="gif", seed=5)
        assert answer["status"] == "processing"
        assert answer["meta"]["id"] == str(answer["id"])
        assert (answer["meta"]["track_id"], answer["meta"]["instant_response"]) == ("300", "yes")
        assert answer["meta"]["seed"] == 5
        assert answer["fetch_result"] == f"{caller.url}{VIDEO}/fetch/{answer['id']}"
        (link,) = answer["future_links"]
        assert link == f"{caller.url}/generations/{answer['meta']['file_prefix']}.gif"
        assert requests.get(link, timeout=60).status_code == 404
        assert caller.fetch(answer["id"])["message"] == "try again later."
        gate.set()
        done = caller.finished(answer["id"])
        assert done.pop("generationTime") >= 0
        assert done == {"status": "success", "id": answer["id"], "output": [link], "proxy_links": [link]}
        clip = requests.get(link, timeout=60)
        assert (clip.status_code, clip.headers["content-type"], clip.content[:6]) == (200, "image/gif", b"GIF89a")


def test_a_hold_ends_with_processing_when_the_time_is_up(tmp_path: Path) -> None:
    gate = threading.Event()
    with serving(Settings(state_dir=tmp_path, hold_s=0.2), ScriptedEngine(gate)) as caller:
        first, second = caller.submit(), caller.submit()
        assert (first["status"], second["status"]) == ("processing", "processing")
        assert second["eta"] == 2 * first["eta"] > 0
        gate.set()
        assert caller.finished(second["id"])["status"] == "success"


def test_a_hold_ends_early_when_the_server_is_told_to_stop(tmp_path: Path) -> None:
    engine = ScriptedEngine(threading.Event())
    answers: list[dict[str, Any]] = []
    with serving(Settings(state_dir=tmp_path, hold_s=1000), engine) as caller:
        held = threading.Thread(target=lambda: answers.append(caller.submit()))
        held.start()
        assert engine.busy.acquire(timeout=60)
    held.join(60)
    assert [answer["status"] for answer in answers] == ["processing"]
    assert engine.stopped == 1
    with serving(Settings(state_dir=tmp_path), ScriptedEngine()) as caller:
        assert caller.finished(answers[0]["id"])["status"] == "success"


def test_the_endpoint_answers_while_submits_are_held_and_goes_on_when_a_client_leaves(settings: Settings) -> None:
    engine = ScriptedEngine(gate := threading.Event())
    with serving(settings, engine) as caller:
        body = json.dumps({"key": KEY, "model_id": "m", "prompt": "left", "init_video": SIGNED}).encode()
        host, port = caller.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            head = f"POST {VIDEO}/video2video HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert engine.busy.acquire(timeout=60)
            assert requests.get(f"{caller.url}/healthz", timeout=60).json() == {"status": "ok"}
        gate.set()
        assert caller.finished(1)["status"] == "success"
        assert caller.submit(prompt="next")["status"] == "success"
    assert engine.finished == ["left", "next"]


def test_a_failing_job_says_why_without_secrets_and_the_next_one_runs(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "airflow_provider_modelslab")
    with serving(settings, ScriptedEngine()) as caller:
        bad = caller.submit(prompt="unreadable", init_video=SIGNED)
        crash = caller.submit(prompt="crash", init_video=SIGNED)
        good = caller.submit(prompt="good", init_video=SIGNED)
        assert (bad["status"], crash["status"], good["status"]) == ("failed", "failed", "success")
        assert bad["message"].startswith("Failed, Try Again: init_video is no clip; got 'https://example.com/in.gif")
        assert "KeyError" in crash["message"]
        assert caller.fetch(bad["id"]) == {"status": "failed", "id": "", "message": bad["message"], "output": ""}
        assert good["meta"]["init_video"] == SIGNED
    told = caplog.text + json.dumps([bad, crash])
    assert "KeyError" in caplog.text
    assert "0123456789abcdef" not in told
    assert KEY not in told


@pytest.mark.parametrize(
    ("attributes", "field", "text"),
    [
        ({"prompt": None}, "prompt", "is required"),
        ({"width": 900}, "width", "must be at most 768; got 900"),
        ({"model_id": "unknown"}, "model_id", "is not in the catalog; got 'unknown'"),
        (
            {"init_video": "/etc/passwd"},
            "init_video",
            "must be an http(s) link, the only kind that the endpoint reads; got '/etc/passwd'",
        ),
        ({"webhook": "file:///tmp/x"}, "webhook", "must be an http(s) URL; got 'file:///tmp/x'"),
    ],
)
def test_validation_in_both_styles(settings: Settings, attributes: Any, field: str, text: str) -> None:
    body = {"model_id": "m", "prompt": "p", "init_video": "https://example.com/a.gif", **attributes}
    with serving(settings, ScriptedEngine()) as caller:
        legacy = caller.post(f"{VIDEO}/video2video", **body)
    documented_settings = Settings(state_dir=settings.state_dir, answers="documented")
    with serving(documented_settings, ScriptedEngine()) as caller:
        documented = caller.post(f"{VIDEO}/video2video", **body)
    assert (legacy.status_code, documented.status_code) == (200, 400)
    assert legacy.json() == {"status": "error", "message": {field: [f"The {field} field {text}."]}}
    assert documented.json() == {"status": "error", "message": f"{field} {text}"}


def test_the_limits_are_those_of_the_engine(settings: Settings) -> None:
    """The endpoint refused width 832 and 33 frames for every model, those of Wan among them."""

    class Wide(ScriptedEngine):
        def check(self, request: Video2VideoRequest) -> None:
            if (request.width or 0) > 1280:
                raise InvalidRequestError.of("width", "must be at most 1280")

    with serving(settings, Wide()) as caller:
        assert caller.submit(width=832, height=480, num_frames=33)["status"] == "success"
        assert "width" in caller.submit(width=1281)["message"]


def test_a_model_of_which_nothing_can_be_found_out_is_not_accepted(settings: Settings) -> None:
    """The Hub is down, for example: nothing is queued or counted, and the client may try again."""

    class Unsure(ScriptedEngine):
        def check(self, request: Video2VideoRequest) -> None:
            raise JobFailedError("org/name could not be downloaded from the Hub")

    with serving(replace(settings, admin=True, answers="documented"), Unsure()) as caller:
        answer = caller.post(f"{VIDEO}/video2video", model_id="org/name", prompt="p", init_video="https://h/a.gif")
        assert answer.status_code == 429
        assert "could not be downloaded" in answer.json()["message"]
        assert caller.bills()["accepted"] == 0


def test_unknown_attributes_are_ignored_and_named_in_the_log_and_the_answer(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "airflow_provider_modelslab")
    with serving(settings, ScriptedEngine()) as caller:
        answer = caller.submit(scheduler="DDIM", extra_parameters={"a": "hidden-value"})
        assert answer["status"] == "success"
        assert answer["ignored_attributes"] == ["extra_parameters", "scheduler"]
        assert "ignored_attributes" not in caller.submit()
    assert "ignored: 'extra_parameters', 'scheduler'" in caplog.text
    assert "hidden-value" not in caplog.text


@pytest.mark.parametrize(
    ("refused", "attributes", "status"),
    [
        ("misspelt", {"num_frame": 3}, "error"),
        ("misspelt", {"Prompt ": "x"}, "error"),
        ("misspelt", {"numFrames": 3}, "error"),
        ("misspelt", {"scheduler": "DDIM"}, "processing"),
        ("misspelt", {"x" * 100_000: 1}, "processing"),
        ("all", {"scheduler": "DDIM"}, "error"),
        ("all", {"num_frame": 3}, "error"),
        ("all", {"use_improved_sampling": False, "clip_skip": None}, "processing"),
        ("none", {"num_frame": 3, "scheduler": "DDIM"}, "processing"),
    ],
)
def test_which_unknown_attributes_are_refused(
    tmp_path: Path, refused: UnknownAttributes, attributes: dict[str, Any], status: str
) -> None:
    settings = Settings(state_dir=tmp_path, unknown_attributes=refused)
    with serving(settings, ScriptedEngine()) as caller:
        answer = caller.submit(instant_response=True, **attributes)
    assert answer["status"] == status
    if status == "error":
        assert list(answer["message"]) == list(attributes)
        assert ("did you mean" in str(answer["message"])) == ("scheduler" not in attributes)


@pytest.mark.parametrize(("style", "status"), [("legacy", 200), ("documented", 400)])
def test_what_is_no_json_object_is_an_invalid_request(tmp_path: Path, style: Any, status: int) -> None:
    with serving(Settings(state_dir=tmp_path, answers=style), ScriptedEngine()) as caller:
        url, good = f"{caller.url}{VIDEO}/video2video", json.dumps({"key": KEY})
        tries = [
            ({"content-type": "text/plain"}, good),
            ({}, good),
            ({"content-type": "application/json"}, "{"),
            ({"content-type": "application/json"}, "[1]"),
            ({"content-type": "application/json"}, "[" * 100_000),
            ({"content-type": "application/json"}, json.dumps({"key": KEY, "prompt": "x" * (1 << 20)})),
        ]
        for headers, data in tries:
            answer = requests.post(url, data=data.encode(), headers=headers, timeout=60)
            assert (answer.status_code, answer.json()["message"]) == (status, "Invalid API Request")
        charset = {"content-type": "application/json; charset=utf-8"}
        assert "message" in requests.post(url, data=good, headers=charset, timeout=60).json()
        assert requests.get(f"{caller.url}{VIDEO}/fetch/1", timeout=60).status_code == 405


@pytest.mark.parametrize(
    ("style", "status", "text"), [("legacy", 200, "Invalid Api Key"), ("documented", 401, "Invalid API key")]
)
def test_keys(tmp_path: Path, style: Any, status: int, text: str) -> None:
    open_door = Settings(state_dir=tmp_path, answers=style)
    with serving(open_door, ScriptedEngine()) as caller:
        for key in ("", "  ", None, 5, "\ud800"):
            answer = caller.post(f"{VIDEO}/system_details", key=key)
            assert (answer.status_code, answer.json()["message"]) == (status, text)
        assert caller.post(f"{VIDEO}/system_details", key="anything").json()["status"] == "ok"
    two_keys = Settings(state_dir=tmp_path, hold_s=120, answers=style, api_keys=("one", "two"))
    with serving(two_keys, ScriptedEngine()) as caller:
        assert caller.post(f"{VIDEO}/system_details", key="anything").status_code == status
        assert caller.post(f"{VIDEO}/system_details", key="anything").json()["message"] == text
        one, two = Caller(caller.url, "one"), Caller(caller.url, "two")
        job = one.submit()
        assert one.fetch(job["id"])["status"] == "success"
        assert two.fetch(job["id"]) == two.fetch(999) == one.fetch("x") == one.fetch("9" * 30)
        assert two.fetch(job["id"])["message"] == "Request not found"
        assert two.fetch(job["id"])["status"] == "failed"


def test_results_and_ids_expire_by_the_clock(settings: Settings) -> None:
    clock = Clock()
    with serving(settings, ScriptedEngine(), clock=clock) as caller:
        old = caller.submit()
        clock.now += settings.retention_s - 1
        assert requests.get(old["output"][0], timeout=60).status_code == 200
        assert caller.fetch(old["id"])["status"] == "success"
        clock.now += 1
        assert requests.get(old["output"][0], timeout=60).status_code == 404
        assert caller.fetch(old["id"])["message"] == "Request not found"
        young = caller.submit()
        kept = caller.fetch(young["id"])["output"]
        caller.submit()  # the worker tidies up before it takes a job
    files = [file.name for file in (settings.state_dir / "generations").iterdir()]
    assert f"{old['meta']['file_prefix']}.mp4" not in files
    assert kept[0].rpartition("/")[2] in files


def test_publish_delay(tmp_path: Path) -> None:
    clock = Clock()
    settings = Settings(state_dir=tmp_path, hold_s=120, publish_delay_s=5)
    with serving(settings, ScriptedEngine(), clock=clock) as caller:
        job = caller.submit()
        assert job["status"] == "success"
        assert requests.get(job["output"][0], timeout=60).status_code == 404
        clock.now += 5
        assert requests.get(job["output"][0], timeout=60).status_code == 200


def test_temp_files_head_and_ranges(settings: Settings) -> None:
    with serving(settings, ScriptedEngine()) as caller:
        job = caller.submit(temp=True)
        (link,) = job["output"]
        assert link == f"{caller.url}/temp/{job['meta']['file_prefix']}.mp4"
        assert job["meta"]["temp"] == "yes"
        assert requests.get(link.replace("/temp/", "/generations/"), timeout=60).status_code == 404
        whole = requests.get(link, timeout=60)
        head = requests.head(link, timeout=60)
        part = requests.get(link, headers={"range": "bytes=4-7"}, timeout=60)
    assert (head.status_code, head.content, int(head.headers["content-length"])) == (200, b"", len(whole.content))
    assert head.headers["accept-ranges"] == "bytes"
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-range"] == f"bytes 4-7/{len(whole.content)}"


def test_files_outside_the_results_cannot_be_read(settings: Settings) -> None:
    with serving(settings, ScriptedEngine()) as caller:
        caller.submit()
        for path in ("/generations/endpoint.db", "/generations/..%2Fendpoint.db", "/temp/%2e%2e/endpoint.db"):
            prepared = requests.Request("GET", caller.url).prepare()
            prepared.url = f"{caller.url}{path}"
            with requests.Session() as session:
                assert session.send(prepared, timeout=60).status_code == 404


def test_base64_publishes_text_of_the_clip(settings: Settings) -> None:
    import base64

    with serving(settings, ScriptedEngine()) as caller:
        job = caller.submit(base64=True, output_type="gif")
        (link,) = job["output"]
        text = requests.get(link, timeout=60)
    assert link.endswith(f"/generations/{job['meta']['file_prefix']}.base64")
    assert text.headers["content-type"].startswith("text/plain")
    assert base64.b64decode(text.content, validate=True).startswith(b"GIF89a")
    assert job["meta"]["base64"] == "yes"


def test_webhooks_of_success_and_failure(settings: Settings) -> None:
    with serving(settings, ScriptedEngine()) as caller, inbox() as box:
        done = caller.submit(webhook=box.url, track_id="video_001")
        assert box.next() == {
            "status": "success",
            "id": done["id"],
            "output": done["output"],
            "generationTime": done["generationTime"],
            "track_id": "video_001",
            "meta": done["meta"],
        }
        failed = caller.submit(webhook=box.url, track_id=7, prompt="unreadable")
        message = {"status": "failed", "id": failed["id"], "message": failed["message"], "track_id": "7"}
        assert box.next() == message
        assert box.bodies.empty()


def test_a_webhook_that_fails_is_not_repeated_and_costs_nothing(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    gone = f"http://127.0.0.1:{free_port()}/hook?token=hidden-token"
    with serving(settings, ScriptedEngine()) as caller, inbox(status=500) as box:
        assert caller.submit(webhook=gone)["status"] == "success"
        assert caller.submit(webhook=box.url)["status"] == "success"
        box.next()
        assert caller.submit(webhook=box.url, prompt="another")["status"] == "success"
        assert box.next()["meta"]["prompt"] == "another"
    assert "hidden-token" not in caplog.text


def test_clear_queue_forgets_and_restarts(settings: Settings) -> None:
    engine = ScriptedEngine(gate := threading.Event())
    with serving(settings, engine) as caller:
        running = caller.submit(instant_response=True, prompt="running")
        assert engine.busy.acquire(timeout=60)
        held: list[dict[str, Any]] = []
        waiting = threading.Thread(target=lambda: held.append(caller.submit(prompt="held")))
        waiting.start()
        while caller.post(f"{VIDEO}/system_details").json()["queue_time"] < 2 * running["eta"]:
            time.sleep(0.02)
        answer = caller.post(f"{VIDEO}/clear_queue").json()
        assert answer == {"message": "Queue cleared, server is restarting", "status": "success"}
        waiting.join(60)
        assert held[0]["message"] == "Request not found"
        assert caller.fetch(running["id"])["message"] == "Request not found"
        gate.set()
        following = caller.submit(prompt="following")
        assert following["status"] == "success"
        assert following["id"] > running["id"]
    assert engine.finished == ["following"]
    assert engine.stopped == 1


def test_a_key_clears_its_own_jobs_and_the_operators_key_all(tmp_path: Path) -> None:
    gate = threading.Event()
    settings = Settings(state_dir=tmp_path, api_keys=("one", "two"), admin_key="operator")
    with serving(settings, ScriptedEngine(gate)) as caller:
        one, two, operator = (Caller(caller.url, key) for key in ("one", "two", "operator"))
        mine, yours = one.submit(instant_response=True)["id"], two.submit(instant_response=True)["id"]
        assert two.post(f"{VIDEO}/clear_queue").json()["status"] == "success"
        assert two.fetch(yours)["message"] == "Request not found"
        assert one.fetch(mine)["status"] == "processing"
        assert one.post(f"{VIDEO}/clear_cache").json()["status"] == "error"
        assert operator.post(f"{VIDEO}/clear_cache").json()["status"] == "success"
        assert operator.post(f"{VIDEO}/clear_queue").json()["status"] == "success"
        assert one.fetch(mine)["message"] == "Request not found"
        gate.set()


def test_a_key_that_clears_its_jobs_ends_no_hold_and_no_work_of_others(tmp_path: Path) -> None:
    engine = ScriptedEngine(gate := threading.Event())
    with serving(Settings(state_dir=tmp_path, hold_s=120), engine) as caller:
        answers: list[dict[str, Any]] = []
        held = threading.Thread(target=lambda: answers.append(Caller(caller.url, "one").submit()))
        held.start()
        assert engine.busy.acquire(timeout=60)
        for call in ("clear_queue", "restart_server"):
            assert Caller(caller.url, "two").post(f"{VIDEO}/{call}").json()["status"] == "success"
        assert engine.stopped == 0
        gate.set()
        held.join(60)
    assert [answer["status"] for answer in answers] == ["success"]
    assert engine.stopped == 0


def test_restart_keeps_the_queue(settings: Settings) -> None:
    engine = ScriptedEngine(gate := threading.Event())
    with serving(settings, engine) as caller:
        jobs = [caller.submit(instant_response=True, prompt=name) for name in ("first", "second")]
        assert engine.busy.acquire(timeout=60)
        for _ in range(2):
            assert caller.post(f"{VIDEO}/restart_server").json()["message"] == "server restarting"
        assert engine.busy.acquire(timeout=60)  # it began once more
        gate.set()
        assert [caller.finished(job["id"])["status"] for job in jobs] == ["success", "success"]
        assert requests.get(f"{caller.url}/healthz", timeout=60).status_code == 200
    assert engine.finished == ["first", "second"]
    assert engine.stopped >= 1


def test_other_administration(settings: Settings) -> None:
    engine = ScriptedEngine()
    with serving(settings, engine) as caller:
        details = caller.post(f"{VIDEO}/system_details").json()
        workers = [{"device": "ScriptedEngine", "jobs": 0}]
        assert details == {"model_count": 1, "queue_time": 0, "status": "ok", "workers": workers}
        assert caller.post(f"{VIDEO}/update_server").json() == {"message": "server updating", "status": "success"}
        cleared = caller.post(f"{VIDEO}/clear_cache").json()
        assert cleared == {"message": "Cache cleared successfully", "status": "success"}
        assert engine.cleared.wait(60)
        assert caller.post("/api/v1/enterprise/video/load_model").status_code == 404


def test_a_full_queue_in_both_styles(tmp_path: Path) -> None:
    gate = threading.Event()
    with serving(Settings(state_dir=tmp_path, max_queue=1), ScriptedEngine(gate)) as caller:
        caller.submit(instant_response=True)
        legacy = caller.submit(instant_response=True)
        assert Caller(caller.url, "another key").submit(instant_response=True)["status"] == "processing"
    with serving(Settings(state_dir=tmp_path, max_queue=1, answers="documented"), ScriptedEngine(gate)) as caller:
        body = {"model_id": "m", "prompt": "p", "init_video": "https://example.com/a.gif"}
        documented = caller.post(f"{VIDEO}/video2video", **body)
        gate.set()
    assert (legacy["status"], legacy["message"]) == ("error", "Rate limit exceeded")
    assert re.search(r"wait for \d+ seconds", legacy["tips"])
    assert documented.status_code == 429
    assert documented.json()["message"] == "Rate limit exceeded. Maximum 1 queued requests allowed."
    assert documented.json()["retry_after"] >= 1


def test_links_use_the_public_url(tmp_path: Path) -> None:
    url = "https://clips.example.com/"
    settings = Settings(state_dir=tmp_path, hold_s=120, public_url=url, api_keys=(KEY,))
    with serving(settings, ScriptedEngine()) as caller:
        job = caller.submit()
        assert job["output"][0].startswith("https://clips.example.com/generations/")
        assert caller.fetch(job["id"])["output"] == job["output"]
