"""For which connections calls are taken: those that ``[modelslab] webhook_conn_ids`` names and that have a token."""

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

_KEPT = 30.0
"""Seconds for which the tokens are kept: a flood of wrong ones does not reach the secrets backend."""

_TIMEOUTS = Timeouts(connect=5.0, read=15.0, total=20.0)
"""The vendor wants its call answered within 30 seconds."""


class WebhookTokens:
    """The tokens of each served connection, looked up again every 30 seconds, without blocking the event loop."""

    def __init__(self, conn_ids: Sequence[str]) -> None:
        self._conn_ids = tuple(conn_ids)
        self._lock = asyncio.Lock()
        self._tokens: dict[str, tuple[str, ...]] = {}
        self._good_until = 0.0
        self._told: dict[str, str] = {}

    async def tokens(self) -> dict[str, tuple[str, ...]]:
        """The tokens by connection; one that cannot be read has none, and the log says why, once."""
        async with self._lock:
            if time.monotonic() >= self._good_until:
                self._tokens = await asyncio.to_thread(self._look_up)
                self._good_until = time.monotonic() + _KEPT
            return self._tokens

    def _look_up(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for conn_id in self._conn_ids:
            tokens, problem = _tokens_of(conn_id)
            if taken := next((other for other, theirs in found.items() if set(theirs) & set(tokens)), None):
                tokens, problem = (), f"its webhook_token is that of {taken!r} too; give each connection its own"
            if problem and self._told.get(conn_id) != problem:
                log.warning("No webhook is taken for the connection %r: %s", conn_id, problem)
            self._told[conn_id] = problem
            if tokens:
                found[conn_id] = tokens
        return found


def fetch(conn_id: str, job_id: str) -> Answer:
    """Ask the endpoint about a job, with the connection's key. Blocks for 20 seconds at most.

    :raises ModelsLabError: when there is no answer.
    """
    hook = ModelsLabHook(conn_id, timeouts=_TIMEOUTS)
    hook.connection = read_connection(conn_id)  # not by the task's way: here Airflow's database is at hand
    return hook.fetch(job_id)


def _tokens_of(conn_id: str) -> tuple[tuple[str, ...], str]:
    """The tokens, and the problem where there are none."""
    try:
        tokens = WebhookSettings.from_extra(read_connection(conn_id).extra_dejson).tokens
    except InvalidRequestError as error:
        return (), error.message
    except Exception as error:  # noqa: BLE001 - whatever a secrets backend raises must not close the others
        return (), f"it could not be read ({type(error).__name__})"
    return tokens, "" if tokens else "its extra has no webhook_token"
