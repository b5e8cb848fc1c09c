"""One job from its clip to its webhook: the engine's stages, publishing, marking it done or failed."""

from __future__ import annotations

import logging
import re
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError, ModelsLabError
from airflow_provider_modelslab.api.redaction import redact, strip_query
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.engine import Engine, EngineResult, StagedEngine, with_flags
from airflow_provider_modelslab.endpoint.faults.injector import FaultInjector
from airflow_provider_modelslab.endpoint.http import responses
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.queue.store import QueueStore
from airflow_provider_modelslab.endpoint.results.publish import Publisher
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.endpoint.workers.fair_pool import FairPool
from airflow_provider_modelslab.endpoint.workers.reading import Reading

__all__ = ["JobRunner"]

log = logging.getLogger(__name__)

_URL = re.compile(r"https?://[^\s'\"<>]+")

_Make = Callable[[], EngineResult]

Finish = Callable[[Callable[[], None]], None]
"""What is left to do of a job; it calls its argument when the job's folder is needed no more."""


class JobRunner:
    """What is done to each job, the same for all workers. Every method may be called from any thread.

    :param uploads: where results are stored that go to a caller's bucket.
    :param on_done: called with the id of each job that ended, in the thread in which it ended.
    :param call_webhook: called with each job that ended and has a webhook; must not wait for it.
    :param clock: seconds since the epoch.
    :param misbehaviour: what is to go wrong, if anything.
    """

    def __init__(
        self,
        settings: Settings,
        store: QueueStore,
        publisher: Publisher,
        *,
        uploads: FairPool,
        on_done: Callable[[int], None],
        call_webhook: Callable[[QueuedJob], None],
        clock: Callable[[], float],
        misbehaviour: FaultInjector | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._publisher = publisher
        self._uploads = uploads
        self._on_done = on_done
        self._call_webhook = call_webhook
        self._clock = clock
        self._misbehaviour = misbehaviour

    def begin(
        self,
        job: QueuedJob,
        engine: Engine,
        job_folder: Path,
        stop: threading.Event,
        *,
        reading: Reading | None = None,
        alone: bool = False,
    ) -> Finish | None:
        """Do what needs the engine's device; returns what is left to do, or ``None`` when the job is over.

        What is left (writing the clip, publishing it, marking the job) may be done in another thread.

        :param job_folder: the job's own folder.
        :param stop: set when the job is to be interrupted; it goes back to the queue then.
        :param reading: of the job's clip, begun; for an engine that has stages.
        :param alone: finish the job in the thread that does what is left, wherever its result goes.
        """
        log.info("Job %s starts (attempt %s)", job.id, job.attempts)
        try:
            if self._misbehaviour and (reason := self._misbehaviour.failure(job)) is not None:
                raise JobFailedError(reason)
            make = _device_work(job, engine, job_folder / f"clip.{job.body['output_type']}", stop, reading)
        except Exception as error:  # noqa: BLE001  # whatever it was, it is this job's; the next one is to run
            self._broken(job, error, stop)
            return None
        return lambda done: self._finish(job, make, stop, done, alone=alone)

    def sweep(self) -> None:
        """Remove the results whose time is over."""
        for job in self._store.expire(self._clock() - self._settings.retention_s):
            self._publisher.remove(job.files)

    def _finish(
        self, job: QueuedJob, make: _Make, stop: threading.Event, done: Callable[[], None], *, alone: bool
    ) -> None:
        is_left = True
        try:
            try:
                made = make()
                remote = self._publisher.is_remote(job)
            except Exception as error:  # noqa: BLE001  # as above
                self._broken(job, error, stop)
                return
            if not remote or alone:
                self._publish(job, made, stop)
            elif self._uploads.submit(job.owner, lambda: self._upload(job, made, stop, done)):
                is_left = False
            else:
                problem = JobFailedError("too many results of this key are waiting to be uploaded to its bucket")
                self._broken(job, problem, threading.Event())
        finally:
            if is_left:
                done()

    def _upload(self, job: QueuedJob, made: EngineResult, stop: threading.Event, done: Callable[[], None]) -> None:
        try:
            self._publish(job, made, stop)
        finally:
            done()

    def _publish(self, job: QueuedJob, made: EngineResult, stop: threading.Event) -> None:
        try:
            meta = responses.used_meta(job.meta, made.meta)
            published = self._publisher.publish(job, made.path)
        except Exception as error:  # noqa: BLE001  # as above
            self._broken(job, error, stop)
            return
        ended = self._store.succeed(
            job.id,
            output=published.links,
            files=published.files,
            meta=meta,
            seconds=made.seconds,
            now=self._clock(),
        )
        if ended is None:
            log.info("Job %s was cleared while it ran; its result is discarded", job.id)
            self._publisher.remove(published.files)
        self._tell(ended)

    def _broken(self, job: QueuedJob, error: Exception, stop: threading.Event) -> None:
        if stop.is_set():
            log.info("Job %s was interrupted and goes back to the queue", job.id)
            self._store.requeue(job.id)
            return
        if not isinstance(error, ModelsLabError):
            shown = "".join(traceback.format_exception(error))
            log.error("Job %s failed:\n%s", job.id, _safe(job, shown))
        self._tell(self._store.fail(job.id, message=_reason(job, error), now=self._clock()))

    def _tell(self, ended: QueuedJob | None) -> None:
        """Tell of a job's end; ``None`` is one that was cleared meanwhile."""
        if ended is None:
            return
        self._on_done(ended.id)
        log.info("Job %s: %s %s", ended.id, ended.status, ended.message)
        if ended.body.get("webhook"):
            for _ in range(self._misbehaviour.webhook_calls(ended) if self._misbehaviour else 1):
                self._call_webhook(ended)


def _device_work(job: QueuedJob, engine: Engine, clip: Path, stop: threading.Event, reading: Reading | None) -> _Make:
    """Everything up to the clip's pictures, where the engine has stages, else up to its file; and the rest to do."""
    if not isinstance(engine, StagedEngine) or reading is None:
        made = engine.generate(Video2VideoRequest.from_body(job.body), clip, should_stop=stop.is_set)
        return lambda: made
    reading.wait(stop.is_set)
    if stop.is_set():
        reading.stop()
        raise InterruptedError("stopped while the clip was being read")
    rendered = engine.render(reading.result(), should_stop=stop.is_set)
    return lambda: engine.encode(rendered, clip)


def _reason(job: QueuedJob, error: Exception) -> str:
    """The failure in one line, as the job's owner gets to read it."""
    if isinstance(error, InvalidRequestError) and error.fields:
        return _safe(job, "; ".join(f"{name} {text}" for name, texts in error.fields.items() for text in texts))
    if isinstance(error, ModelsLabError):
        return _safe(job, error.message)
    text = " ".join(str(error).split())[:300]
    return _safe(job, f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _safe(job: QueuedJob, text: str) -> str:
    """Text without the signatures of links: those of the request, and any other link's query."""
    links = (str(job.body.get(name) or "") for name in ("init_video", "webhook"))
    text = redact(with_flags(text), (urlsplit(link).query for link in links))
    text = redact(text, (urlsplit(str(job.body.get("webhook") or "")).path,))
    return _URL.sub(lambda found: strip_query(found.group()), text)
