"""The worker: one thread that takes the oldest job, runs the engine, publishes, marks the job and tells the webhook."""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests

from airflow_provider_modelslab.api.errors import JobFailedError, ModelsLabError, RequestValidationError
from airflow_provider_modelslab.api.redaction import redact, strip_query
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint import answers
from airflow_provider_modelslab.endpoint.engine import Engine
from airflow_provider_modelslab.endpoint.job import Job
from airflow_provider_modelslab.endpoint.misbehave import Misbehaviour
from airflow_provider_modelslab.endpoint.publish import Publisher
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.endpoint.store import Store

__all__ = ["Worker"]

log = logging.getLogger(__name__)

_SWEEP_S = 300.0
_AFTER_TROUBLE_S = 1.0
_URL = re.compile(r"https?://[^\s'\"<>]+")


class Worker:
    """Runs one engine, one job at a time, first in first out.

    :param on_done: called in the worker's thread with the id of each job that ended.
    :param clock: seconds since the epoch.
    :param misbehaviour: what is to go wrong, if anything.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        engine: Engine,
        publisher: Publisher,
        *,
        on_done: Callable[[int], None],
        clock: Callable[[], float] = time.time,
        misbehaviour: Misbehaviour | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._publisher = publisher
        self._on_done = on_done
        self._clock = clock
        self._misbehaviour = misbehaviour
        self._desk = settings.state_dir / "work"
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._clear_cache = threading.Event()
        self._lifecycle = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._relaunches: list[threading.Thread] = []

    @property
    def alive(self) -> bool:
        """Whether the thread is there to take jobs, or about to be after a restart."""
        return self._running() or any(thread.is_alive() for thread in self._relaunches)

    def start(self) -> None:
        """Start the thread. Jobs that an earlier process left running go back to the queue first."""
        with self._lifecycle:
            shutil.rmtree(self._desk, ignore_errors=True)
            self._desk.mkdir(parents=True)
            self._store.recover(self._clock(), keep_stuck=self._settings.misbehaves)
            self._launch()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Interrupt the job within one step, put it back in the queue and end the thread for good.

        :param timeout_s: how long to wait for the engine; a job that does not react is taken up by the next start.
        :returns: whether the thread ended.
        """
        self._closed = True
        self._interrupt()
        if not self._lifecycle.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return False  # a restart is waiting for an engine that does not react
        try:
            self._interrupt()  # the thread may be a new one, from a restart that was under way
            if self._thread is not None:
                self._thread.join(timeout_s)
            return not self._running()
        finally:
            self._lifecycle.release()

    def restart(self) -> None:
        """Interrupt the job within one step, end the thread and start a new one; queued jobs stay where they are.

        This does not wait for it: an engine that is loading a model reacts only when it is done. Call it from one
        thread only.
        """
        self._interrupt()
        relaunch = threading.Thread(target=self._relaunch, daemon=True)
        self._relaunches = [*(thread for thread in self._relaunches if thread.is_alive()), relaunch]
        relaunch.start()

    def wake(self) -> None:
        """Say that there is a job."""
        self._wake.set()

    def clear_cache(self) -> None:
        """Have the engine drop its caches before the next job, if it can."""
        self._clear_cache.set()
        self._wake.set()

    def _interrupt(self) -> None:
        self._stop.set()
        self._wake.set()

    def _running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _relaunch(self) -> None:
        with self._lifecycle:
            self._interrupt()  # the thread may be a new one, from a restart just before this one
            if self._thread is not None:
                self._thread.join()
            if not self._closed:
                self._launch()

    def _launch(self) -> None:
        self._stop = threading.Event()
        # A daemon: an engine that hangs in a driver cannot keep the process alive, and the queue survives that.
        self._thread = threading.Thread(target=self._loop, args=(self._stop,), name="modelslab-endpoint", daemon=True)
        self._thread.start()

    def _loop(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._wake.clear()  # before looking: whoever adds a job from here on wakes the wait below
            if stop.is_set():
                break
            try:
                self._sweep()
                self._drop_caches()
                job = self._store.claim(self._clock())
                if job is not None:
                    self._run(job, stop)
                    continue
            except Exception:  # a full disk must not end the thread and leave a queue that nobody works on
                log.exception("The worker met trouble outside a job; it goes on")
                stop.wait(_AFTER_TROUBLE_S)
                continue
            self._wake.wait(_SWEEP_S)

    def _run(self, job: Job, stop: threading.Event) -> None:
        log.info("Job %s starts (attempt %s)", job.id, job.attempts)
        desk = self._desk / str(job.id)
        desk.mkdir(exist_ok=True)
        try:
            ended = self._work(job, desk, stop)
        finally:
            shutil.rmtree(desk, ignore_errors=True)
        if ended is None:
            return
        self._on_done(job.id)
        log.info("Job %s: %s %s", job.id, ended.status, ended.message)
        if ended.body.get("webhook"):
            for _ in range(self._misbehaviour.webhook_calls(ended) if self._misbehaviour else 1):
                threading.Thread(target=self._call_webhook, args=(ended,), daemon=True).start()

    def _work(self, job: Job, desk: Path, stop: threading.Event) -> Job | None:
        """The job as it ended; ``None`` when it was interrupted, or cleared meanwhile."""
        try:
            if self._misbehaviour and (reason := self._misbehaviour.failure(job)) is not None:
                raise JobFailedError(reason)
            request = Video2VideoRequest.from_wire(job.body)
            made = self._engine.generate(request, desk / f"clip.{job.body['output_type']}", should_stop=stop.is_set)
            meta = answers.used_meta(job.meta, made.meta)
            published = self._publisher.publish(job, made.path)
        except Exception as error:  # noqa: BLE001  # whatever it was, it is this job's; the next one is to run
            if stop.is_set():
                log.info("Job %s was interrupted and goes back to the queue", job.id)
                self._store.requeue(job.id)
                return None
            if not isinstance(error, ModelsLabError):
                log.error("Job %s failed:\n%s", job.id, _safe(job, traceback.format_exc()))  # noqa: TRY400
            return self._store.fail(job.id, message=_reason(job, error), now=self._clock())
        ended = self._store.succeed(
            job.id,
            output=published.links,
            files=published.files,
            meta=meta,
            seconds=made.seconds,
            now=self._clock(),
        )
        if ended is None:
            log.info("Job %s was cleared while it ran; its result is dropped", job.id)
            self._publisher.remove(published.files)
        return ended

    def _sweep(self) -> None:
        for job in self._store.expire(self._clock() - self._settings.retention_s):
            self._publisher.remove(job.files)

    def _drop_caches(self) -> None:
        if not self._clear_cache.is_set():
            return
        self._clear_cache.clear()
        clear = getattr(self._engine, "clear_cache", None)
        if callable(clear):
            clear()
            log.info("The engine's caches are cleared")

    def _call_webhook(self, job: Job) -> None:
        url = str(job.body["webhook"])
        try:
            # The do-nothing auth keeps requests from sending what ~/.netrc has for that host. The body of the answer
            # is not read, so a receiver cannot hold the thread for longer than the timeout.
            with requests.post(
                url,
                json=answers.webhook_body(job),
                timeout=self._settings.webhook_timeout_s,
                allow_redirects=False,
                auth=lambda prepared: prepared,
                stream=True,
            ) as answer:
                log.info("Job %s: the webhook %s answered HTTP %s", job.id, strip_query(url), answer.status_code)
        except (requests.RequestException, ValueError) as error:
            kind = type(error).__name__
            log.warning("Job %s: the webhook %s failed (%s); it is not repeated", job.id, strip_query(url), kind)


def _reason(job: Job, error: Exception) -> str:
    """The failure in one line, as the job's owner gets to read it."""
    if isinstance(error, RequestValidationError) and error.fields:
        return _safe(job, "; ".join(f"{name} {text}" for name, texts in error.fields.items() for text in texts))
    if isinstance(error, ModelsLabError):
        return _safe(job, error.message)
    text = " ".join(str(error).split())[:300]
    return _safe(job, f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _safe(job: Job, text: str) -> str:
    """Text without the signatures of links: those of the request, and any other link's query."""
    links = (str(job.body.get(name) or "") for name in ("init_video", "webhook"))
    text = redact(text, (urlsplit(link).query for link in links))
    return _URL.sub(lambda found: strip_query(found.group()), text)
