"""What is shown while a job runs."""

from __future__ import annotations

import io
import itertools
import time
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import ErrorCode, JobFailedError, TransportError
from airflow_provider_modelslab.api.response import Answer, Failed, Finished, Processing
from airflow_provider_modelslab.cli import progress
from airflow_provider_modelslab.client.client import ModelsLabClient
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.storage.result_manifest import Job

DONE = Finished("7", ("https://example.com/7.mp4",))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVALS", (0.001, 0.002))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ScriptedClient(ModelsLabClient):
    def __init__(self, *answers: Answer | Exception) -> None:
        super().__init__("key")
        self._answers = iter(answers)

    def fetch(self, job_id: str) -> Answer:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def watch(*answers: Answer | Exception, submitted_at: float | None = None) -> Finished:
    hook = ModelsLabHook()
    hook._client = ScriptedClient(*answers)
    job = Job("7", "modelslab_default", submitted_at=submitted_at)
    return progress.watch(hook, job, deadline=float("inf"))


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    polls = [Processing("7", "queued", 600.0), Processing("7", "queued"), Processing("7", "processing", 60.0)]
    # The eta would be waited for; here it is only told, since the pauses have an upper bound of two milliseconds.
    assert watch(*polls, DONE) == DONE
    lines = capsys.readouterr().err.splitlines()
    assert "submission" not in "".join(lines)  # nobody said when that was
    assert [line.partition(",")[0] for line in lines] == ["Job 7: submitted", "Job 7: queued", "Job 7: processing"]
    assert lines[1].endswith("about 10:00 to go")
    assert lines[2].endswith("about 1:00 to go")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    watch(Processing("7", "processing", 30.0), *itertools.repeat(Processing("7"), 3), DONE, submitted_at=time.time())
    shown = terminal.getvalue()
    assert "Job 7: processing" in shown
    assert "since the submission" in shown


def test_a_failed_poll_is_shown_and_does_not_end_the_wait(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(TransportError("no route"), DONE) == DONE
    assert "(transport): no route" in capsys.readouterr().err


def test_a_failed_job_ends_it() -> None:
    with pytest.raises(JobFailedError, match="no such model"):
        watch(Failed(ErrorCode.JOB_FAILED, "no such model"))


def test_a_job_of_long_ago_is_polled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(progress._Progress, "show", lambda _, seconds: pauses.append(seconds))
    assert watch(DONE, submitted_at=0.0) == DONE
    assert pauses == [0.0]


def test_times_are_readable() -> None:
    show: Any = progress._clock
    assert [show(seconds) for seconds in (0, 9.4, 61, 3599.6, 7322)] == ["0:00", "0:09", "1:01", "1:00:00", "2:02:02"]
