"""What each call of the API does, without HTTP: a checked JSON body in, a :class:`~.responses.ApiResponse` out.

These methods block for milliseconds (SQLite, files) and are called in threads.
"""

from __future__ import annotations

import difflib
import hmac
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError
from airflow_provider_modelslab.api.request import ATTRIBUTES, MAX_SEED, Video2VideoRequest
from airflow_provider_modelslab.endpoint.engine import Engine, with_flags
from airflow_provider_modelslab.endpoint.faults.injector import ATTRIBUTE, Broken, BrokenFile, FaultInjector
from airflow_provider_modelslab.endpoint.faults.plan import NO_FAULTS
from airflow_provider_modelslab.endpoint.http import responses
from airflow_provider_modelslab.endpoint.http.responses import ApiResponse
from airflow_provider_modelslab.endpoint.outbound import check_s3_host, check_webhook_host
from airflow_provider_modelslab.endpoint.queue.billing import fingerprint
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.queue.store import QueueFullError, QueueStore, TooManyDetailsError
from airflow_provider_modelslab.endpoint.results.publish import Publisher
from airflow_provider_modelslab.endpoint.results.s3_details import S3Attributes, S3Details
from airflow_provider_modelslab.endpoint.settings import Settings

__all__ = ["EndpointService"]

log = logging.getLogger(__name__)

_FIRST_GUESS_S = 5.0
_DEFAULT_OUTPUT_TYPE = "mp4"  # the vendor's default for text2video; its video2video page names none
_NO_ATTRIBUTES = frozenset({"key", "api_key"})
_LIKENESS = 0.8  # of a misspelt attribute and the one that was meant
_MOST_NAMED = 20
_LONGEST_NAME = 64
_MOST_DETAILS = 1000


