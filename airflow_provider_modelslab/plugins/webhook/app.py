"""The webhook's HTTP application: one route, ``POST /<token>``. Error responses repeat nothing of the request.

The token is removed from the path first, so no access log, error page or trace shows it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.hooks.webhook import WEBHOOK_PATH
from airflow_provider_modelslab.plugins.webhook.payload import MAX_BODY_BYTES, BadClaimError, owner_of, read_claim
from airflow_provider_modelslab.plugins.webhook.rate_limit import TooManyClaimsError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from airflow_provider_modelslab.plugins.webhook.service import WebhookService
    from airflow_provider_modelslab.plugins.webhook.tokens import WebhookTokens

__all__ = ["Receiver"]

log = logging.getLogger(__name__)

_BODY_TIMEOUT_S = 20.0


class Receiver:
    """The application, to be mounted at :data:`WEBHOOK_PATH`.

    :param tokens: the accepted tokens.
    :param service: handles the claims.
    """

    def __init__(self, tokens: WebhookTokens, service: WebhookService) -> None:
        self._tokens = tokens
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. The token is removed from the path before anything else sees it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        if scope["type"] != "http":
            return
        before, mounted, token = scope["path"].partition(f"{WEBHOOK_PATH}/")
        # The server's own log reads these two when the answer begins, and Airflow's when it has ended.
        scope["path"] = f"{before}{mounted}***" if mounted else "/***"
        scope["raw_path"] = scope["path"].encode()
        if scope["method"] != "POST":
            answer = _answer(405, "Method Not Allowed")
        else:
            answer = await self._receive(token, Request(scope, receive))
        await answer(scope, receive, send)

    async def _receive(self, token: str, request: Request) -> JSONResponse:
        conn_id = owner_of(token, await self._tokens.tokens())
        if conn_id is None:
            return _answer(404, "Not Found")
        try:
            body = await asyncio.wait_for(_body(request), _BODY_TIMEOUT_S)
        except TimeoutError:
            return _answer(408, "Request Timeout")
        if body is None:
            return _answer(413, "Payload Too Large")
        try:
            claim = read_claim(body)
        except BadClaimError as error:
            log.info("A webhook of %s was refused: %s", conn_id, error)
            return _answer(400, "Bad Request")
        try:
            await self._service.handle(conn_id, claim)
        except TooManyClaimsError as error:
            return _answer(429, "Too Many Requests", retry_after=error.retry_after)
        except ModelsLabError:
            return _answer(503, "Service Unavailable", retry_after=30)
        # The same response whatever the outcome: a caller that has only the token learns nothing about the account's
        # jobs.
        return JSONResponse({"status": "received"})


async def _body(request: Request) -> bytes | None:
    """The body; ``None`` if it exceeds the size limit, whether its length was announced or not."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _answer(status: int, detail: str, *, retry_after: float | None = None) -> JSONResponse:
    # Without this, the unread rest of the body would have to be read before the connection's next request.
    headers = {"Connection": "close"}
    if status == 405:
        headers["Allow"] = "POST"
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    return JSONResponse({"detail": detail}, status, headers)
