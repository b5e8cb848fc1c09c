"""Airflow connections for triggers: looked up without blocking the loop, and once for those that start together."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import ModelsLabError, TransportError
from airflow_provider_modelslab.client.polling.registry import of_this_loop
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

if TYPE_CHECKING:
    from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient

__all__ = ["client_of"]

log = logging.getLogger(__name__)

_KEPT = 1.0
"""Seconds for which a looked-up connection is good: after a restart thousands of triggers ask for it at once."""

_PATIENCE = 300.0
"""Seconds for which a look-up is repeated."""

_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds before it is repeated; each pause is twice the one before."""


class _LookUp:
    """One connection, while it is looked up and for a moment after."""

    __slots__ = ("found", "lock")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.found: AsyncModelsLabClient | ModelsLabError | None = None


_look_ups: dict[asyncio.AbstractEventLoop, dict[str, _LookUp]] = {}


async def client_of(conn_id: str) -> AsyncModelsLabClient:
    """A client with the settings of an Airflow connection, not opened; who asks a second later sees its changes.

    :raises AuthenticationError: when the connection has no key.
    :raises InvalidRequestError: when its base URL cannot work.
    :raises TransportError: when it could not be looked up for some minutes.
    """
    look_ups = of_this_loop(_look_ups)
    look_up = look_ups.setdefault(conn_id, _LookUp())
    async with look_up.lock:
        if look_up.found is None:
            try:
                look_up.found = await _look_up(conn_id)
            except ModelsLabError as error:
                look_up.found = error
            asyncio.get_running_loop().call_later(_KEPT, look_ups.pop, conn_id, None)
    if isinstance(look_up.found, ModelsLabError):
        raise look_up.found.with_traceback(None)  # raised for each who asked, it would grow with each
    return look_up.found


async def _look_up(conn_id: str) -> AsyncModelsLabClient:
    """Repeat what may pass: that Airflow's database, its API or a secrets backend does not answer.

    A connection that is not there is no exception to that. The jobs were submitted with it, so it was there, and since
    Airflow 3.2 "not found" is also what Airflow says when it could not ask.
    """
    loop = asyncio.get_running_loop()
    give_up, pause = loop.time() + _PATIENCE, _PAUSE
    while True:
        try:
            return await ModelsLabHook(conn_id).get_async_client()
        except ModelsLabError:
            raise
        except Exception as error:
            problem = f"The Airflow connection {conn_id!r} could not be looked up ({type(error).__name__}: {error})"
            if loop.time() + pause > give_up:
                raise TransportError(
                    f"{problem} for {_PATIENCE:.0f} s. See that it exists and that Airflow's API server, database and "
                    "secrets backend answer. What was submitted goes on; a retry, or a cleared task, picks it up"
                ) from error
            log.warning("%s; again in %.0f s", problem, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
