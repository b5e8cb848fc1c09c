"""In a worker or a triggerer: the moments that a batch passes, and the one at which the process is killed.

The operator, the hook, the ledgers and S3 are the real ones; they are only listened to.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

from botocore.client import BaseClient

from airflow_provider_modelslab.batch import desk, saved
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.operators.batch_arguments import BatchArguments
from airflow_provider_modelslab.operators.batch_steps import WatchedJobs
from airflow_provider_modelslab.storage import purchase, sidecar
from airflow_provider_modelslab.storage.ledger import Entry
from airflow_provider_modelslab.storage.ledger_stores import S3LedgerStore

__all__ = ["Probe", "Strike"]

_BEFORE = {Entry.CLAIM: "claiming"}
_AFTER = {Entry.CLAIM: "claimed", Entry.JOB: "id written", Entry.LANDED: "in ledger"}


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

        It looks again at a claim without an outcome sooner than it would, only so that the test ends sooner.
        """
        _replace(purchase, "_LOOK_AGAIN", 0.5)
        self._note_around(BatchArguments, "_plan", "planning", "planned")
        self._note_around(ModelsLabHook, "submit", "submitting", "submitted")
        self._note_around(ModelsLabHook, "land", "landing", "landed")
        self._note_around(sidecar, "write_sidecar", "object written")
        self._note_around(WatchedJobs, "next", "waiting")
        self._note_around(saved, "save_batch", "saving", "saved")
        self._note_around(desk, "write_results", "finishing", "finished")
        self._listen_to_ledgers()
        self._count_s3_calls()

    def _listen_to_ledgers(self) -> None:
        create = S3LedgerStore.create

        def watched(store: S3LedgerStore, name: str, entry: Mapping[str, Any]) -> bool:
            text = name.partition("-")[2]
            kind = Entry(text) if text in set(Entry) else None
            if kind in _BEFORE:
                self.passed(_BEFORE[kind])
            created = create(store, name, entry)
            if kind in _AFTER and created:
                self.passed(_AFTER[kind])
            return created

        _replace(S3LedgerStore, "create", watched)

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
