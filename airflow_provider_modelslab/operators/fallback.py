"""The places that a task falls back to: checked before anything is paid for, and the last one run on this worker."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_modelslab.api.endpoint_request import is_blank
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.jobs.targets import check_fallback, target_of

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.paid_job import PaidJob
    from airflow_provider_modelslab.jobs.targets import Target
    from airflow_provider_modelslab.ledger.chain import RunHere
    from airflow_provider_modelslab.local.engine import LocalEngine
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["Fallback"]

_DELIVERY = ("webhook", "temp", "base64")
"""Attributes that say how the endpoint hands over the result; here it lands in S3 as it is."""


@dataclass(frozen=True)
class Fallback:
    """The connections of a task's ``fallback``. Opened in the task's own thread, and then used by any.

    :param hooks: of the connections whose endpoint is a place, by connection.
    :param local: of the place on this worker, where there is one.
    """

    hooks: Mapping[str, ModelsLabHook] = field(default_factory=dict)
    local: ModelsLabHook | None = None

    @classmethod
    def open(cls, fallback: object, hook: ModelsLabHook) -> Self:
        """Read the connections.

        :param fallback: as the task has it; ``None`` leads nowhere.
        :param hook: of the first place.
        :raises InvalidRequestError: for what :func:`~..jobs.targets.check_fallback` refuses, for a connection that does
            not exist, and where this worker cannot run the place on it.
        :raises AuthenticationError: for a connection without a key.
        """
        known, hooks, local = {hook.modelslab_conn_id: hook}, {}, None
        for number, entry in enumerate(() if fallback is None else check_fallback(fallback)):
            where, given = f"fallback[{number}]", entry.get("modelslab_conn_id")
            conn_id = hook.modelslab_conn_id if is_blank(given) else str(given).strip()
            found = known.get(conn_id) or type(hook)(conn_id, timeouts=hook.timeouts, submit_policy=hook.submit_policy)
            try:
                _ = found.extra  # for other threads too
            except AirflowNotFoundException:
                problem = f"there is no connection {conn_id!r}"
                raise InvalidRequestError.of(f"{where}.modelslab_conn_id", problem) from None
            known[conn_id] = found
            if entry.get("run_on") == "local":
                local = found
                if missing := [name for name in ("torch", "diffusers", "av") if find_spec(name) is None]:
                    problem = f"local: {', '.join(missing)} is not installed on this worker; install the extra [local]"
                    raise InvalidRequestError.of(f"{where}.run_on", problem)
            else:
                found.get_conn()
                hooks[conn_id] = found
        return cls(hooks, local)

    def check(self, places: Sequence[Target], request: EndpointRequest, destination: S3Uri | None) -> None:
        """Check, as far as that costs nothing, that the place on this worker can make a request.

        :raises InvalidRequestError: when it cannot.
        """
        if self.local is None:
            return
        problem = None
        if not isinstance(request, Video2VideoRequest):
            problem = "local: only video-to-video jobs run on a worker"
        elif destination is None:
            problem = "local: needs a destination, because no endpoint keeps the result"
        if problem is not None:
            raise InvalidRequestError.of(f"fallback[{len(places) - 2}].run_on", problem)
        self._engine.check(_local_request(places[-1], request))

    @cached_property
    def _engine(self) -> LocalEngine:
        from airflow_provider_modelslab.local.engine import LocalEngine

        assert self.local is not None  # noqa: S101 - else nothing is run here
        return LocalEngine(catalog_file=self.local.extra.get("catalog"))

    def run_here(self, job: PaidJob, found: RunHere, should_stop: Callable[[], bool]) -> dict[str, Any]:
        """Make the clip on this worker, land it and record it; nothing is paid for.

        :param should_stop: asked after each denoising step.
        :return: the manifest.
        :raises JobTimeoutError: when it takes longer than the job may.
        """
        from airflow_provider_modelslab.jobs.budgets import prices_of
        from airflow_provider_modelslab.operators.local_clip import land_clip, make_clip

        hook, place, destination, started = job.hook, target_of(found), job.destination, time.time()
        assert place is not None  # noqa: S101 - its chain says where it is made
        assert destination is not None  # noqa: S101 - checked before
        assert self.local is not None  # noqa: S101 - it is the chain's place
        request = _local_request(place, job.request)
        with tempfile.TemporaryDirectory(prefix="modelslab-") as folder:
            made = make_clip(
                self._engine,
                request,
                hook.get_s3_client,
                Path(folder),
                started=started,
                timeout=job.timeout,
                is_killed=should_stop,
            )
            job.ledger.find_stored(job.fingerprint, job.policy, job.attempt)  # raises where a later try wants another
            manifest = land_clip(
                hook,
                request,
                made,
                destination,
                conn_id=place.conn_id,
                started=started,
                prices=prices_of(self.local),
                chain=found.chain,
            )
        job.ledger.record_stored(job.fingerprint, job.attempt, manifest, place=place.record())
        return manifest


def _local_request(place: Target, request: EndpointRequest) -> Video2VideoRequest:
    adapted = place.adapt(request)
    assert isinstance(adapted, Video2VideoRequest)  # noqa: S101 - checked before
    return adapted.model_copy(update=dict.fromkeys(_DELIVERY))
