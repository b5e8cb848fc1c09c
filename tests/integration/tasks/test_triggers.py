"""Many triggers in one event loop, as in Airflow's triggerer."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger
from tests.support.connections import set_modelslab
from tests.support.scripted_server import Hang, ScriptedServer
from tests.support.tasks import aevent_of

MANY = 12


@contextmanager
def endpoint_that_answers_all_at_once(count: int) -> Iterator[str]:
    """No look at a job is answered before ``count`` of them wait: one that blocked the others would wait for ever."""
    together = threading.Barrier(count)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status = 200
            try:
                together.wait(60)
            except threading.BrokenBarrierError:
                status = 503
            job_id = self.path.rpartition("/")[2]
            body = json.dumps({"status": "success", "id": job_id, "output": [f"https://example.com/{job_id}.mp4"]})
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()


def triggers(count: int) -> list[ModelsLabVideo2VideoTrigger]:
    now = time.time()
    policy = {"min_interval": 0.01, "max_interval": 0.02}
    return [
        ModelsLabVideo2VideoTrigger(str(number), submitted_at=now, deadline=now + 600, poll_policy=policy)
        for number in range(count)
    ]


async def what_is_left(problems: list[dict[str, Any]]) -> list[Any]:
    """Tasks that still run, and what the loop complained of, such as a session that nobody closed."""
    await asyncio.sleep(0)
    gc.collect()
    return [*(asyncio.all_tasks() - {asyncio.current_task()}), *problems]


def test_they_wait_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait_for_all() -> list[dict[str, Any]]:
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        events = await asyncio.gather(*(aevent_of(trigger) for trigger in triggers(MANY)))
        assert await what_is_left(problems) == []
        return events

    with endpoint_that_answers_all_at_once(MANY) as url:
        set_modelslab(monkeypatch, url)
        events = asyncio.run(wait_for_all(), debug=True)
    assert [(event["status"], event["job_id"]) for event in events] == [("success", str(n)) for n in range(MANY)]
    assert [event["links"] for event in events] == [[f"https://example.com/{n}.mp4"] for n in range(MANY)]


def test_they_leave_nothing_when_they_are_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start_and_cancel(server: ScriptedServer) -> None:
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        started = triggers(MANY)
        running = [asyncio.create_task(aevent_of(trigger)) for trigger in started]
        await asyncio.to_thread(server.wait_for_requests, MANY)  # each is in the middle of a look
        for task in running:
            task.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        for trigger in started:
            await trigger.cleanup()
        assert await what_is_left(problems) == []

    with ScriptedServer(Hang()) as server:
        set_modelslab(monkeypatch, server.url)
        asyncio.run(start_and_cancel(server), debug=True)
