"""The endpoint as an ASGI app: routers over :mod:`.service`, within :mod:`.hosts`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute

from airflow_provider_modelslab.endpoint.engine import Engine
from airflow_provider_modelslab.endpoint.http.answers import add_error_handlers
from airflow_provider_modelslab.endpoint.http.hosts import HostCheck, allowed_names
from airflow_provider_modelslab.endpoint.http.request_counts import RequestCounts
from airflow_provider_modelslab.endpoint.http.responses import API_PREFIX
from airflow_provider_modelslab.endpoint.http.routes import admin, files, storage, system, video
from airflow_provider_modelslab.endpoint.http.runtime import running
from airflow_provider_modelslab.endpoint.settings import Settings

__all__ = ["create_app"]

_DESCRIPTION = """ModelsLab's Enterprise video-to-video endpoint, served by airflow-provider-modelslab.

Every call below /api/v1/enterprise is a POST with a JSON object of at most 128 KiB, sent as application/json. The API
key is the attribute `key` of that object, as at the vendor; no header takes its place. Results are read without a key.
Only /admin, where it is switched on, takes a Bearer token: the admin key."""


def create_app(
    settings: Settings, engine: Engine | Sequence[Engine], *, clock: Callable[[], float] = time.time
) -> FastAPI:
    """The endpoint as an ASGI app. Starting it opens the queue and the worker, stopping it interrupts running jobs.

    ``app.state.release_holds()`` ends all held submits; a server calls it when it is told to stop.
    ``app.state.misbehaves`` says whether the server has to let the app at its connections, as
    :class:`~.faults.transport.FaultyProtocol` does.

    ``app.state.host`` is the address to listen on.

    :param engine: what makes the clips. Several engines, each on a device of its own, work on the one queue side by
        side.
    :param clock: seconds since the epoch; for tests of what expires.
    """
    engines = tuple(engine) if isinstance(engine, Sequence) else (engine,)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, engines, clock=clock) as app.state.runtime:
            yield

    # FastAPI's own /docs and /redoc load scripts from a CDN; `routes.system` has a /docs without any.
    app = FastAPI(
        title="ModelsLab video-to-video endpoint",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.release_holds = lambda: app.state.runtime.long_polls.close()
    app.state.misbehaves = settings.misbehaves
    app.state.host = settings.host

    calls = (video.router, storage.router)
    for router in (*calls, files.router, system.router):
        app.include_router(router)
    if settings.admin:
        paths = [route.path for router in calls for route in router.routes if isinstance(route, APIRoute)]
        app.state.request_counts = RequestCounts(path.removeprefix(f"{API_PREFIX}/") for path in paths)
        app.include_router(admin.router)
        app.add_middleware(app.state.request_counts.around)
    add_error_handlers(app, settings.answers)
    app.add_middleware(HostCheck, names=allowed_names(settings))
    return app
