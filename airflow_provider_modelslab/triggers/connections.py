"""Airflow connections for triggers: read without blocking the loop, and once for triggers that start together."""

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

_CACHE_SECONDS = 1.0
"""Seconds for which a connection is cached: after a restart thousands of triggers read it at once."""

_READ_TIMEOUT = 300.0
"""Seconds for which a failed read is repeated."""

_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds before it is repeated; each pause is twice the one before."""


class _CachedClient:
    """The client of one connection, while it is read and for a moment after."""

    __slots__ = ("found", "lock")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.found: AsyncModelsLabClient | ModelsLabError | None = None


_caches: dict[asyncio.AbstractEventLoop, dict[str, _CachedClient]] = {}


async def client_of(conn_id: str) -> AsyncModelsLabClient:
    """A client with the settings of an Airflow connection, not opened. Changes take effect after a second.

    :raises AuthenticationError: when the connection has no key.
    :raises InvalidRequestError: when its base URL cannot work.
    :raises TransportError: when it could not be read for some minutes.
    """
    cache = of_this_loop(_caches)
    cached = cache.setdefault(conn_id, _CachedClient())
    async with cached.lock:
        if cached.found is None:
            try:
                cached.found = await _read(conn_id)
            except ModelsLabError as error:
                cached.found = error
            asyncio.get_running_loop().call_later(_CACHE_SECONDS, cache.pop, conn_id, None)
    if isinstance(cached.found, ModelsLabError):
        raise cached.found.with_traceback(None)  # its traceback would grow with each caller
    return cached.found


async def _read(conn_id: str) -> AsyncModelsLabClient:
    """Read the connection, and repeat while Airflow's database, its API or a secrets backend does not answer.

    "Not found" is repeated, too. The jobs were submitted with the connection, so it existed, and since version 3.2
    Airflow reports "not found" also if it could not read.
    """
    loop = asyncio.get_running_loop()
    give_up, pause = loop.time() + _READ_TIMEOUT, _PAUSE
    while True:
        try:
            return await ModelsLabHook(conn_id).get_async_client()
        except ModelsLabError:
            raise
        except Exception as error:
            problem = f"The Airflow connection {conn_id!r} could not be read ({type(error).__name__}: {error})"
            if loop.time() + pause > give_up:
                raise TransportError(
                    f"{problem} for {_READ_TIMEOUT:.0f} s. Check that it exists, and that Airflow's API server, "
                    "database and secrets backend work. Submitted jobs keep running; a retry or a clear continues with "
                    "them"
                ) from error
            log.warning("%s; again in %.0f s", problem, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
