"""The HTTP side: routes, keys, content types. What calls do is in :mod:`.calls`, their answers in :mod:`.answers`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from airflow_provider_modelslab.endpoint import answers
from airflow_provider_modelslab.endpoint.answers import API_PREFIX, Reply
from airflow_provider_modelslab.endpoint.calls import Calls
from airflow_provider_modelslab.endpoint.engine import Engine
from airflow_provider_modelslab.endpoint.holds import Holds
from airflow_provider_modelslab.endpoint.publish import FOLDERS, MEDIA_TYPES, Publisher
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.endpoint.store import Store
from airflow_provider_modelslab.endpoint.worker import Worker

__all__ = ["create_app"]

log = logging.getLogger(__name__)

_MAX_BODY = 1 << 20
_STOP_S = 20.0

_Call = Callable[[Request, str, dict[str, Any]], Awaitable[Reply]]


class _Rooms:
    """What exists between the start and the stop of the app."""

    store: Store
    publisher: Publisher
    calls: Calls
    worker: Worker
    holds: Holds


def create_app(settings: Settings, engine: Engine, *, clock: Callable[[], float] = time.time) -> FastAPI:
    """The endpoint as an ASGI app. Starting it opens the queue and the worker, stopping it interrupts the running job.

    ``app.state.release_holds()`` ends all held submits; a server calls it when it is told to stop.

    :param clock: seconds since the epoch; for tests of what expires.
    """
    rooms = _Rooms()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        rooms.holds = Holds()
        rooms.store = await asyncio.to_thread(Store, settings.state_dir)
        rooms.publisher = Publisher(rooms.store, settings.state_dir)
        rooms.calls = Calls(settings, rooms.store, engine, rooms.publisher, clock=clock)
        rooms.worker = Worker(
            settings, rooms.store, engine, rooms.publisher, on_done=rooms.holds.job_ended, clock=clock
        )
        await asyncio.to_thread(rooms.worker.start)
        try:
            yield
        finally:
            if await asyncio.to_thread(rooms.worker.stop, _STOP_S):
                rooms.store.close()
            else:
                log.warning("The engine did not react within %s s; its job is taken up by the next start", _STOP_S)

    app = FastAPI(title="ModelsLab video-to-video endpoint", lifespan=lifespan, openapi_url=None)
    app.state.release_holds = lambda: rooms.holds.close()

    def base_url(request: Request) -> str:
        return (settings.public_url or str(request.base_url)).rstrip("/")

    def post(path: str, call: _Call) -> None:
        async def handle(request: Request) -> JSONResponse:
            body = await _json_object(request)
            if body is None:
                return _respond(answers.invalid_request(settings.answers))
            owner = await asyncio.to_thread(rooms.calls.owner, body)
            if owner is None:
                return _respond(answers.invalid_key(settings.answers))
            return _respond(await call(request, owner, body))

        app.add_api_route(f"{API_PREFIX}/{path}", handle, methods=["POST"], response_model=None)

    async def submit(request: Request, owner: str, body: dict[str, Any]) -> Reply:
        job = await asyncio.to_thread(rooms.calls.submit, owner, body, base_url(request))
        if isinstance(job, Reply):
            return job
        hold_s = 0.0 if job.body.get("instant_response") else settings.hold_s
        if hold_s > 0:
            rooms.holds.expect(job.id)
        rooms.worker.wake()
        if hold_s > 0:
            if await asyncio.to_thread(rooms.calls.ended, job):
                rooms.holds.forget(job.id)
            else:
                # The body has been read, so the next message of this connection is that the client is gone.
                await rooms.holds.wait(job.id, hold_s, request.receive())
        return await asyncio.to_thread(rooms.calls.submitted, job)

    async def fetch(request: Request, owner: str, body: dict[str, Any]) -> Reply:
        return await asyncio.to_thread(rooms.calls.fetch, owner, request.path_params["job_id"], base_url(request))

    async def system_details(request: Request, owner: str, body: dict[str, Any]) -> Reply:
        return await asyncio.to_thread(rooms.calls.system_details)

    async def restart_server(request: Request, owner: str, body: dict[str, Any]) -> Reply:
        rooms.worker.restart()
        return answers.ok("server restarting")

    async def update_server(request: Request, owner: str, body: dict[str, Any]) -> Reply:
        log.info("update_server: nothing is done; the endpoint is updated by installing a newer package")
        return answers.ok("server updating")

    async def clear_cache(request: Request, owner: str, body: dict[str, Any]) -> Reply:
        rooms.worker.clear_cache()
        return answers.ok("Cache cleared successfully")

    async def clear_queue(request: Request, owner: str, body: dict[str, Any]) -> Reply:
        reply = await asyncio.to_thread(rooms.calls.clear_queue)
        rooms.holds.release()
        rooms.worker.restart()
        return reply

    async def update_s3(request: Request, owner: str, body: dict[str, Any]) -> Reply:
        return await asyncio.to_thread(rooms.calls.update_s3, owner, body)

    async def reset_s3(request: Request, owner: str, body: dict[str, Any]) -> Reply:
        return await asyncio.to_thread(rooms.calls.reset_s3, owner, body)

    for name, call in {
        "video/video2video": submit,
        "video/fetch/{job_id}": fetch,
        "video/system_details": system_details,
        "video/restart_server": restart_server,
        "video/update_server": update_server,
        "video/clear_cache": clear_cache,
        "video/clear_queue": clear_queue,
        "update_s3": update_s3,
        "reset_s3": reset_s3,
    }.items():
        post(name, call)

    async def read_file(request: Request, name: str) -> Response:
        folder = request.url.path.split("/")[1]
        place = await asyncio.to_thread(rooms.calls.file, folder, name)
        if place is None:
            return JSONResponse({"detail": "Not found: not published yet, expired, or never made"}, 404)
        return FileResponse(rooms.publisher.path(place), media_type=MEDIA_TYPES[name.rpartition(".")[2]])

    for folder in FOLDERS:
        app.add_api_route(f"/{folder}/{{name}}", read_file, methods=["GET", "HEAD"], response_model=None)

    @app.get("/healthz", response_model=None)
    async def healthz() -> JSONResponse:
        alive = rooms.worker.alive
        return JSONResponse({"status": "ok" if alive else "the worker is dead"}, 200 if alive else 503)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{error.detail}: {request.method} {request.url.path} is no call of this endpoint"
        return JSONResponse({"status": "error", "message": message}, error.status_code)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return _respond(answers.server_error())

    return app


def _respond(reply: Reply) -> JSONResponse:
    return JSONResponse(reply.body, reply.status)


async def _json_object(request: Request) -> dict[str, Any] | None:
    """The body, or ``None`` when it is no JSON object of at most 1 MiB sent as ``application/json``.

    Insisting on the content type also keeps web pages of other sites from posting here through a browser.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return None
    text = bytearray()
    async for chunk in request.stream():
        text += chunk
        if len(text) > _MAX_BODY:
            return None
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
