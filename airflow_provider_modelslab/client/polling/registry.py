"""Registry of shared pollers: one per event loop and connection.

    async with shared_poller(client) as poller:
        finished = await poller.wait(job_id, submitted_at=..., deadline=...)

The first user creates it, the last one closes it. A connection is its base URL, key, TLS settings and time-outs; when
one of them has changed, later users get another poller.
"""

from __future__ import annotations

import asyncio
import contextvars
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_modelslab.client.polling.poller import SharedPoller

if TYPE_CHECKING:
    from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient, Connection

__all__ = ["of_this_loop", "shared_poller"]

K = TypeVar("K")
V = TypeVar("V")


class _Entry:
    """A poller and the number of its users."""

    __slots__ = ("poller", "users")

    def __init__(self, poller: SharedPoller) -> None:
        self.poller = poller
        self.users = 0


_entries: dict[asyncio.AbstractEventLoop, dict[Connection, _Entry]] = {}
_closing: set[asyncio.Task[None]] = set()


def of_this_loop(registry: dict[asyncio.AbstractEventLoop, dict[K, V]]) -> dict[K, V]:
    """The running loop's part of a registry; those of closed loops are removed."""
    for loop in list(registry):
        if loop.is_closed():
            registry.pop(loop, None)
    return registry.setdefault(asyncio.get_running_loop(), {})


def shared_poller(client: AsyncModelsLabClient) -> _Lease:
    """The poller shared by all clients with the same settings in this loop; an asynchronous context manager.

    :param client: provides the settings only; it need not be open.
    """
    return _Lease(client)


class _Lease:
    """One user's lease of a shared poller."""

    __slots__ = ("_client", "_entry")

    def __init__(self, client: AsyncModelsLabClient) -> None:
        self._client = client
        self._entry: _Entry | None = None

    async def __aenter__(self) -> SharedPoller:
        entries = of_this_loop(_entries)
        entry = entries.get(self._client.connection)
        if entry is None:
            entry = entries[self._client.connection] = _Entry(SharedPoller(self._client.clone()))
        entry.users += 1
        self._entry = entry
        return entry.poller

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        entry, self._entry = self._entry, None
        if entry is None:
            return
        entry.users -= 1
        if entry.users:
            return
        # Removed first: a user that comes while this poller closes gets a new one.
        entries = of_this_loop(_entries)
        del entries[self._client.connection]
        loop = asyncio.get_running_loop()
        if not entries:
            del _entries[loop]
        # A task of its own, since the last user may be cancelled once more while the poller closes.
        closing = loop.create_task(entry.poller.aclose(), context=contextvars.Context())
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)
        await asyncio.shield(closing)
