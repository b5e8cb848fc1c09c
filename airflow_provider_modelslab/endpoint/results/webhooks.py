"""Calling the webhooks of ended jobs: best effort, in a few threads, each call within a time limit."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter

import requests

from airflow_provider_modelslab.api.redaction import strip_path
from airflow_provider_modelslab.endpoint.http import responses
from airflow_provider_modelslab.endpoint.outbound import problem_of
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.endpoint.workers.fair_pool import FairPool
from airflow_provider_modelslab.net.addresses import AddressError, checked_call
from airflow_provider_modelslab.net.call_limit import CallLimit

__all__ = ["Webhooks"]

log = logging.getLogger(__name__)

_THREADS = 8
_PER_OWNER = 4
_WAITING_PER_OWNER = 100
_WAITING = 1000
_CLOSE_S = 5.0


class Webhooks:
    """Calls webhooks, at most 8 at a time and 4 for one key.

    At most 100 calls of one key wait, and 1,000 in all. Further ones are dropped, which is logged and counted: the
    result can be fetched all the same.
    """

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.webhook_timeout_s
        self._allow_private = settings.allow_private_addresses
        self._pool = FairPool(
            "modelslab-webhook",
            threads=_THREADS,
            per_owner=_PER_OWNER,
            waiting_per_owner=_WAITING_PER_OWNER,
            waiting=_WAITING,
        )
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def send(self, job: QueuedJob) -> None:
        """Call the webhook of an ended job soon; does not wait for it."""
        if not self._pool.submit(job.owner, lambda: self._call(job)):
            self._count("dropped")
            url = strip_path(str(job.body["webhook"]))
            log.warning(
                "Job %s: the webhook %s is not called, because too many webhooks of this key are waiting", job.id, url
            )

    def figures(self) -> dict[str, int]:
        """How many calls are ``waiting`` and ``running`` now, and how many were ``answered``, ``failed``, ``dropped``.

        ``answered`` is any HTTP status; ``failed`` are calls without an answer, and those that were not made because
        the host may not be called.
        """
        with self._lock:
            counts = {name: self._counts[name] for name in ("answered", "failed", "dropped")}
        return {**self._pool.figures(), **counts}

    def reset(self) -> None:
        """Begin to count at zero."""
        with self._lock:
            self._counts.clear()

    def close(self) -> None:
        """Call what waits within 5 seconds, then give up."""
        self._pool.close(_CLOSE_S)

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _call(self, job: QueuedJob) -> None:
        url = str(job.body["webhook"])
        try:
            # The body of the answer is not read.
            with checked_call(
                "POST",
                url,
                allow_private=self._allow_private,
                limit=CallLimit(self._timeout_s, should_stop=lambda: self._pool.closed),
                timeout=(self._timeout_s, self._timeout_s),
                headers={"Content-Type": "application/json"},
                data=json.dumps(responses.webhook_body(job), allow_nan=False).encode(),
            ) as answer:
                status = answer.status_code
        except AddressError as error:
            self._count("failed")
            log.warning("Job %s: the webhook %s is not called: %s", job.id, strip_path(url), problem_of(error))
        except (requests.RequestException, ValueError) as error:
            self._count("failed")
            kind = type(error).__name__
            log.warning("Job %s: the webhook %s failed (%s); it is not called again", job.id, strip_path(url), kind)
        else:
            self._count("answered")
            log.info("Job %s: the webhook %s returned HTTP %s", job.id, strip_path(url), status)
