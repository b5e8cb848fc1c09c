"""Webhook tokens of the connections that ``[modelslab] webhook_conn_ids`` names; one without a token is skipped."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.client.config import Timeouts
from airflow_provider_modelslab.compat import read_connection
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.hooks.webhook import WebhookSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_modelslab.api.response import Answer

__all__ = ["WebhookTokens", "fetch"]

log = logging.getLogger(__name__)

_CACHE_SECONDS = 30.0
"""Seconds for which the tokens are cached, so that a flood of wrong tokens does not reach the secrets backend."""

_TIMEOUTS = Timeouts(connect=5.0, read=15.0, total=20.0)
"""The vendor expects a response within 30 seconds."""


class WebhookTokens:
    """The tokens of each served connection, reloaded every 30 seconds, without blocking the event loop."""

    def __init__(self, conn_ids: Sequence[str]) -> None:
        self._conn_ids = tuple(conn_ids)
        self._lock = asyncio.Lock()
        self._tokens: dict[str, tuple[str, ...]] = {}
        self._good_until = 0.0
        self._logged: dict[str, str] = {}

    async def tokens(self) -> dict[str, tuple[str, ...]]:
        """The tokens by connection. A connection that cannot be read has none; the reason is logged once."""
        async with self._lock:
            if time.monotonic() >= self._good_until:
                self._tokens = await asyncio.to_thread(self._load)
                self._good_until = time.monotonic() + _CACHE_SECONDS
            return self._tokens

    def _load(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for conn_id in self._conn_ids:
            tokens, problem = _tokens_of(conn_id)
            if duplicate := next((other for other, used in found.items() if set(used) & set(tokens)), None):
                tokens, problem = (), f"{duplicate!r} has the same webhook_token; give each connection its own"
            if problem and self._logged.get(conn_id) != problem:
                log.warning("Webhooks of the connection %r are refused: %s", conn_id, problem)
            self._logged[conn_id] = problem
            if tokens:
                found[conn_id] = tokens
        return found


def fetch(conn_id: str, job_id: str) -> Answer:
    """Fetch a job's state with the connection's key. Blocks for 20 seconds at most.

    :raises ModelsLabError: when there is no answer.
    """
    hook = ModelsLabHook(conn_id, timeouts=_TIMEOUTS)
    hook.connection = read_connection(conn_id)  # not as in a task: the API server reads Airflow's database
    return hook.fetch(job_id)


def _tokens_of(conn_id: str) -> tuple[tuple[str, ...], str]:
    """The tokens, and the problem where there are none."""
    try:
        tokens = WebhookSettings.from_extra(read_connection(conn_id).extra_dejson).tokens
    except InvalidRequestError as error:
        return (), error.message
    except Exception as error:  # noqa: BLE001 - an error of a secrets backend must not affect other connections
        return (), f"it could not be read ({type(error).__name__})"
    return tokens, "" if tokens else "its extra has no webhook_token"
