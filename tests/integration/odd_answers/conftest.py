"""A server that gives odd answers, and the outcomes that the documentation promises."""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from airflow_provider_modelslab.api.errors import ModelsLabError, error_from_event
from airflow_provider_modelslab.api.polling import Decision, JobPoller
from airflow_provider_modelslab.api.response import Processing
from airflow_provider_modelslab.client.polling import poller, rate_limiter
from airflow_provider_modelslab.client.polling.poller import SharedPoller
from airflow_provider_modelslab.client.polling.rate_limiter import RateLimiter
from airflow_provider_modelslab.client.polling.registry import shared_poller
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from tests.support.connections import set_modelslab
from tests.support.odd_answers import DONE, OddAnswer, is_written_well
from tests.support.odd_server import OddServer
from tests.support.odd_values import KEY

T = TypeVar("T")

EXAMPLES = int(os.environ.get("MODELSLAB_ODD_EXAMPLES", "200"))


def examples(count: int) -> settings:
    """Settings for so many examples."""
    odd = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count, deadline=None, suppress_health_check=odd)


many = examples(EXAMPLES)


def outcomes(after: str) -> frozenset[str]:
    """What docs/reference/errors.md lists.

    :param after: ``"submit"`` or ``"poll"``.
    """
    page = Path(__file__).parents[3].joinpath("docs", "reference", "errors.md").read_text()
    _, _, text = page.partition("## Outcomes of a response")
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|", text, re.MULTILINE)
    assert len(rows) > 5
    column = {"submit": 1, "poll": 2}[after]
    return frozenset(row[0] for row in rows if row[column].strip() not in {"", "-"})


def checked(error: ModelsLabError) -> str:
    """The code of an error, which can be logged, stored, and rebuilt elsewhere."""
    event = error.to_event()
    assert is_written_well(event)
    assert is_written_well([str(error), repr(error)])
    assert repr(error_from_event(event)) == repr(error)
    return error.code.value


class Scripted:
    """Answers in turn, and then :data:`DONE`; each example sets its own."""

    def __init__(self) -> None:
        self.answers: deque[OddAnswer] = deque()
        self.server = OddServer(lambda path, body: (self.answers.popleft() if self.answers else DONE).raw())

    def play(self, *answers: OddAnswer) -> None:
        self.answers = deque(answers)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """The server, and ``modelslab_default``, which leads to it."""
    script = Scripted()
    with script.server as server:
        set_modelslab(monkeypatch, server.url, key=KEY)
        yield script


class Triggerer:
    """One event loop for all examples, and one session, as in the triggerer."""

    def __init__(self, runner: asyncio.Runner, poller: SharedPoller) -> None:
        self.poller = poller
        self._runner = runner

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end, without what the limiter learned from another example."""
        self.poller._limiter = RateLimiter(clock=self.poller.loop.time)
        return self._runner.run(work)


@pytest.fixture
def triggerer(scripted: Scripted) -> Iterator[Triggerer]:
    async def take() -> tuple[Any, SharedPoller]:
        lease = shared_poller(await ModelsLabHook().get_async_client())
        return lease, await lease.__aenter__()

    with asyncio.Runner() as runner:
        lease, shared = runner.run(take())
        yield Triggerer(runner, shared)
        runner.run(lease.__aexit__(None, None, None))


class _QuickPoller(JobPoller):
    """Waits as long as the real one decides, divided by very much."""

    def _wait(self, pause: float, note: str, *, warn: bool = False, answer: Processing | None = None) -> Decision:
        return super()._wait(min(pause, 0.0005), note, warn=warn, answer=answer)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls follow one another at once, also after a rate limit."""
    monkeypatch.setattr(poller, "JobPoller", _QuickPoller)
    monkeypatch.setattr(poller, "_TICK", 0.0)
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_LONGEST_RETRY_AFTER"):
        monkeypatch.setattr(rate_limiter, name, 0.0)
    monkeypatch.setattr(rate_limiter, "_SLOWEST", 1e6)
