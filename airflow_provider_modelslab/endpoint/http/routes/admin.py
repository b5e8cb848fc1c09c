"""``/admin``: what would be billed, and how often each call was made. For tests and load runs."""

from __future__ import annotations

import asyncio
import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from airflow_provider_modelslab.endpoint.http.dependencies import RuntimeOf
from airflow_provider_modelslab.endpoint.http.request_counts import RequestCounts
from airflow_provider_modelslab.endpoint.http.runtime import Runtime

__all__ = ["router"]

_bearer = HTTPBearer(auto_error=False, description="The admin key, if the endpoint has one.")


async def _check_key(
    runtime: RuntimeOf, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    key = runtime.settings.admin_key
    token = given.credentials if given else ""
    if key is not None and not hmac.compare_digest(token.encode(), key.encode()):
        raise HTTPException(401, "The admin key is needed as a Bearer token", {"WWW-Authenticate": "Bearer"})


async def _counts(request: Request) -> RequestCounts:
    counts: RequestCounts = request.app.state.request_counts
    return counts


_Counts = Annotated[RequestCounts, Depends(_counts)]

router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(_check_key)])


@router.get("/bills")
async def bills(runtime: RuntimeOf, counts: _Counts) -> JSONResponse:
    """Each accepted job, how often each call was made and each fault acted, and the webhooks."""
    figures = await asyncio.to_thread(_figures, runtime)
    return JSONResponse({"accepted": len(figures["jobs"]), "requests": counts.figures(), **figures})


@router.post("/reset")
async def reset(runtime: RuntimeOf, counts: _Counts) -> JSONResponse:
    """Forget the bills and the counts, and no job."""
    await asyncio.to_thread((runtime.faults or runtime.bills).reset)
    runtime.workers.webhooks.reset()
    counts.reset()
    return JSONResponse({"message": "The bills and counts were reset", "status": "success"})


def _figures(runtime: Runtime) -> dict[str, Any]:
    acted = runtime.faults.acted() if runtime.faults else {}
    return {"jobs": runtime.bills.jobs(), "faults": acted, "webhooks": runtime.workers.webhooks.figures()}
