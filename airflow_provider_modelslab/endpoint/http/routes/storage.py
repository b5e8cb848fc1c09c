"""``update_s3`` and ``reset_s3``: where a key's results go."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import APIRouter
from fastapi.responses import Response

from airflow_provider_modelslab.endpoint.http import responses
from airflow_provider_modelslab.endpoint.http.answers import ApiError, json_response
from airflow_provider_modelslab.endpoint.http.bodies import ResetS3Body, UpdateS3Body
from airflow_provider_modelslab.endpoint.http.dependencies import CallerOf, RuntimeOf
from airflow_provider_modelslab.endpoint.http.json_route import JsonRoute
from airflow_provider_modelslab.endpoint.http.responses import API_PREFIX, ERRORS
from airflow_provider_modelslab.endpoint.http.runtime import TooManyLookupsError

__all__ = ["router"]

router = APIRouter(prefix=API_PREFIX, route_class=JsonRoute, tags=["storage"], responses=ERRORS)


@router.post("/update_s3")
async def update_s3(body: UpdateS3Body, caller: CallerOf, runtime: RuntimeOf) -> Response:
    """Store the results of this key in a bucket of yours. `deploy_type` has to be `video` for that."""
    try:
        answer = await runtime.lookups.run(caller.owner, partial(runtime.service.update_s3, caller.owner, body))
    except TooManyLookupsError:
        raise ApiError(partial(responses.too_many, "Too many calls of update_s3 at a time")) from None
    return json_response(answer)


@router.post("/reset_s3")
async def reset_s3(body: ResetS3Body, caller: CallerOf, runtime: RuntimeOf) -> Response:
    """Forget the bucket. Later results stay on the endpoint's own storage."""
    return json_response(await asyncio.to_thread(runtime.service.reset_s3, caller.owner, body.deploy_type))
