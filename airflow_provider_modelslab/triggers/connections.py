"""Airflow connections for triggers: looked up without blocking the loop, and once for those that start together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_provider_modelslab.client.shared import of_this_loop
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

if TYPE_CHECKING:
    from airflow_provider_modelslab.client.aio import AsyncModelsLabClient

__all__ = ["client_of"]

_KEPT = 1.0
"""Seconds for which a looked-up connection is good: after a restart thousands of triggers ask for it at once."""


class _LookUp:
    """One connection, while it is looked up and for a moment after."""

    __slots__ = ("client", "lock")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.client: AsyncModelsLabClient | None = None


_look_ups: dict[asyncio.AbstractEventLoop, dict[str, _LookUp]] = {}


async def client_of(conn_id: str) -> AsyncModelsLabClient:
    """A client with the settings of an Airflow connection, not opened; who asks a second later sees its changes.

    :raises AuthenticationError: when the connection has no key.
    :raises RequestValidationError: when its base URL cannot work.
    """
    look_ups = of_this_loop(_look_ups)
    look_up = look_ups.setdefault(conn_id, _LookUp())
    async with look_up.lock:
        if look_up.client is None:
            look_up.client = await ModelsLabHook(conn_id).get_async_client()
            asyncio.get_running_loop().call_later(_KEPT, look_ups.pop, conn_id, None)
        return look_up.client
