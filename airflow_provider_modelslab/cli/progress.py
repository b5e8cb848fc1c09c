"""Waiting for a job before somebody's eyes: a progress bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from airflow_provider_modelslab.cli.common import echo_line
from airflow_provider_modelslab.jobs.timing import poll_policy

if TYPE_CHECKING:
    from rich.progress import Progress

    from airflow_provider_modelslab.api.polling import Wait
    from airflow_provider_modelslab.api.response import Finished, Processing
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.result_manifest import Job

__all__ = ["INTERVALS", "watch"]

INTERVALS = (1.0, 15.0)
"""Seconds of the shortest and the longest pause between two polls."""

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
    """Wait for a job and show how far it is.

    :param job: where it does not say when it was submitted, times are told from now on.
    :param deadline: when to give up, in seconds since the epoch.
    :param on_running: called with each answer that the job runs.
    :raises JobTimeoutError: at the deadline.
    :raises ModelsLabError: as soon as waiting on is of no use.
    """
    policy = poll_policy(*INTERVALS)
    since = "since the submission" if job.submitted_at is not None else "so far"
    submitted_at = job.submitted_at if job.submitted_at is not None else time.time()
    with _screen(f"Job {job.job_id}", since) as screen:
        progress = _Progress(screen, submitted_at, job.eta, on_running)
        return hook.wait(
            replace(job, submitted_at=submitted_at),
            deadline=deadline,
            policy=policy,
            # What an earlier process submitted may be done long since.
            poll_now=progress.elapsed() > policy.min_interval,
            sleep=progress.show,
            on_wait=progress.update,
        )


class _Progress:
    """What the last poll told of a job, kept on the screen during the pauses."""

    def __init__(
        self,
        screen: Screen,
        submitted_at: float,
        eta: float | None,
        on_running: Callable[[Processing], object] | None,
    ) -> None:
        self._screen = screen
        self._submitted_at = submitted_at
        self._expected = submitted_at + eta if eta else None
        self._on_running = on_running
        self._text = "submitted"

    def elapsed(self) -> float:
        """Seconds since the submission."""
        return time.time() - self._submitted_at

    def update(self, wait: Wait) -> None:
        """Take over what a poll told."""
        if wait.answer is None:
            self._text = wait.note or self._text
            return
        self._text = wait.answer.status
        if wait.answer.eta:
            self._expected = time.time() + wait.answer.eta
        if self._on_running is not None:
            self._on_running(wait.answer)

    def show(self, seconds: float) -> None:
        """Keep the screen up to date for so many seconds."""
        until = time.monotonic() + seconds
        while True:
            remaining = self._expected - time.time() if self._expected is not None else 0.0
            self._screen.update(self._text, self.elapsed(), remaining if remaining > 0 else None)
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
        echo_line(f"{self._title}: {text}, {_times(elapsed, left, self._since)}")


def _times(elapsed: float, left: float | None, since: str) -> str:
    gone = f"{_clock(elapsed)} {since}"
    return gone if left is None else f"{gone}, about {_clock(left)} to go"


def _clock(seconds: float) -> str:
    whole = round(max(seconds, 0))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
