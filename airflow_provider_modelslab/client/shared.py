"""Who waits together: all that waits in one event loop at one connection shares one waiter.

    async with waiting(client) as waiter:
        finished = await waiter.wait(job_id, submitted_at=..., deadline=...)

The first one in makes it, the last one out closes it. A connection is its base URL, its key, its TLS settings and its
time-outs; when one of them was changed, those who come later form a group of their own.
"""

from __future__ import annotations

import asyncio
import contextvars
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_modelslab.client.waiter import SharedWaiter

if TYPE_CHECKING:
    from airflow_provider_modelslab.client.aio import AsyncModelsLabClient, Connection

__all__ = ["of_this_loop", "waiting"]

K = TypeVar("K")
V = TypeVar("V")


class _Group:
    """A waiter and how many use it."""

    __slots__ = ("users", "waiter")

    def __init__(self, waiter: SharedWaiter) -> None:
        self.waiter = waiter
        self.users = 0


_groups: dict[asyncio.AbstractEventLoop, dict[Connection, _Group]] = {}
_closing: set[asyncio.Task[None]] = set()


def of_this_loop(registry: dict[asyncio.AbstractEventLoop, dict[K, V]]) -> dict[K, V]:
    """The running loop's part of a registry; parts of loops that were closed without a goodbye are dropped."""
    for loop in list(registry):
        if loop.is_closed():
            registry.pop(loop, None)
    return registry.setdefault(asyncio.get_running_loop(), {})


def waiting(client: AsyncModelsLabClient) -> _Seat:
    """Wait together with everybody in this loop whose client has the same settings; an asynchronous context manager.

    :param client: names the settings. It is not used itself, so it need not be open, nor be closed.
    """
    return _Seat(client)


class _Seat:
    """One user of a group."""

    __slots__ = ("_client", "_group")

    def __init__(self, client: AsyncModelsLabClient) -> None:
        self._client = client
        self._group: _Group | None = None

    async def __aenter__(self) -> SharedWaiter:
        groups = of_this_loop(_groups)
        group = groups.get(self._client.connection)
        if group is None:
            group = groups[self._client.connection] = _Group(SharedWaiter(self._client.clone()))
        group.users += 1
        self._group = group
        return group.waiter

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        group, self._group = self._group, None
        if group is None:
            return
        group.users -= 1
        if group.users:
            return
        # Out of sight first: who comes while this one closes gets a new group.
        groups = of_this_loop(_groups)
        del groups[self._client.connection]
        loop = asyncio.get_running_loop()
        if not groups:
            del _groups[loop]
        # A task of its own, since whoever leaves may be cancelled once more while it closes.
        closing = loop.create_task(group.waiter.aclose(), context=contextvars.Context())
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)
        await asyncio.shield(closing)
