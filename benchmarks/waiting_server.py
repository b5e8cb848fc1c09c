"""The endpoint of the waiting benchmark: every job is processing for ever, and every answer takes its time.

It notes when each job was asked for, on the clock that all processes of a machine share, so that all contenders are
judged by what arrived. HTTP is parsed by hand, to leave the processor to those who are measured.

    python -m benchmarks.waiting_server      # prints its port
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from typing import ClassVar

LATENCY = 0.2
"""Seconds before each answer."""

_BODY = b'{"status":"processing","message":"Try Again, Still Processing","output":""}'


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Endpoint(asyncio.Protocol):
    """One connection; ``GET /arrivals`` gives each job's times and begins anew."""

    arrivals: ClassVar[defaultdict[str, list[float]]] = defaultdict(list)
    processing = _answer(_BODY)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._received += data
        while True:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            length = 0
            for line in head.split(b"\r\n")[1:]:
                if line.lower().startswith(b"content-length:"):
                    length = int(line[15:])
            if len(rest) < length:
                return
            self._received = rest[length:]
            self._request(head.split(b" ", 2)[1].decode())

    def _request(self, path: str) -> None:
        if path == "/arrivals":
            body = json.dumps(self.arrivals).encode()
            self.arrivals.clear()
            self._transport.write(_answer(body))
            return
        self.arrivals[path.rpartition("/")[2]].append(time.monotonic())
        asyncio.get_running_loop().call_later(LATENCY, self._transport.write, self.processing)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Endpoint, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
