"""Routes whose body is a JSON object of bounded size. FastAPI alone would read a body of any size into memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from airflow_provider_modelslab.endpoint.http import responses
from airflow_provider_modelslab.endpoint.http.answers import ApiError

__all__ = ["JsonRoute"]

_MAX_BODY_BYTES = 1 << 17


class _JsonRequest(Request):
    """Raises :class:`ApiError` unless the body is JSON of at most 128 KiB, sent as ``application/json``.

    Insisting on the content type also keeps web pages of other sites from posting here through a browser.
    """

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            self._body = await self._read()
        return self._body

    async def json(self) -> Any:
        try:
            return json.loads(await self.body())
        except (ValueError, RecursionError):
            raise ApiError(responses.invalid_request) from None

    async def _read(self) -> bytes:
        if self.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(responses.invalid_request)
        text = bytearray()
        try:
            async for chunk in self.stream():
                text += chunk
                if len(text) > _MAX_BODY_BYTES:
                    raise ApiError(responses.invalid_request)
        except ClientDisconnect:  # nobody gets the answer
            raise ApiError(responses.invalid_request) from None
        return bytes(text)


class JsonRoute(APIRoute):
    """A route that reads its body within the limits of :class:`_JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given the bounded request."""
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return bounded
