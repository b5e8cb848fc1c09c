"""The places that a task falls back to: checked before anything is paid for, and the last one run on this worker."""

from __future__ import annotations

import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.paid_job import PaidJob
    from airflow_provider_modelslab.jobs.targets import RunHere, Target
    from airflow_provider_modelslab.local.engine import LocalEngine
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["hooks_of", "run_here"]

_DELIVERY = ("webhook", "temp", "base64")
"""Attributes that say how the endpoint hands over the result; here it lands in S3 as it is."""


def hooks_of(
    places: Sequence[Target], hook: ModelsLabHook, request: EndpointRequest, destination: S3Uri | None
) -> dict[str, ModelsLabHook]:
    """The hooks of the places after the first, by connection; each place is checked as far as that costs nothing.

    :param hook: of the first place.
    :raises InvalidRequestError: for a connection that does not exist, and for a place on this worker that cannot run.
    :raises AuthenticationError: for a connection without a key.
    """
    hooks = {}
    for number, place in enumerate(places[1:]):
        where = f"fallback[{number}]"
        found = hook if place.conn_id == hook.modelslab_conn_id else _hook(place.conn_id, hook)
        try:
            found.connection  # noqa: B018 - reads it
        except AirflowNotFoundException:
            problem = f"there is no connection {place.conn_id!r}"
            raise InvalidRequestError.of(f"{where}.modelslab_conn_id", problem) from None
        if place.run_on == "local":
            _check_local(place, where, found, request, destination)
        else:
            found.get_conn()
            hooks[place.conn_id] = found
    return hooks


def _hook(conn_id: str, first: ModelsLabHook) -> ModelsLabHook:
    return type(first)(conn_id, timeouts=first.timeouts, submit_policy=first.submit_policy)


def _check_local(
    place: Target, where: str, hook: ModelsLabHook, request: EndpointRequest, destination: S3Uri | None
) -> None:
    problem = None
    if not isinstance(request, Video2VideoRequest):
        problem = "local: only video-to-video jobs run on a worker"
    elif destination is None:
        problem = "local: needs a destination, because no endpoint keeps the result"
    elif missing := [name for name in ("torch", "diffusers", "av") if find_spec(name) is None]:
        problem = f"local: {', '.join(missing)} is not installed on this worker; install the extra [local]"
    if problem is not None:
        raise InvalidRequestError.of(f"{where}.run_on", problem)
    _engine(hook).check(_local_request(place, request))


def _engine(hook: ModelsLabHook) -> LocalEngine:
    from airflow_provider_modelslab.local.engine import LocalEngine

    return LocalEngine(catalog_file=hook.extra.get("catalog"))


def _local_request(place: Target, request: EndpointRequest) -> Video2VideoRequest:
    adapted = place.adapt(request)
    assert isinstance(adapted, Video2VideoRequest)  # noqa: S101 - checked before
    return adapted.model_copy(update=dict.fromkeys(_DELIVERY))


def run_here(job: PaidJob, found: RunHere, *, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Make the clip on this worker, land it and record it; nothing is paid for.

    :param should_stop: asked after each denoising step.
    :return: the manifest.
    :raises JobTimeoutError: when it takes longer than the job may.
    """
    from airflow_provider_modelslab.jobs.budgets import prices_of
    from airflow_provider_modelslab.operators.local_clip import land_clip, make_clip

    hook, destination, started = job.hook, job.destination, time.time()
    assert destination is not None  # noqa: S101 - checked before
    place_hook = hook if found.place.conn_id == hook.modelslab_conn_id else _hook(found.place.conn_id, hook)
    request = _local_request(found.place, job.request)
    with tempfile.TemporaryDirectory(prefix="modelslab-") as folder:
        made = make_clip(
            _engine(place_hook),
            request,
            hook.get_s3_client,
            Path(folder),
            started=started,
            timeout=job.timeout,
            is_killed=should_stop,
        )
        job.ledger.find_stored(job.fingerprint, job.policy, job.attempt)  # raises where a later try wants another one
        manifest = land_clip(
            hook,
            request,
            made,
            destination,
            conn_id=found.place.conn_id,
            started=started,
            prices=prices_of(place_hook),
            chain=found.chain,
        )
    job.ledger.record_stored(job.fingerprint, job.attempt, manifest, place=found.place.record())
    return manifest
