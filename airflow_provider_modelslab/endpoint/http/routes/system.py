"""``/healthz`` and ``/docs``."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from airflow_provider_modelslab.endpoint.http.dependencies import RuntimeOf
from airflow_provider_modelslab.endpoint.http.docs_page import CONTENT_SECURITY_POLICY, docs_page

__all__ = ["router"]

router = APIRouter(tags=["system"])


@router.get("/healthz")
async def healthz(runtime: RuntimeOf) -> JSONResponse:
    """Whether the workers are alive: HTTP 200, or 503."""
    alive = runtime.workers.alive
    return JSONResponse({"status": "ok" if alive else "the worker is dead"}, 200 if alive else 503)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The calls, as ``/openapi.json`` has them."""
    page = docs_page(request.app.openapi())
    return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})
