"""uvicorn, with two manners added: it says where it listens, and when told to stop it lets held submits go at once."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from airflow_provider_modelslab.endpoint.wire import FaultyProtocol

__all__ = ["EndpointServer"]

_GRACEFUL_S = 10


class EndpointServer(uvicorn.Server):
    """Serves the endpoint's app.

    :param port: 0 lets the system choose one.
    :param on_ready: called with the address, such as ``http://127.0.0.1:8188``, when calls can be made.
    :param log_level: of uvicorn's own log.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        on_ready: Callable[[str], None] | None = None,
        log_level: str = "info",
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_level=log_level,
                log_config=None,
                http=FaultyProtocol if app.state.misbehaves else "auto",
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
