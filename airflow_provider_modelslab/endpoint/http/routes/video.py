"""``/api/v1/enterprise/video``: submit, fetch, and the administration of the queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import Response

from airflow_provider_modelslab.endpoint.faults.injector import Broken
from airflow_provider_modelslab.endpoint.faults.transport import Hang, Malformed, Reset
from airflow_provider_modelslab.endpoint.http import responses
from airflow_provider_modelslab.endpoint.http.answers import ApiError, json_response
from airflow_provider_modelslab.endpoint.http.bodies import SUBMIT_EXAMPLES, SubmitBody
from airflow_provider_modelslab.endpoint.http.dependencies import BaseUrl, CallerOf, RuntimeOf
from airflow_provider_modelslab.endpoint.http.json_route import JsonRoute
from airflow_provider_modelslab.endpoint.http.responses import API_PREFIX, ERRORS, ApiResponse
from airflow_provider_modelslab.endpoint.http.runtime import Runtime
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob

__all__ = ["router"]

log = logging.getLogger(__name__)

router = APIRouter(prefix=f"{API_PREFIX}/video", route_class=JsonRoute, tags=["video"], responses=ERRORS)

_Answer = ApiResponse | Broken | Response


@router.post("/video2video")
async def submit(
    body: Annotated[SubmitBody, Body(openapi_examples=SUBMIT_EXAMPLES)],
    caller: CallerOf,
    runtime: RuntimeOf,
    base_url: BaseUrl,
    request: Request,
) -> Response:
    """Submit a job. The answer has its result when the job ends while the call is held, else its id for `fetch`.

    `instant_response` answers without holding the call.
    """
    attributes = body.attributes
    job = await asyncio.to_thread(_accept, runtime, caller.owner, attributes, base_url)
    if not isinstance(job, QueuedJob):
        return _response(job, runtime)
    with runtime.long_polls.place(caller.owner) as free:
        if free:
            runtime.long_polls.expect(job.id)
        runtime.workers.wake()
        if free and await asyncio.to_thread(runtime.service.ended, job):
            runtime.long_polls.forget(job.id)
        elif free:
            # The body has been read, so the next message of this connection is that the client is gone.
            await runtime.long_polls.wait(job.id, runtime.settings.hold_s, request.receive())
    return _response(await asyncio.to_thread(_submitted, runtime, job, attributes), runtime)


@router.post("/fetch/{job_id}")
async def fetch(job_id: str, caller: CallerOf, runtime: RuntimeOf, base_url: BaseUrl) -> Response:
    """How a job is doing, for the key that submitted it: `processing`, `success` with links, or `failed`."""
    return _response(await asyncio.to_thread(runtime.service.fetch, caller.owner, job_id, base_url), runtime)


@router.post("/system_details")
async def system_details(caller: CallerOf, runtime: RuntimeOf) -> Response:
    """How many models are loaded, how many seconds of work are queued, and what each worker does."""
    return json_response(await asyncio.to_thread(_details, runtime))


@router.post("/restart_server")
async def restart_server(caller: CallerOf, runtime: RuntimeOf) -> Response:
    """Begin the running jobs of this key again; with the operator's key those of all keys."""
    runtime.workers.restart(caller.scope)
    return json_response(responses.ok("server restarting"))


@router.post("/update_server")
async def update_server(caller: CallerOf) -> Response:
    """Does nothing here: the endpoint is updated by installing a newer package."""
    log.info("update_server does nothing here; to update the endpoint, install a newer package")
    return json_response(responses.ok("server updating"))


@router.post("/clear_cache")
async def clear_cache(caller: CallerOf, runtime: RuntimeOf) -> Response:
    """Unload the models; needs the operator's key."""
    if not (caller.is_operator or runtime.service.is_anybodys):
        raise ApiError(responses.not_allowed)
    runtime.workers.clear_cache()
    return json_response(responses.ok("Cache cleared successfully"))


@router.post("/clear_queue")
async def clear_queue(caller: CallerOf, runtime: RuntimeOf) -> Response:
    """Forget the unfinished jobs of this key; with the operator's key those of all keys."""
    runtime.long_polls.release(await asyncio.to_thread(runtime.service.clear_queue, caller.scope))
    runtime.workers.restart(caller.scope)
    return json_response(responses.ok("Queue cleared, server is restarting"))


def _accept(
    runtime: Runtime, owner: str, attributes: Mapping[str, Any], base_url: str
) -> QueuedJob | ApiResponse | Broken | Response:
    """The job to hold the call for, or the answer: each change of threads costs, so it is made in this one."""
    job = runtime.service.submit(owner, attributes, base_url)
    if not isinstance(job, QueuedJob):
        return job
    broken = runtime.faults.after(job) if job.faults and runtime.faults else None
    if broken is None and runtime.settings.hold_s > 0 and not job.body.get("instant_response"):
        return job
    runtime.workers.wake()
    return broken or _submitted(runtime, job, attributes)


def _submitted(runtime: Runtime, job: QueuedJob, attributes: Mapping[str, Any]) -> ApiResponse | Response:
    answer = runtime.service.submitted(job)
    if ignored := runtime.service.ignored(attributes):
        answer.body["ignored_attributes"] = ignored
    if job.faults and runtime.faults and runtime.faults.malformed(job):
        return Malformed(answer.body, answer.status)
    return answer


def _details(runtime: Runtime) -> ApiResponse:
    return runtime.service.system_details(runtime.workers.workers())


def _response(answer: _Answer, runtime: Runtime) -> Response:
    if isinstance(answer, ApiResponse):
        return json_response(answer)
    if isinstance(answer, Broken):
        if answer.how == "reset":
            return Reset()
        # Under a number that is no job's: what ends a job does not end this.
        return Hang(lambda gone: runtime.long_polls.wait(-id(answer), answer.seconds, gone))
    return answer
