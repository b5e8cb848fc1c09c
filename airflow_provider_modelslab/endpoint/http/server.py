"""uvicorn, which says where it listens, bounds its connections, and releases held submits when it is asked to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from airflow_provider_modelslab.endpoint.faults.transport import FaultyProtocol
from airflow_provider_modelslab.endpoint.http.connections import (
    ConnectionLimits,
    Connections,
    guarded,
    raise_file_limit,
)

__all__ = ["EndpointServer"]

_GRACEFUL_S = 10


class EndpointServer(uvicorn.Server):
    """Serves the endpoint's app on the address of its settings.

    :param port: 0 lets the system choose one.
    :param on_ready: called with the address, such as ``http://127.0.0.1:8188``, when calls can be made.
    :param log_level: of uvicorn's own log.
    :param limits: of connections; by default those of :class:`~.connections.ConnectionLimits`, fewer connections where
        the system allows the process few open files.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        port: int = 0,
        on_ready: Callable[[str], None] | None = None,
        log_level: str = "info",
        limits: ConnectionLimits | None = None,
    ) -> None:
        connections = Connections(limits or ConnectionLimits(most=raise_file_limit()))
        super().__init__(
            uvicorn.Config(
                app,
                host=app.state.host,
                port=port,
                log_level=log_level,
                log_config=None,
                http=guarded(FaultyProtocol if app.state.misbehaves else AutoHTTPProtocol, connections),
                ws="none",
                timeout_graceful_shutdown=_GRACEFUL_S,
            )
        )
        self._app = app
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say where."""
        await super().startup(sockets=sockets)
        if self.started and self._on_ready is not None:
            listening = sockets or [sock for server in self.servers for sock in server.sockets]
            host, port = listening[0].getsockname()[:2]
            self._on_ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the held submits ("processing": their jobs stay in the queue), then stop."""
        self._app.state.release_holds()
        await super().shutdown(sockets=sockets)
