"""Each fault of the endpoint through real sockets: what a client sees, and what was paid."""

from __future__ import annotations

import asyncio
import errno
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient

from airflow_provider_modelslab.api.errors import SubmissionUnknownError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.client.client import ModelsLabClient
from airflow_provider_modelslab.endpoint.echo import EchoEngine
from airflow_provider_modelslab.endpoint.faults.plan import FaultPlan
from airflow_provider_modelslab.endpoint.http.app import create_app
from airflow_provider_modelslab.endpoint.http.server import EndpointServer
from airflow_provider_modelslab.endpoint.settings import Settings
from tests.support.endpoint import KEY, VIDEO, Caller, serving
from tests.support.endpoint_engine import ScriptedEngine
from tests.support.inbox import inbox

SMALL = {"width": 32, "height": 32, "num_frames": 2, "output_type": "gif", "seed": 1}


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Faulty:
    """An endpoint with one fault, and the requests that have it."""

    def __init__(self, caller: Caller, asked: dict[str, Any]) -> None:
        self.caller = caller
        self.asked = asked

    def send(self, **attributes: Any) -> requests.Response:
        return self.caller.send(**{**SMALL, **self.asked, **attributes})

    def submit(self, **attributes: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.send(**attributes).json()
        return answer

    @property
    def paid(self) -> int:
        accepted: int = self.caller.bills()["accepted"]
        return accepted

    @property
    def acted(self) -> dict[str, int]:
        counts: dict[str, int] = self.caller.bills()["faults"]
        return counts


Fault = Callable[..., AbstractContextManager[Faulty]]


@pytest.fixture(params=["by plan", "by request"])
def fault(request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Fault]:
    """``fault(kind, options, **settings)``: an endpoint where every request has that fault.

    At the end the server must have no error of its own to tell.
    """

    @contextmanager
    def start(
        kind: str, options: dict[str, Any] | None = None, *, clock: Callable[[], float] = time.time, **settings: Any
    ) -> Iterator[Faulty]:
        options = options or {}
        asked: dict[str, Any] = {}
        if request.param == "by plan":
            settings["faults"] = FaultPlan(3, {kind: 1.0}, {kind: options})
        else:
            settings["allow_request_faults"] = True
            asked["x_faults"] = {kind: options}
        defaults = {"hold_s": 120, "admin": True, "allow_private_addresses": True}
        made = Settings(state_dir=tmp_path / "state", **{**defaults, **settings})
        with serving(made, EchoEngine(), clock=clock) as caller:
            yield Faulty(caller, asked)

    yield start
    for when in ("setup", "call"):
        told = [record.getMessage() for record in caplog.get_records(when) if record.levelname == "ERROR"]
        assert told == []


def errno_of(error: BaseException | None) -> int | None:
    """The operating system's number in whatever a library wrapped it in."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        inner = [part for part in error.args if isinstance(part, BaseException)]
        error = inner[0] if inner else error.__cause__ or error.__context__
    return None


def test_reset_before_accepting(fault: Fault) -> None:
    with fault("reset_before") as faulty:
        with pytest.raises(requests.ConnectionError) as caught:
            faulty.send()
        assert errno_of(caught.value) == errno.ECONNRESET
        assert (faulty.paid, faulty.acted) == (0, {"reset_before": 1})


def test_reset_after_accepting(fault: Fault) -> None:
    with fault("reset_after") as faulty:
        with pytest.raises(requests.ConnectionError) as caught:
            faulty.send(track_id="t")
        assert errno_of(caught.value) == errno.ECONNRESET
        (bill,) = faulty.caller.bills()["jobs"]
        assert (bill["track_id"], bill["faults"]) == ("t", ["reset_after"])
        assert faulty.caller.finished(bill["id"])["status"] == "success"


def test_a_reset_is_one_on_asyncios_own_loop_too(tmp_path: Path) -> None:
    ready: queue.Queue[str] = queue.Queue()
    app = create_app(Settings(state_dir=tmp_path, faults=FaultPlan(rates={"reset_after": 1.0})), EchoEngine())
    server = EndpointServer(app, on_ready=ready.put, log_level="warning")
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        url = ready.get(timeout=60)
        with pytest.raises(requests.ConnectionError) as caught:
            Caller(url).send(**SMALL)
        assert errno_of(caught.value) == errno.ECONNRESET
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.mark.parametrize(("kind", "paid"), [("error_before", 0), ("error_after", 1)])
def test_errors_of_the_server(fault: Fault, kind: str, paid: int) -> None:
    with fault(kind, {"status": 503}) as faulty:
        answer = faulty.send()
        assert (answer.status_code, answer.json()["status"]) == (503, "error")
        assert (faulty.paid, faulty.acted) == (paid, {kind: 1})


@pytest.mark.parametrize(("when", "paid"), [("before", 0), ("after", 1)])
def test_a_hanging_submit_is_closed_without_an_answer(fault: Fault, when: str, paid: int) -> None:
    with fault("hang", {"when": when, "seconds": 0.1}) as faulty:
        with pytest.raises(requests.ConnectionError, match="without response"):
            faulty.send()
        assert faulty.paid == paid


def test_a_hang_ends_when_the_client_leaves_and_when_the_server_stops(fault: Fault) -> None:
    with fault("hang", {"when": "after", "seconds": 1000}) as faulty:
        body = json.dumps({"key": KEY, "model_id": "m", "prompt": "p", "init_video": "http://h/a.gif", **faulty.asked})
        host, port = faulty.caller.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=0.2) as connection:
            head = f"POST {VIDEO}/video2video HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            while faulty.paid < 1:
                time.sleep(0.01)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        errors: list[Exception] = []

        def wait() -> None:
            try:
                faulty.send()
            except requests.ConnectionError as error:
                errors.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        while faulty.paid < 2:
            time.sleep(0.01)
    waiting.join(60)
    assert len(errors) == 1


def test_a_hanging_fetch(fault: Fault) -> None:
    with fault("hang", {"when": "fetch", "seconds": 0.1, "fetches": 2}) as faulty:
        job = faulty.submit()
        for _ in range(2):
            with pytest.raises(requests.ConnectionError, match="without response"):
                faulty.caller.fetch(job["id"])
        assert faulty.caller.fetch(job["id"])["status"] == "success"
        assert faulty.paid == 1


def test_a_malformed_answer(fault: Fault) -> None:
    with fault("malformed") as faulty:
        answer = faulty.send()
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.text.startswith('{"status": "success"')
        with pytest.raises(requests.JSONDecodeError):
            answer.json()
        assert faulty.paid == 1


def test_a_truncated_file_keeps_its_length(fault: Fault) -> None:
    with fault("truncated_video", {"times": 2, "keep": 0.25}) as faulty:
        (link,) = faulty.submit()["output"]
        head = requests.head(link, timeout=60)
        host, port = faulty.caller.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            path = link.removeprefix(faulty.caller.url)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        headers, _, part = received.partition(b"\r\n\r\n")
        whole = requests.get(link, timeout=60).content
        assert headers.startswith(b"HTTP/1.1 200")
        assert f"content-length: {len(whole)}".encode() in headers
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole)))
        assert part == whole[: len(whole) // 4]
        assert faulty.paid == 1


def test_a_file_truncated_for_ever_is_an_error_to_a_client(fault: Fault) -> None:
    with fault("truncated_video", {"keep": 1}) as faulty:
        (link,) = faulty.submit()["output"]
        for _ in range(2):
            with pytest.raises(requests.exceptions.ChunkedEncodingError, match="1 more expected"):
                requests.get(link, timeout=60)


@pytest.mark.parametrize(("content", "kind"), [("html", "text/html"), ("random", "image/gif")])
def test_a_corrupt_file(fault: Fault, content: str, kind: str) -> None:
    with fault("corrupt_video", {"content": content, "times": 2}) as faulty:
        (link,) = faulty.submit(track_id="t")["output"]
        first, second, whole = (requests.get(link, timeout=60) for _ in range(3))
        assert (first.status_code, first.headers["content-type"].partition(";")[0]) == (200, kind)
        assert first.content == second.content != whole.content
        assert not first.content.startswith(b"GIF8")
        assert whole.content.startswith(b"GIF89a")


def test_late_links(fault: Fault) -> None:
    clock = Clock()
    with fault("late_links", {"seconds": 5}, clock=clock) as faulty:
        job = faulty.submit()
        assert job["status"] == "success"
        clock.now += 4.9
        assert requests.get(job["output"][0], timeout=60).status_code == 404
        clock.now += 0.2
        assert requests.get(job["output"][0], timeout=60).content.startswith(b"GIF89a")
        assert faulty.acted == {"late_links": 1}


def test_expired_links(fault: Fault) -> None:
    clock = Clock()
    with fault("expired_links", {"seconds": 60}, clock=clock) as faulty:
        job = faulty.submit()
        assert requests.get(job["output"][0], timeout=60).status_code == 200
        clock.now += 60
        assert requests.get(job["output"][0], timeout=60).status_code == 404
        assert faulty.caller.fetch(job["id"])["status"] == "success"


def test_a_job_that_never_ends_keeps_nobody_else_waiting(fault: Fault) -> None:
    with fault("never_ending", hold_s=0.1, allow_request_faults=True) as faulty:
        stuck = faulty.submit()
        assert stuck["status"] == "processing"
        following = faulty.submit(x_faults=[])
        assert faulty.caller.finished(following["id"])["status"] == "success"
        assert faulty.caller.fetch(stuck["id"])["status"] == "processing"
        assert requests.get(stuck["future_links"][0], timeout=60).status_code == 404
        assert [bill["status"] for bill in faulty.caller.bills()["jobs"]] == ["stuck", "success"]
        faulty.caller.post(f"{VIDEO}/clear_queue")
        assert faulty.caller.fetch(stuck["id"])["message"] == "Request not found"
        assert [bill["status"] for bill in faulty.caller.bills()["jobs"]] == ["gone", "success"]


def test_a_job_that_was_never_to_end_is_done_once_faults_are_off(fault: Fault, tmp_path: Path) -> None:
    with fault("never_ending") as faulty:
        stuck = faulty.submit(instant_response=True)
    with fault("late_links") as faulty:
        assert faulty.caller.fetch(stuck["id"])["status"] == "processing"
    with serving(Settings(state_dir=tmp_path / "state"), EchoEngine()) as caller:
        assert caller.finished(stuck["id"])["status"] == "success"


def test_a_failed_job(fault: Fault) -> None:
    with fault("job_failed", {"message": "out of paint"}) as faulty, inbox() as box:
        job = faulty.submit(webhook=box.url)
        assert (job["status"], job["message"]) == ("failed", "Failed, Try Again: out of paint")
        assert faulty.caller.fetch(job["id"])["status"] == "failed"
        assert box.next()["status"] == "failed"
        assert faulty.paid == 1


def test_an_id_that_is_lost_from_a_fetch_on(fault: Fault) -> None:
    with fault("lost_id", {"fetch": 2}) as faulty:
        job = faulty.submit()
        assert faulty.caller.fetch(job["id"])["status"] == "success"
        assert [faulty.caller.fetch(job["id"])["message"] for _ in range(3)] == ["Request not found"] * 3
    with fault("lost_id", {"fetch": 2}) as faulty:  # a restart does not find it again
        assert faulty.caller.fetch(job["id"])["message"] == "Request not found"
        assert faulty.paid == 1


def test_an_id_that_is_not_found_at_first(fault: Fault) -> None:
    with fault("not_found_at_first", {"fetches": 2}) as faulty:
        job = faulty.submit()
        statuses = [faulty.caller.fetch(job["id"])["status"] for _ in range(4)]
        assert statuses == ["failed", "failed", "success", "success"]
        assert faulty.acted == {"not_found_at_first": 2}


def test_a_webhook_called_twice(fault: Fault) -> None:
    with fault("duplicate_webhook") as faulty, inbox() as box:
        job = faulty.submit(webhook=box.url)
        assert [box.next()["id"] for _ in range(2)] == [job["id"]] * 2
        assert box.bodies.empty()
        assert faulty.paid == 1


@pytest.mark.parametrize("style", ["legacy", "documented"])
def test_a_rate_limit_for_the_first_submits(fault: Fault, style: str) -> None:
    with fault("rate_limit", {"submits": 2, "retry_after": 7}, answers=style) as faulty:
        for _ in range(2):
            answer = faulty.send(track_id="a")
            assert answer.json()["message"].startswith("Rate limit exceeded")
            if style == "legacy":
                assert (answer.status_code, "wait for 7 seconds" in answer.json()["tips"]) == (200, True)
            else:
                assert (answer.status_code, answer.json()["retry_after"]) == (429, 7)
        assert faulty.paid == 0
        assert faulty.submit(track_id="a")["status"] == "success"
        assert faulty.submit(track_id="b")["status"] == "error"
        assert faulty.paid == 1


def test_a_rate_limit_by_the_queues_depth(tmp_path: Path) -> None:
    gate = threading.Event()
    plan = FaultPlan(rates={"rate_limit": 1.0}, options={"rate_limit": {"queue": 1}})
    settings = Settings(state_dir=tmp_path, hold_s=120, admin=True, faults=plan)
    with serving(settings, ScriptedEngine(gate)) as caller:
        first = caller.submit(instant_response=True)
        assert caller.submit()["message"] == "Rate limit exceeded"
        assert Caller(caller.url, "another").submit(instant_response=True)["status"] == "processing"
        gate.set()
        caller.finished(first["id"])
        assert caller.submit()["status"] == "success"
        assert caller.bills()["accepted"] == 3


@pytest.mark.parametrize(("style", "status"), [("legacy", 200), ("documented", 429)])
def test_the_filter_of_identical_requests(fault: Fault, style: str, status: int) -> None:
    clock = Clock()
    with fault("same_request_filter", clock=clock, answers=style) as faulty:
        assert faulty.submit(track_id="a")["status"] == "success"
        clock.now += 29.9
        refused = faulty.send(track_id="b")
        assert (refused.status_code, refused.json()["message"]) == (status, "Rate limit exceeded")
        assert refused.json()["tips"] == (
            "you are sending same request multiple times, spam filter is enabled, "
            "please wait for 30 seconds and try again"
        )
        assert faulty.submit(prompt="another")["status"] == "success"
        assert Faulty(Caller(faulty.caller.url, "another key"), faulty.asked).submit()["status"] == "success"
        clock.now += 0.2
        assert faulty.submit(track_id="a")["status"] == "success"
        assert faulty.paid == 4


def test_flaky_fetches_are_the_same_in_each_run(tmp_path: Path) -> None:
    def run(state: str) -> list[str]:
        seen = []
        asked = {"flaky_fetch": {"probability": 0.5, "status": 502}}
        settings = Settings(state_dir=tmp_path / state, hold_s=120, allow_request_faults=True, admin=True)
        with serving(settings, EchoEngine()) as caller:
            caller.submit(**SMALL) if state == "two" else None  # other ids make no difference
            job = caller.submit(**SMALL, x_faults=asked, track_id="t")
            for _ in range(24):
                try:
                    seen.append(str(caller.post(f"{VIDEO}/fetch/{job['id']}").status_code))
                except requests.ConnectionError as error:
                    seen.append(errno.errorcode[errno_of(error) or 0])
            assert caller.bills()["faults"]["flaky_fetch"] == 24 - seen.count("200")
        return seen

    first = run("one")
    assert set(first) == {"200", "502", "ECONNRESET"}
    assert run("two") == first


@pytest.mark.parametrize("how", ["error", "reset"])
def test_fetches_that_fail_in_one_way(fault: Fault, how: str) -> None:
    with fault("flaky_fetch", {"probability": 1, "how": how, "status": 500}) as faulty:
        job = faulty.submit()
        if how == "error":
            assert faulty.caller.post(f"{VIDEO}/fetch/{job['id']}").status_code == 500
        else:
            with pytest.raises(requests.ConnectionError) as caught:
                faulty.caller.fetch(job["id"])
            assert errno_of(caught.value) == errno.ECONNRESET
        assert faulty.paid == 1


@pytest.mark.parametrize(("kind", "paid"), [("reset_before", 0), ("reset_after", 1), ("malformed", 1)])
def test_the_packages_client_does_not_pay_twice(tmp_path: Path, kind: str, paid: int) -> None:
    with serving(Settings(state_dir=tmp_path, allow_request_faults=True, admin=True), EchoEngine()) as caller:
        request = Video2VideoRequest(
            model_id="m",
            prompt="p",
            init_video="https://example.com/a.gif",
            extra_parameters={"x_faults": [kind]},
            width=32,
            height=32,
        )
        with (
            ModelsLabClient(KEY, base_url=f"{caller.url}/api/v1") as client,
            pytest.raises(SubmissionUnknownError),
        ):
            client.submit(request)
        bills = caller.bills()
        assert (bills["accepted"], bills["requests"]["video2video"]) == (paid, 1)


def test_a_plan_falls_alike_on_the_same_requests_in_any_order(tmp_path: Path) -> None:
    plan = FaultPlan(11, {"error_before": 0.3, "error_after": 0.3, "job_failed": 0.3})

    def run(state: str, tracks: list[str]) -> dict[str, Any]:
        with serving(Settings(state_dir=tmp_path / state, faults=plan, admin=True), EchoEngine()) as caller:
            answers = {
                track: caller.send(**SMALL, track_id=track, instant_response=True).status_code for track in tracks
            }
            bills = {bill["track_id"]: bill["faults"] for bill in caller.bills()["jobs"]}
        assert set(bills) <= set(answers)
        return {track: (answers[track], bills.get(track)) for track in sorted(tracks)}

    tracks = [f"clip {n}" for n in range(24)]
    first = run("one", tracks)
    assert run("two", tracks[::-1]) == first
    assert {status for status, _ in first.values()} == {200, 500}
    assert None in {None if faults is None else "" for _, faults in first.values()}


def test_a_new_attempt_is_a_new_draw(tmp_path: Path) -> None:
    plan = FaultPlan(1, {"error_before": 0.5})
    with serving(Settings(state_dir=tmp_path, faults=plan, admin=True), EchoEngine()) as caller:
        statuses = [caller.send(**SMALL, track_id="t", instant_response=True).status_code for _ in range(12)]
        assert set(statuses) == {200, 500}
        assert requests.post(f"{caller.url}/admin/reset", timeout=60).status_code == 200
        again = [caller.send(**SMALL, track_id="t", instant_response=True).status_code for _ in range(12)]
    assert again == statuses


def test_a_request_can_be_spared_from_the_plan(tmp_path: Path) -> None:
    plan = FaultPlan(1, {"error_before": 1.0})
    settings = Settings(state_dir=tmp_path, hold_s=120, faults=plan, allow_request_faults=True)
    with serving(settings, EchoEngine()) as caller:
        assert caller.send(**SMALL).status_code == 500
        assert caller.submit(**SMALL, x_faults=[])["status"] == "success"


def test_the_connection_can_be_dropped_only_by_this_packages_server(tmp_path: Path) -> None:
    app = create_app(Settings(state_dir=tmp_path, faults=FaultPlan(rates={"reset_before": 1.0})), EchoEngine())
    with TestClient(app, base_url="http://localhost") as client, pytest.raises(TypeError, match="EndpointServer"):
        client.post(
            f"{VIDEO}/video2video", json={"key": KEY, "model_id": "m", "prompt": "p", "init_video": "http://h/a"}
        )


def test_faults_that_cannot_be_are_refused_like_any_attribute(tmp_path: Path) -> None:
    with serving(Settings(state_dir=tmp_path, allow_request_faults=True, admin=True), EchoEngine()) as caller:
        answer = caller.submit(**SMALL, x_faults={"hang": {"second": 5}})
        assert answer["message"] == {
            "x_faults": ["The x_faults field hang has no option 'second'; allowed: when, seconds, fetches."]
        }
        assert caller.bills()["accepted"] == 0


def test_switched_off_it_is_just_an_unknown_attribute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "airflow_provider_modelslab")
    plan = FaultPlan(1, {"late_links": 1.0})
    for settings in (Settings(state_dir=tmp_path, hold_s=120), Settings(state_dir=tmp_path, hold_s=120, faults=plan)):
        caplog.clear()
        with serving(settings, EchoEngine()) as caller:
            assert caller.submit(**SMALL, x_faults=["reset_after"])["status"] == "success"
        assert "Unknown attributes are ignored: 'x_faults'" in caplog.text
