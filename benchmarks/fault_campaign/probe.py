"""In a process of one attempt: notes the boundaries it passes, asks for faults, and dies where the plan says.

The operator, the hook and the ledger are the real ones; they are only listened to.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.ledger.model import Entry, kind_of, number_of
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage import sidecar
from benchmarks.fault_campaign.journal import Journal, Who

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from benchmarks.fault_campaign.plan import Adversity

__all__ = ["Probe"]

_BEFORE = {Entry.CLAIM: "before claim"}
_AFTER = {Entry.CLAIM: "claimed", Entry.JOB: "id written", Entry.LANDED: "in ledger"}


class Probe:
    """One process's own.

    :param pipe: the runner's end reads what is told here.
    :param adversity: what happens to this process, if anything.
    """

    def __init__(self, journal: Journal, pipe: int, who: Who, adversity: Adversity | None) -> None:
        self.calls = 0
        self._journal = journal
        self._pipe = pipe
        self._who = who
        self._adversity = adversity

    def tell(self, **message: Any) -> None:
        """Tell the runner, one line of JSON."""
        left = json.dumps(message).encode() + b"\n"
        while left:
            left = left[os.write(self._pipe, left) :]

    def passed(self, boundary: str, **more: Any) -> None:
        """Note a boundary; what is planned for it happens here, or ``delay`` later by the runner's hand."""
        self._journal.note(boundary, self._who, pid=os.getpid(), **more)
        planned = self._adversity
        if planned is None or planned.at != boundary:
            return
        self._adversity = None
        if planned.kind in {"kill", "stop"} and planned.delay == 0:
            if planned.kind == "stop":
                self.tell(stopped=boundary)
            os.kill(os.getpid(), signal.SIGKILL if planned.kind == "kill" else signal.SIGSTOP)
        else:
            self.tell(arm=boundary)

    def attach(self, submit_faults: Sequence[Mapping[str, Any] | None]) -> None:
        """Listen to the package, in this process.

        :param submit_faults: the faults to ask the endpoint for, one for each submission.
        """
        self._around_ledger()
        self._around_hook(submit_faults)
        self._around_sidecar()
        send = requests.Session.send

        @wraps(send)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return send(*args, **kwargs)

        _replace(requests.Session, "send", counted)

    def _around_ledger(self) -> None:
        create = S3LedgerStore.create

        def watched(store: S3LedgerStore, name: str, entry: Mapping[str, Any]) -> bool:
            is_entry = name[:1].isdigit()  # else it is what is found out about conditional puts
            kind = Entry(kind_of(name)) if is_entry else None
            more = {"submission": number_of(name)} if is_entry else {}
            if kind in _BEFORE:
                self.passed(_BEFORE[kind], **more)
            created = create(store, name, entry)
            if kind in _AFTER and created:
                self.passed(_AFTER[kind], **more)
            return created

        _replace(S3LedgerStore, "create", watched)

    def _around_hook(self, submit_faults: Sequence[Mapping[str, Any] | None]) -> None:
        submit = ModelsLabHook.submit

        def submitting(hook: ModelsLabHook, request: Video2VideoRequest, **options: Any) -> Any:
            number = int(str(request.track_id).rpartition("submission")[2])
            faults = submit_faults[number - 1] if number <= len(submit_faults) else None
            if faults is not None:
                extra = {**(request.extra_parameters or {}), "x_faults": faults}
                request = request.model_copy(update={"extra_parameters": extra})
            self.tell(submitting=number)
            self.passed("submitting", submission=number, track_id=request.track_id, asked=faults)
            answer = submit(hook, request, **options)
            self.passed("submitted", submission=number)
            return answer

        _replace(ModelsLabHook, "submit", submitting)
        self._note_before(ModelsLabHook, "wait", "waiting")
        self._note_before(ModelsLabHook, "land", "landing", after="landed")

    def _around_sidecar(self) -> None:
        self._note_before(sidecar, "write_sidecar", "object written")

    def _note_before(self, place: object, name: str, boundary: str, *, after: str = "") -> None:
        call: Callable[..., Any] = getattr(place, name)

        @wraps(call)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.passed(boundary)
            result = call(*args, **kwargs)
            if after:
                self.passed(after)
            return result

        _replace(place, name, watched)


def _replace(place: object, name: str, call: Callable[..., Any]) -> None:
    setattr(place, name, call)