class EndpointService:
    """The API over the queue and the engines.

    :param engines: at least one; all can do the same.
    :param clock: seconds since the epoch.
    :param misbehaviour: what is to go wrong, if anything.
    """

    def __init__(
        self,
        settings: Settings,
        store: QueueStore,
        engines: Sequence[Engine],
        publisher: Publisher,
        *,
        clock: Callable[[], float] = time.time,
        misbehaviour: FaultInjector | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._engines = engines
        self._publisher = publisher
        self._clock = clock
        self._misbehaviour = misbehaviour
        label = getattr(engines[0], "label", None)
        self._label = {"engine": str(label)} if label else {}

    def owner(self, key: str) -> str | None:
        """What stands for the key in the queue, or ``None`` when the key is not accepted."""
        if not key.strip() or not key.isascii():
            return None
        accepted = self._settings.api_keys
        if accepted and not self._is_admin(key) and not any(hmac.compare_digest(key, known) for known in accepted):
            return None
        return self._store.owner(key)

    def is_operator(self, key: str) -> bool:
        """Whether an accepted key is the operator's: the admin key, without one the only key that there is."""
        if self._settings.admin_key is not None:
            return self._is_admin(key)
        return len(self._settings.api_keys) == 1

    @property
    def is_anybodys(self) -> bool:
        """Whether any key is accepted and none is the operator's, as on a machine for development."""
        return not self._settings.api_keys and self._settings.admin_key is None

    def ignored(self, body: Mapping[str, Any]) -> list[str]:
        """The attributes of a submit that was accepted which the endpoint does not have, at most 20 of them."""
        return [name[:_LONGEST_NAME] for name in self._unknown(body)[:_MOST_NAMED]]

    def submit(self, owner: str, body: Mapping[str, Any], base_url: str) -> QueuedJob | ApiResponse | Broken:
        """Check a request and put it in the queue; what to answer where it was refused."""
        style, settings = self._settings.answers, self._settings
        faults, mark = NO_FAULTS, ""
        try:
            given = self._given(body)
            asked = self._with_model(_settled(given))
            request = Video2VideoRequest.from_body(asked)
            self._engines[0].check(request)
            if request.webhook and not settings.allow_private_addresses:
                check_webhook_host(request.webhook)
            if settings.admin or self._misbehaviour:
                mark = fingerprint(given)
            if self._misbehaviour:
                faults, refusal = self._misbehaviour.before(owner, body, given.track_id, mark)
                if refusal is not None:
                    return refusal
        except InvalidRequestError as error:
            problems = error.fields or {"request": [error.message]}
            fields = {name: [with_flags(text) for text in texts] for name, texts in problems.items()}
            return responses.invalid_fields(fields, style)
        except JobFailedError as error:  # the engine could not find out, so nothing is taken in
            return responses.too_many(error.message, style)
        file_prefix = str(uuid.uuid4())
        try:
            job = self._store.add(
                owner=owner,
                body=asked,
                base_url=base_url,
                file_prefix=file_prefix,
                meta={**responses.requested_meta(request, file_prefix), **self._label},
                future_links=self._publisher.future_links(owner, asked, file_prefix, base_url),
                now=self._clock(),
                max_queue=settings.max_queue,
                max_total_queue=settings.max_total_queue,
                faults=faults,
                bill=mark if settings.admin else None,
            )
        except QueueFullError as full:
            return responses.rate_limited(full.most, self._typical(), style)
        if request.model_id != given.model_id:
            log.info("Job %s: model_id %s is an alias; it is made by %s", job.id, given.model_id, request.model_id)
        if self._misbehaviour:
            self._misbehaviour.accepted(owner, mark, job)
        return job

    def submitted(self, job: QueuedJob) -> ApiResponse:
        """The answer to a submit as things stand now."""
        now = self._store.get(job.id)
        if now is None:
            return responses.not_found()  # the queue was cleared while the submit was held
        if now.status in {"success", "failed"}:
            return responses.done(now)
        eta = (self._store.ahead_of(job.id) // len(self._engines) + 1) * self._typical()
        return responses.processing(now, eta=eta, style=self._settings.answers)

    def ended(self, job: QueuedJob) -> bool:
        """Whether there is nothing to hold a submit for."""
        now = self._store.get(job.id)
        return now is None or now.status in {"success", "failed"}

    def fetch(self, owner: str, job_id: str, base_url: str) -> ApiResponse | Broken:
        """How a job is doing, for the key that submitted it."""
        known = job_id.isascii() and job_id.isdigit() and len(job_id) <= 18
        job = self._store.get(int(job_id)) if known else None
        if job is None or job.owner != owner or self._expired(job):
            return responses.not_found()
        if self._misbehaviour and (instead := self._misbehaviour.fetch(job)) is not None:
            return instead
        return responses.fetched(replace(job, base_url=base_url))

    def file(self, folder: str, name: str) -> tuple[str, BrokenFile | None] | None:
        """A published file that may be read now, relative to the state directory; and what is to be sent instead."""
        job = self._store.by_prefix(name.rpartition(".")[0])
        place = f"{folder}/{name}"
        if job is None or place not in job.files or job.finished_at is None or self._expired(job):
            return None
        if self._clock() < job.finished_at + self._settings.publish_delay_s:
            return None
        broken = self._misbehaviour.file(job) if self._misbehaviour else None
        return None if broken and broken.how == "missing" else (place, broken)

    def system_details(self, workers: Sequence[Mapping[str, Any]] = ()) -> ApiResponse:
        """How many models are loaded, and for how many seconds the queue is full.

        :param workers: what each worker is doing, which the vendor's answer does not have.
        """
        queue_time = round(self._store.ahead_of() * self._typical() / len(self._engines), 2)
        details = {
            "model_count": sum(int(getattr(engine, "model_count", 0)) for engine in self._engines),
            "queue_time": queue_time,
            "status": "ok",
            **self._label,
            "workers": [dict(worker) for worker in workers],
        }
        return ApiResponse(200, details)

    def clear_queue(self, owner: str | None) -> list[int]:
        """Forget the unfinished jobs of a key, or with ``None`` of all keys; returns their ids."""
        cleared = self._store.clear(owner)
        log.info("The queue %swas cleared: %s jobs were deleted", "of one key " if owner else "", len(cleared))
        return cleared

    def update_s3(self, owner: str, attributes: S3Attributes) -> ApiResponse:
        """Remember where this key's results go."""
        deploy_type = attributes.deploy_type
        try:
            details = S3Details.of(attributes)
            if not self._settings.allow_private_addresses:
                check_s3_host(details)
        except InvalidRequestError as error:
            return responses.invalid_fields(error.fields, self._settings.answers)
        try:
            self._store.set_s3(owner, deploy_type, details.to_store(), most=_MOST_DETAILS)
        except TooManyDetailsError:
            return responses.too_many(
                "Too many S3 details are stored here; remove some with reset_s3", self._settings.answers
            )
        log.info("S3 details for %s: bucket %s", deploy_type, details.bucket)
        return responses.ok(f"S3 details updated for {deploy_type}")

    def reset_s3(self, owner: str, deploy_type: str) -> ApiResponse:
        """Forget where this key's results go; later results stay on the endpoint's own storage."""
        self._store.reset_s3(owner, deploy_type)
        return responses.ok(f"S3 details reset for {deploy_type}")

    def _with_model(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The body with the model itself in place of an alias."""
        return {**asked, "model_id": self._settings.aliases.get(asked["model_id"], asked["model_id"])}

    def _given(self, body: Mapping[str, Any]) -> Video2VideoRequest:
        """The request in a body, known attributes alone.

        :raises InvalidRequestError: as :class:`Video2VideoRequest`, and for attributes that are refused.
        """
        unknown = self._unknown(body)
        refused = self._refused(unknown)
        if refused:
            raise InvalidRequestError.of_fields(refused)
        if unknown:
            log.info("Unknown attributes are ignored: %s", ", ".join(map(repr, unknown))[:200])
        return Video2VideoRequest.from_body({name: body[name] for name in ATTRIBUTES if name in body})

    def _unknown(self, body: Mapping[str, Any]) -> list[str]:
        known = {*ATTRIBUTES, *_NO_ATTRIBUTES, *([ATTRIBUTE] if self._settings.allow_request_faults else ())}
        return sorted(name for name in body if name not in known)

    def _refused(self, unknown: Sequence[str]) -> dict[str, list[str]]:
        if self._settings.unknown_attributes == "none":
            return {}
        refused = {}
        for name in unknown[:_MOST_NAMED]:
            shown = name[:_LONGEST_NAME]
            meant = difflib.get_close_matches(shown.lower(), ATTRIBUTES, n=1, cutoff=_LIKENESS)
            if meant:
                refused[shown] = [f"is unknown; did you mean {meant[0]}?"]
            elif self._settings.unknown_attributes == "all":
                refused[shown] = ["is unknown"]
        return refused

    def _is_admin(self, key: str) -> bool:
        admin = self._settings.admin_key
        return admin is not None and hmac.compare_digest(key.encode(), admin.encode())

    def _expired(self, job: QueuedJob) -> bool:
        return job.finished_at is not None and self._clock() >= job.finished_at + self._settings.retention_s

    def _typical(self) -> float:
        seconds = self._store.typical_seconds()
        return _FIRST_GUESS_S if seconds is None else seconds


def _settled(request: Video2VideoRequest) -> dict[str, Any]:
    """The body to keep: the file type settled and the seed drawn, so that a rerun is the same.

    :raises InvalidRequestError: for an ``init_video`` that is no link: with a path, the endpoint would read its own
        disk for whoever asks.
    """
    asked = request.wire()
    asked.setdefault("output_type", _DEFAULT_OUTPUT_TYPE)
    if asked["seed"] is None:
        asked["seed"] = random.randint(0, MAX_SEED)
    return asked
