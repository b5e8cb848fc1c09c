"""The finished files on the endpoint's own storage."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from airflow_provider_modelslab.endpoint.faults.transport import file_response
from airflow_provider_modelslab.endpoint.http.dependencies import RuntimeOf
from airflow_provider_modelslab.endpoint.results.publish import FOLDERS, MEDIA_TYPES

__all__ = ["router"]

router = APIRouter(tags=["files"])


async def read_file(name: str, request: Request, runtime: RuntimeOf) -> Response:
    """A result. No key is needed: the name cannot be guessed."""
    folder = request.url.path.split("/")[1]
    found = await asyncio.to_thread(runtime.service.file, folder, name)
    if found is None:
        return JSONResponse({"detail": "Not found: the file is not published yet, has expired, or never existed"}, 404)
    place, broken = found
    return file_response(runtime.publisher.path(place), MEDIA_TYPES[name.rpartition(".")[2]], broken)


_CONTENT = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in MEDIA_TYPES.values()}

for _folder in FOLDERS:
    router.get(f"/{_folder}/{{name}}", responses={200: {"content": _CONTENT}}, response_class=Response)(read_file)
    router.head(f"/{_folder}/{{name}}", include_in_schema=False)(read_file)
