"""``/healthz``."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from airflow_provider_modelslab.endpoint.http.dependencies import RuntimeOf

__all__ = ["router"]

router = APIRouter(tags=["system"])


@router.get("/healthz")
async def healthz(runtime: RuntimeOf) -> JSONResponse:
    """Whether the workers are alive: HTTP 200, or 503."""
    alive = runtime.workers.alive
    return JSONResponse({"status": "ok" if alive else "the worker is dead"}, 200 if alive else 503)
