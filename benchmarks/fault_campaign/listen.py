"""Where the package is listened to: what is replaced, in one process, by a call that tells the probe and goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import requests
from botocore.client import BaseClient

from airflow_provider_modelslab.batch.results import checkpoint, tracker
from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient
from airflow_provider_modelslab.client.client import ModelsLabClient
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.jobs.batch_jobs import PolledJobs
from airflow_provider_modelslab.ledger.model import Entry, kind_of, number_of
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.operators.batch_arguments import BatchArguments
from airflow_provider_modelslab.storage import landing, sidecar
from airflow_provider_modelslab.storage.upload import ObjectUpload
from benchmarks.fault_campaign.orders import HEADER, TASK_HEADER
from benchmarks.fault_campaign.replace import replace

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.request import Video2VideoRequest

__all__ = ["Listener", "Listeners", "order_s3_requests"]

_PUTS = {Entry.CLAIM: "claim put", Entry.JOB: "job put", Entry.LANDED: "landed put"}
_WRITTEN = {Entry.CLAIM: "after claim", Entry.JOB: "job recorded", Entry.LANDED: "landing recorded"}


class Listener(Protocol):
    """What is told; see :class:`.probe.Probe`."""

    task: str

    def passed(self, phase: str, **more: Any) -> None:
        """A phase begins."""

    def recorded(self) -> None:
        """The ledger knows the job that is paid for."""

    def order(self, call: str) -> str | None:
        """What the server is to do with a request."""

    def faults(self, result: str, number: int) -> dict[str, Any] | None:
        """The faults to ask the endpoint for with a submit."""


_listener: Listener | None = None  # of this process


class Listeners:
    """Puts them in place, once in a process."""

    def __init__(self, probe: Listener) -> None:
        self._probe = probe

    def attach(self) -> None:
        """Listen to all that there is."""
        global _listener
        _listener = self._probe
        self._around_ledger()
        self._around_submit()
        self._around_calls()
        self._note(ModelsLabHook, "wait", "waiting")
        self._note(PolledJobs, "next", "waiting")
        self._note(ModelsLabClient, "fetch", after="poll answered")
        self._note_fetch()
        self._note(landing, "open_link", "download")
        self._note(ObjectUpload, "complete", "upload")
        self._note(sidecar, "write_sidecar", "sidecar")
        self._note(ModelsLabHook, "land", after="after landing")
        self._note(BatchArguments, "_plan", after="batch planned")
        self._note(checkpoint, "save_batch", after="batch saved")
        self._note(tracker, "write_results", "batch report")

    def _around_ledger(self) -> None:
        probe, create, put = self._probe, S3LedgerStore.create, S3LedgerStore._put

        def creating(store: S3LedgerStore, name: str, entry: Mapping[str, Any]) -> bool:
            kind = _kind(name)
            if kind is None:
                return create(store, name, entry)
            of = {"ledger": store._folder.key, "submission": number_of(name)}
            if kind is Entry.CLAIM:
                probe.passed("before claim", **of)
            created = create(store, name, entry)
            if created and kind in _WRITTEN:
                probe.passed(_WRITTEN[kind], **of)
            if kind is Entry.JOB:
                probe.recorded()
            return created

        def putting(store: S3LedgerStore, name: str, body: bytes) -> None:
            kind = _kind(name)
            if kind in _PUTS:
                probe.passed(_PUTS[kind], ledger=store._folder.key, submission=number_of(name))
            put(store, name, body)

        replace(S3LedgerStore, "create", creating)
        replace(S3LedgerStore, "_put", putting)

    def _around_submit(self) -> None:
        probe, submit = self._probe, ModelsLabHook.submit

        def submitting(hook: ModelsLabHook, request: Video2VideoRequest, **options: Any) -> Any:
            track, _, number = str(request.track_id).rpartition("/submission")
            faults = probe.faults(track, int(number))
            if faults is not None:
                extra = {**(request.extra_parameters or {}), "x_faults": faults}
                request = request.model_copy(update={"extra_parameters": extra})
            probe.passed("submit sent", track_id=request.track_id, asked=faults)
            answer = submit(hook, request, **options)
            probe.passed("submit answered", track_id=request.track_id)
            return answer

        replace(ModelsLabHook, "submit", submitting)

    def _around_calls(self) -> None:
        probe, send = self._probe, requests.Session.send
        ask: Callable[..., Any] = aiohttp.ClientSession._request

        @wraps(send)
        def sending(session: Any, request: requests.PreparedRequest, **options: Any) -> Any:
            request.headers.update(_headers(probe, _call_of(str(request.url))))
            return send(session, request, **options)

        @wraps(ask)
        async def asking(session: Any, method: str, url: Any, **options: Any) -> Any:
            headers = {**(options.pop("headers", None) or {}), **_headers(probe, _call_of(str(url)))}
            return await ask(session, method, url, headers=headers, **options)

        replace(requests.Session, "send", sending)
        replace(aiohttp.ClientSession, "_request", asking)

    def _note_fetch(self) -> None:
        fetch = AsyncModelsLabClient.fetch

        async def fetching(client: AsyncModelsLabClient, job_id: str) -> Any:
            answer = await fetch(client, job_id)
            self._probe.passed("poll answered")
            return answer

        replace(AsyncModelsLabClient, "fetch", fetching)

    def _note(self, place: object, name: str, before: str = "", *, after: str = "") -> None:
        call: Callable[..., Any] = getattr(place, name)

        @wraps(call)
        def watched(*args: Any, **kwargs: Any) -> Any:
            if before:
                self._probe.passed(before)
            result = call(*args, **kwargs)
            if after:
                self._probe.passed(after)
            return result

        replace(place, name, watched)


def order_s3_requests(client: BaseClient) -> None:
    """Have each request of an S3 client say whose it is, and what the server is to do with it."""

    def before_send(request: Any, **_: Any) -> None:
        if _listener is not None:
            for name, value in _headers(_listener, "s3").items():
                request.headers[name] = value

    client.meta.events.register("before-send.s3", before_send)


def _headers(probe: Listener, call: str) -> dict[str, str]:
    order = probe.order(call)
    return {TASK_HEADER: probe.task, **({HEADER: order} if order else {})}


def _call_of(url: str) -> str:
    if "/video/fetch/" in url:
        return "poll"
    return "submit" if url.endswith("/video2video") else "file"


def _kind(name: str) -> Entry | None:
    """The kind of an entry; ``None`` for what is found out about conditional puts."""
    return Entry(kind_of(name)) if name[:1].isdigit() else None
