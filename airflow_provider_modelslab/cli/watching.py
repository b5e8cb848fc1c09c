"""Waiting for a job before somebody's eyes: a progress bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.api.polling import Done, GiveUp, JobPoller
from airflow_provider_modelslab.api.response import Finished, Processing
from airflow_provider_modelslab.cli.running import tell
from airflow_provider_modelslab.jobs.timing import poll_policy

if TYPE_CHECKING:
    from rich.progress import Progress

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.manifest import Job

__all__ = ["INTERVALS", "watch"]

INTERVALS = (1.0, 15.0)
"""Seconds of the shortest and the longest pause between two looks."""

_FRAME = 0.25  # seconds between two updates of the bar
_LINE = 60.0  # seconds between two lines where nothing changes


class Screen(Protocol):
    """Shows how far a job is."""

    def update(self, text: str, elapsed: float, left: float | None) -> None:
        """Say what the endpoint told.

        :param elapsed: seconds since the submission, or since it is watched.
        :param left: seconds until the endpoint expects to be done; ``None`` where it does not tell.
        """


def watch(
    hook: ModelsLabHook, job: Job, *, deadline: float, on_running: Callable[[Processing], object] | None = None
) -> Finished:
    """Look at a job until it is done.

    :param job: where it does not say when it was submitted, times are told from now on.
    :param deadline: when to give up, in seconds since the epoch.
    :param on_running: called with each answer that the job runs.
    :raises JobTimeoutError: at the deadline.
    :raises ModelsLabError: as soon as waiting on is of no use.
    """
    policy = poll_policy(*INTERVALS)
    submitted_at = job.submitted_at if job.submitted_at is not None else time.time()
    poller = JobPoller(job.job_id, submitted_at=submitted_at, deadline=deadline, eta=job.eta, policy=policy)
    expected = submitted_at + job.eta if job.eta else None
    text = "submitted"
    # What an earlier process submitted may be done long since, so it is looked at right away.
    pause = 0.0 if time.time() - submitted_at > policy.min_interval else poller.first_delay()
    since = "since the submission" if job.submitted_at is not None else "so far"
    with _screen(f"Job {job.job_id}", since) as screen:
        while True:
            _show(screen, text, submitted_at, expected, pause)
            try:
                answer = hook.fetch(job.job_id)
                decision = poller.on_answer(answer)
                if isinstance(answer, Processing):
                    if on_running is not None:
                        on_running(answer)
                    text = answer.status
                    expected = time.time() + answer.eta if answer.eta else expected
            except ModelsLabError as error:
                decision = poller.on_error(error)
            if isinstance(decision, Done):
                return decision.answer
            if isinstance(decision, GiveUp):
                raise decision.error
            if decision.warn or (decision.note and not decision.note.startswith("status")):
                text = decision.note
            pause = decision.seconds


def _show(screen: Screen, text: str, submitted_at: float, expected: float | None, pause: float) -> None:
    """Keep the screen up to date for ``pause`` seconds."""
    until = time.monotonic() + pause
    while True:
        now = time.time()
        screen.update(text, now - submitted_at, None if expected is None or expected <= now else expected - now)
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(_FRAME, left))


@contextmanager
def _screen(title: str, since: str) -> Iterator[Screen]:
    if not sys.stderr.isatty():
        yield _Lines(title, since)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[times]}", markup=False),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=False) as progress:
        yield _Bar(progress, title, since)


class _Bar:
    def __init__(self, progress: Progress, title: str, since: str) -> None:
        self._progress = progress
        self._title = title
        self._since = since
        self._task = progress.add_task(title, total=None, times="")

    def update(self, text: str, elapsed: float, left: float | None) -> None:
        self._progress.update(
            self._task,
            description=f"{self._title}: {text}",
            # Where the endpoint says nothing, or its estimate has passed, the bar only says that it goes on.
            total=None if left is None else elapsed + left,
            completed=elapsed,
            times=_times(elapsed, left, self._since),
        )


class _Lines:
    def __init__(self, title: str, since: str) -> None:
        self._title = title
        self._since = since
        self._said: str | None = None
        self._at = 0.0

    def update(self, text: str, elapsed: float, left: float | None) -> None:
        now = time.monotonic()
        if text == self._said and now - self._at < _LINE:
            return
        self._said, self._at = text, now
        tell(f"{self._title}: {text}, {_times(elapsed, left, self._since)}")


def _times(elapsed: float, left: float | None, since: str) -> str:
    gone = f"{_clock(elapsed)} {since}"
    return gone if left is None else f"{gone}, about {_clock(left)} to go"


def _clock(seconds: float) -> str:
    whole = round(max(seconds, 0))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
