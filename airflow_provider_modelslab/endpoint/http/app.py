"""The HTTP side: routes, keys, content types. See also :mod:`.service` and :mod:`.responses`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from airflow_provider_modelslab.endpoint.engine import Engine
from airflow_provider_modelslab.endpoint.faults.injector import Broken, FaultInjector
from airflow_provider_modelslab.endpoint.faults.transport import Hang, Malformed, Reset, file_response
from airflow_provider_modelslab.endpoint.http import responses
from airflow_provider_modelslab.endpoint.http.admin import RequestCounts, add_admin
from airflow_provider_modelslab.endpoint.http.hosts import HostCheck, allowed_names
from airflow_provider_modelslab.endpoint.http.long_poll import LongPolls
from airflow_provider_modelslab.endpoint.http.responses import API_PREFIX, ApiResponse
from airflow_provider_modelslab.endpoint.queue.billing import Bills
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.queue.store import QueueStore
from airflow_provider_modelslab.endpoint.results.publish import FOLDERS, MEDIA_TYPES, Publisher
from airflow_provider_modelslab.endpoint.service import EndpointService
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.endpoint.workers.pool import WorkerPool

__all__ = ["create_app"]

log = logging.getLogger(__name__)

_MAX_BODY = 1 << 17
_STOP_S = 20.0
_LOOKUP_THREADS = 4
_MOST_LOOKUPS = 16

_Call = Callable[[Request, str, dict[str, Any]], Awaitable[ApiResponse | Broken | Response]]


class _Rooms:
    """What exists between the start and the stop of the app."""

    store: QueueStore
    bills: Bills
    misbehaviour: FaultInjector | None = None
    publisher: Publisher
    calls: EndpointService
    worker: WorkerPool
    holds: LongPolls
    lookups: ThreadPoolExecutor
    looking_up: set[str]


def create_app(
    settings: Settings, engine: Engine | Sequence[Engine], *, clock: Callable[[], float] = time.time
) -> FastAPI:
    """The endpoint as an ASGI app. Starting it opens the queue and the worker, stopping it interrupts running jobs.

    ``app.state.release_holds()`` ends all held submits; a server calls it when it is told to stop.
    ``app.state.misbehaves`` says whether the server has to let the app at its connections, as
    :class:`.transport.FaultyProtocol` does.

    ``app.state.host`` is the address to listen on.

    :param engine: what makes the clips. Several engines, each on a device of its own, work on the one queue side by
        side.
    :param clock: seconds since the epoch; for tests of what expires.
    """
    rooms = _Rooms()
    engines = tuple(engine) if isinstance(engine, Sequence) else (engine,)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        rooms.holds = LongPolls()
        # A resolver may take half a minute for a name. So many threads of their own, one for each key, wait for it.
        rooms.lookups, rooms.looking_up = ThreadPoolExecutor(_LOOKUP_THREADS, "modelslab-lookup"), set()
        rooms.store = await asyncio.to_thread(QueueStore, settings.state_dir)
        rooms.bills = Bills(rooms.store)
        if settings.misbehaves:
            rooms.misbehaviour = FaultInjector(settings, rooms.store, rooms.bills, clock=clock)
        rooms.publisher = Publisher(
            rooms.store, settings.state_dir, allow_private_addresses=settings.allow_private_addresses
        )
        rooms.calls = EndpointService(
            settings, rooms.store, engines, rooms.publisher, clock=clock, misbehaviour=rooms.misbehaviour
        )
        rooms.worker = WorkerPool(
            settings,
            rooms.store,
            engines,
            rooms.publisher,
            on_done=rooms.holds.job_ended,
            clock=clock,
            misbehaviour=rooms.misbehaviour,
        )
        await asyncio.to_thread(rooms.worker.start)
        try:
            yield
        finally:
            rooms.lookups.shutdown(wait=False, cancel_futures=True)
            if await asyncio.to_thread(rooms.worker.stop, _STOP_S):
                rooms.store.close()
            else:
                log.warning("The engine did not react within %s s; what it did is taken up by the next start", _STOP_S)

    app = FastAPI(title="ModelsLab video-to-video endpoint", lifespan=lifespan, openapi_url=None)
    app.state.release_holds = lambda: rooms.holds.close()
    app.state.misbehaves = settings.misbehaves
    app.state.host = settings.host

    def base_url(request: Request) -> str:
        return (settings.public_url or str(request.base_url)).rstrip("/")

    def respond(request: Request, reply: ApiResponse | Broken | Response) -> Response:
        if isinstance(reply, ApiResponse):
            return _respond(reply)
        if isinstance(reply, Broken):
            if reply.how == "reset":
                return Reset()
            # Under a number that is no job's: what ends a job does not end this.
            return Hang(lambda gone: rooms.holds.wait(-id(request), reply.seconds, gone))
        return reply

    def post(path: str, call: _Call) -> None:
        async def handle(request: Request) -> Response:
            body = await _json_object(request)
            if body is None:
                return _respond(responses.invalid_request(settings.answers))
            owner = rooms.calls.owner(body)
            if owner is None:
                return _respond(responses.invalid_key(settings.answers))
            return respond(request, await call(request, owner, body))

        app.add_api_route(f"{API_PREFIX}/{path}", handle, methods=["POST"], response_model=None)

    def accept(owner: str, body: dict[str, Any], base_url: str) -> QueuedJob | ApiResponse | Broken | Response:
        """Take a submit in. What there is to say at once is said from this thread: each change of threads costs."""
        job = rooms.calls.submit(owner, body, base_url)
        if not isinstance(job, QueuedJob):
            return job
        broken = rooms.misbehaviour.after(job) if job.faults and rooms.misbehaviour else None
        if broken is None and settings.hold_s > 0 and not job.body.get("instant_response"):
            return job
        rooms.worker.wake()
        return broken or answer(job, body)

    def answer(job: QueuedJob, body: dict[str, Any]) -> ApiResponse | Response:
        reply = rooms.calls.submitted(job)
        if ignored := rooms.calls.ignored(body):
            reply.body["ignored_attributes"] = ignored
        if job.faults and rooms.misbehaviour and rooms.misbehaviour.malformed(job):
            return Malformed(reply.body, reply.status)
        return reply

    async def submit(request: Request, owner: str, body: dict[str, Any]) -> ApiResponse | Broken | Response:
        job = await asyncio.to_thread(accept, owner, body, base_url(request))
        if not isinstance(job, QueuedJob):
            return job
        with rooms.holds.place(owner) as free:
            if free:
                rooms.holds.expect(job.id)
            rooms.worker.wake()
            if free and await asyncio.to_thread(rooms.calls.ended, job):
                rooms.holds.forget(job.id)
            elif free:
                # The body has been read, so the next message of this connection is that the client is gone.
                await rooms.holds.wait(job.id, settings.hold_s, request.receive())
        return await asyncio.to_thread(answer, job, body)

    async def fetch(request: Request, owner: str, body: dict[str, Any]) -> ApiResponse | Broken:
        return await asyncio.to_thread(rooms.calls.fetch, owner, request.path_params["job_id"], base_url(request))

    async def system_details(request: Request, owner: str, body: dict[str, Any]) -> ApiResponse:
        return await asyncio.to_thread(lambda: rooms.calls.system_details(rooms.worker.workers()))

    async def restart_server(request: Request, owner: str, body: dict[str, Any]) -> ApiResponse:
        rooms.worker.restart(None if rooms.calls.is_operator(body) else owner)
        return responses.ok("server restarting")

    async def update_server(request: Request, owner: str, body: dict[str, Any]) -> ApiResponse:
        log.info("update_server: nothing is done; the endpoint is updated by installing a newer package")
        return responses.ok("server updating")

    async def clear_cache(request: Request, owner: str, body: dict[str, Any]) -> ApiResponse:
        if not (rooms.calls.is_operator(body) or rooms.calls.is_anybodys):
            return responses.not_allowed(settings.answers)
        rooms.worker.clear_cache()
        return responses.ok("Cache cleared successfully")

    async def clear_queue(request: Request, owner: str, body: dict[str, Any]) -> ApiResponse:
        whose = None if rooms.calls.is_operator(body) else owner
        rooms.holds.release(await asyncio.to_thread(rooms.calls.clear_queue, whose))
        rooms.worker.restart(whose)
        return responses.ok("Queue cleared, server is restarting")

    async def update_s3(request: Request, owner: str, body: dict[str, Any]) -> ApiResponse:
        if owner in rooms.looking_up or len(rooms.looking_up) >= _MOST_LOOKUPS:
            return responses.too_many("Too many calls of update_s3 at a time", settings.answers)
        rooms.looking_up.add(owner)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(rooms.lookups, rooms.calls.update_s3, owner, body)
        finally:
            rooms.looking_up.discard(owner)

    async def reset_s3(request: Request, owner: str, body: dict[str, Any]) -> ApiResponse:
        return await asyncio.to_thread(rooms.calls.reset_s3, owner, body)

    routes: dict[str, _Call] = {
        "video/video2video": submit,
        "video/fetch/{job_id}": fetch,
        "video/system_details": system_details,
        "video/restart_server": restart_server,
        "video/update_server": update_server,
        "video/clear_cache": clear_cache,
        "video/clear_queue": clear_queue,
        "update_s3": update_s3,
        "reset_s3": reset_s3,
    }
    for name, call in routes.items():
        post(name, call)

    async def read_file(request: Request, name: str) -> Response:
        folder = request.url.path.split("/")[1]
        found = await asyncio.to_thread(rooms.calls.file, folder, name)
        if found is None:
            return JSONResponse({"detail": "Not found: not published yet, expired, or never made"}, 404)
        place, broken = found
        return file_response(rooms.publisher.path(place), MEDIA_TYPES[name.rpartition(".")[2]], broken)

    for folder in FOLDERS:
        app.add_api_route(f"/{folder}/{{name}}", read_file, methods=["GET", "HEAD"], response_model=None)

    if settings.admin:
        counts = RequestCounts(routes)

        def bills() -> dict[str, Any]:
            acted = rooms.misbehaviour.acted() if rooms.misbehaviour else {}
            return {"jobs": rooms.bills.jobs(), "faults": acted, "webhooks": rooms.worker.webhooks.figures()}

        def reset() -> None:
            (rooms.misbehaviour or rooms.bills).reset()
            rooms.worker.webhooks.reset()

        add_admin(app, counts, key=settings.admin_key, bills=bills, reset=reset)

    @app.get("/healthz", response_model=None)
    async def healthz() -> JSONResponse:
        alive = rooms.worker.alive
        return JSONResponse({"status": "ok" if alive else "the worker is dead"}, 200 if alive else 503)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code in {404, 405}:
            message = f"{message}: {request.method} {request.url.path} is no call of this endpoint"
        return JSONResponse({"status": "error", "message": message}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return _respond(responses.server_error())

    app.add_middleware(HostCheck, names=allowed_names(settings))
    return app


def _respond(reply: ApiResponse) -> JSONResponse:
    return JSONResponse(reply.body, reply.status)


async def _json_object(request: Request) -> dict[str, Any] | None:
    """The body, or ``None`` when it is no JSON object of at most 128 KiB sent as ``application/json``.

    Insisting on the content type also keeps web pages of other sites from posting here through a browser.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return None
    text = bytearray()
    try:
        async for chunk in request.stream():
            text += chunk
            if len(text) > _MAX_BODY:
                return None
    except ClientDisconnect:  # nobody gets the answer
        return None
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
