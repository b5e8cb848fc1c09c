from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.results import webhooks as module
from airflow_provider_modelslab.endpoint.results.webhooks import Webhooks
from airflow_provider_modelslab.endpoint.settings import Settings
from tests.support.scripted_server import Answer, Drip, Hang, ScriptedServer, Step

DRIPS: dict[str, Step] = {
    "silence": Hang(),
    "headers": Drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "one header": Drip(b"HTTP/1.1 200 OK\r\nX-A: "),
    "interim answers": Drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}
Make = Callable[[float], Webhooks]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Webhooks with a time-out in seconds."""
    monkeypatch.setattr(module, "_CLOSE_S", 0.0)
    with ExitStack() as stack:

        def made(timeout_s: float) -> Webhooks:
            settings = Settings(state_dir=tmp_path, webhook_timeout_s=timeout_s, allow_private_addresses=True)
            webhooks = Webhooks(settings)
            stack.callback(webhooks.close)
            return webhooks

        yield made


def job(number: int, url: str, owner: str = "me") -> QueuedJob:
    body = {"webhook": f"{url}/hook?token=hidden"}
    return QueuedJob(number, owner, "success", body, "http://h", f"prefix-{number}", {"seed": 1})


def until(webhooks: Webhooks, **figures: int) -> None:
    """pytest's timeout is the limit."""
    while figures.items() - webhooks.figures().items():
        threading.Event().wait(0.01)


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_a_receiver_that_drips_is_left_at_the_deadline(make: Make, drip: Step) -> None:
    with ScriptedServer(drip) as server:
        webhooks = make(0.3)
        webhooks.send(job(1, server.url))
        until(webhooks, failed=1, running=0)
        assert server.posts == 1


def test_an_answer_counts_whatever_its_status(make: Make) -> None:
    with ScriptedServer(Answer(status=500), Drip(b"HTTP/1.1 200 OK\r\n\r\n")) as server:
        webhooks = make(60)
        for number in range(2):
            webhooks.send(job(number, server.url))
            until(webhooks, answered=number + 1, running=0)
        assert [request.json()["id"] for request in server.requests] == [0, 1]
        webhooks.reset()
        assert webhooks.figures() == {"running": 0, "waiting": 0, "answered": 0, "failed": 0, "dropped": 0}


def test_three_hundred_receivers_that_drip_leave_a_few_threads_and_others_are_called(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedServer(DRIPS["headers"]) as dripping, ScriptedServer(Answer()) as other:
        webhooks = make(60)
        before = threading.active_count()
        for number in range(300):
            webhooks.send(job(number, dripping.url, owner="dripping"))
        dripping.wait_for_requests(4)
        webhooks.send(job(300, other.url, owner="other"))
        until(webhooks, answered=1)
        assert webhooks.figures() == {"running": 4, "waiting": 100, "answered": 1, "failed": 0, "dropped": 196}
        names = [thread.name for thread in threading.enumerate()]
        assert sum(name.startswith("modelslab-webhook") for name in names) <= 8
        assert threading.active_count() <= before + 8 + 2 * 6  # those of the two servers of the test
        assert caplog.text.count("too many webhooks of this key are waiting") == 196
        assert "hidden" not in caplog.text
        webhooks.close()
        until(webhooks, running=0, waiting=0)
