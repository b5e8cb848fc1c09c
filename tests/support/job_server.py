"""An HTTP server in the test's own loop that answers polls; a test says what, and sees what arrived."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

RUNNING = {"status": "processing", "message": "try again later.", "output": ""}
LOST = {"status": "failed", "id": "", "message": "Request not found", "output": ""}


def done(job_id: str) -> dict[str, Any]:
    """The answer for a finished job."""
    return {"status": "success", "id": job_id, "output": [f"https://example.com/{job_id}.mp4?sig=1"]}


def refused(retry_after: float | None = None, *, status: int = 429) -> web.Response:
    """An answer that says "too many"."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.json_response({"status": "error", "message": "Rate limit exceeded"}, status=status, headers=headers)


@dataclass
class JobServer:
    """Counts polls.

    :param answer: given the job's id and how many polls it has had, this one included: a body, or a whole response.
    """

    answer: Callable[[str, int], Awaitable[Any]]
    url: str = ""
    polls: list[tuple[str, str]] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    peers: set[Any] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def jobs(self) -> list[str]:
        """The jobs that were polled, in order."""
        return [job_id for job_id, _ in self.polls]

    @property
    def keys(self) -> set[tuple[str, str]]:
        """Which key asked for which job."""
        return set(self.polls)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One poll."""
        job_id = request.path.rpartition("/")[2]
        self.paths.add(request.path.rpartition("/")[0])
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        self.polls.append((job_id, json.loads(await request.read())["key"]))
        self.counts[job_id] += 1
        answer = await self.answer(job_id, self.counts[job_id])
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until something is true; the test's own time-out is the limit."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.005)


@asynccontextmanager
async def job_server(answer: Callable[[str, int], Any]) -> AsyncIterator[JobServer]:
    """Serve on a free port of 127.0.0.1; ``answer`` may be a coroutine function."""

    async def answered(job_id: str, poll: int) -> Any:
        found = answer(job_id, poll)
        return await found if isinstance(found, Awaitable) else found

    server = JobServer(answered)
    application = web.Application()
    application.router.add_post("/{path:.*}", server.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}"
        yield server
    finally:
        await runner.cleanup()
