"""In a worker, a triggerer or a command: the moments that it passes, and the one at which its process is killed.

The operators, the hook, the ledgers and S3 are the real ones; they are only listened to.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import requests
from botocore.client import BaseClient

from airflow_provider_modelslab.batch.results import checkpoint, tracker
from airflow_provider_modelslab.cli import progress
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.jobs.batch_jobs import PolledJobs
from airflow_provider_modelslab.ledger import service
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.operators.batch_arguments import BatchArguments
from airflow_provider_modelslab.storage import sidecar

__all__ = ["Probe", "Strike"]


class Strike(NamedTuple):
    """A kill.

    :param moment: at which.
    :param nth: the how-manieth passing of it, in that process.
    :param delay: seconds after it.
    """

    moment: str
    nth: int = 1
    delay: float = 0.0


class Probe:
    """One process's own.

    :param journal: a file that all processes append to.
    :param strike: the kill of this process, if any.
    :param surely: kill it at its end where the moment did not come before.
    """

    def __init__(self, journal: Path, name: str, strike: Strike | None, *, surely: bool) -> None:
        self.s3_calls: Counter[str] = Counter()
        self._journal = os.open(journal, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        self._name = name
        self._strike = strike
        self._surely = surely
        self._passed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def passed(self, moment: str) -> None:
        """Note a moment; the kill that is planned for it comes here, or its delay later."""
        with self._lock:
            self._passed[moment] += 1
            self._note(moment)
            planned = self._strike
            if planned is None or (moment, self._passed[moment]) != (planned.moment, planned.nth):
                return
            if planned.delay == 0:
                self._kill(moment)
            timer = threading.Timer(planned.delay, self._kill, (f"after {moment}",))
            timer.daemon = True
            timer.start()

    def ending(self) -> None:
        """The work is done, and Airflow has not heard of it."""
        if self._strike is not None and self._surely:
            self._kill("ending")

    def attach(self) -> None:
        """Listen to the package in this process.

        It reads a claim without an outcome again, and polls for the command line, sooner than it would: only so that
        the test ends sooner.
        """
        _replace(service, "_HOLD_POLL", 0.3)
        _replace(progress, "INTERVALS", (0.05, 0.2))
        self._note_around(BatchArguments, "_plan", "planning", "planned")
        self._note_around(Ledger, "claim", "claiming", "claimed")
        self._note_around(ModelsLabHook, "submit", "submitting", "submitted")
        self._note_answers()
        self._note_around(Ledger, "record", "recording", "recorded")
        self._note_around(Ledger, "failed", "recording a failure", "failure recorded")
        self._note_around(PolledJobs, "next", "waiting")
        self._note_around(ModelsLabHook, "land", "landing", "landed")
        self._note_around(sidecar, "write_sidecar", "object written")
        self._note_around(Ledger, "landed", "recording the landing", "landing recorded")
        self._note_around(checkpoint, "save_batch", "saving", "saved")
        self._note_around(tracker, "write_results", "finishing", "finished")
        self._count_s3_calls()

    def _note_answers(self) -> None:
        """The endpoint has taken a job, and its answer is on the way."""
        read: Callable[..., Any] = requests.Response.iter_content

        def watched(response: requests.Response, *args: Any, **kwargs: Any) -> Any:
            if response.url.endswith("/video2video"):
                self.passed("answered")
            return read(response, *args, **kwargs)

        _replace(requests.Response, "iter_content", watched)

    def _count_s3_calls(self) -> None:
        call: Callable[..., Any] = BaseClient._make_api_call  # type: ignore[attr-defined]  # not in the stubs

        def counted(client: Any, operation: str, arguments: Any) -> Any:
            with self._lock:
                self.s3_calls[operation] += 1
            return call(client, operation, arguments)

        _replace(BaseClient, "_make_api_call", counted)

    def _note_around(self, place: object, name: str, before: str, after: str = "") -> None:
        call: Callable[..., Any] = getattr(place, name)

        @wraps(call)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.passed(before)
            result = call(*args, **kwargs)
            if after:
                self.passed(after)
            return result

        _replace(place, name, watched)

    def _kill(self, moment: str) -> None:
        self._note("killed", at=moment)
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # the signal is on its way

    def _note(self, moment: str, **more: str) -> None:
        line = {"time": time.time(), "process": self._name, "moment": moment, **more}
        os.write(self._journal, json.dumps(line).encode() + b"\n")


def _replace(place: object, name: str, value: object) -> None:
    setattr(place, name, value)
