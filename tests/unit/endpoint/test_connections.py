"""Connections over sockets, with short limits; on both of uvicorn's protocols."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from airflow_provider_modelslab.endpoint.echo import EchoEngine
from airflow_provider_modelslab.endpoint.http.connections import ConnectionLimits, Connections, raise_file_limit
from airflow_provider_modelslab.endpoint.settings import Settings
from tests.support.endpoint import Caller, serving

HEAD = b"POST /api/v1/enterprise/video/system_details HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = 50_000_000  # bytes, more than all buffers hold
SHORT = ConnectionLimits(request_s=0.5)


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(end) and (length is None or len(body) >= int(length[1]))


class Client(socket.socket):
    """A TCP connection to the endpoint."""

    def ask(self, data: bytes) -> bytes:
        """Send, and read one answer; less of it when the other side closes before."""
        self.sendall(data)
        answer = b""
        while not _is_whole(answer) and (piece := self.recv(65536)):
            answer += piece
        return answer

    def send_until_closed(self, piece: bytes, *, every: float = 0.0) -> None:
        """Send it again and again, until the other side has closed; pytest's timeout is the limit."""
        with contextlib.suppress(ConnectionError):
            while True:
                self.sendall(piece)
                threading.Event().wait(every)

    def rest(self) -> bytes:
        """What comes until the other side closes."""
        pieces = iter(lambda: self.recv(65536), b"")
        try:
            return b"".join(pieces)
        except ConnectionResetError:
            return b""


async def large(_: Request) -> Response:
    return Response(b"x" * LARGE)


def add_large(app: FastAPI) -> None:
    app.add_route("/large", large)


Connect = Callable[[], Client]
Serve = Callable[[ConnectionLimits], Connect]


@pytest.fixture(params=[False, True], ids=["auto", "h11"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Serve]:
    """Serves with limits; gives what opens connections."""
    with ExitStack() as stack:

        def started(limits: ConnectionLimits) -> Connect:
            settings = Settings(state_dir=tmp_path, allow_request_faults=request.param)
            prepared = serving(settings, EchoEngine(), limits=limits, prepare=add_large)
            caller: Caller = stack.enter_context(prepared)

            def connect() -> Client:
                client = stack.enter_context(Client())
                client.settimeout(60)
                client.connect(("127.0.0.1", caller.port))
                return client

            return connect

        yield started


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"G", b"408"),
        (HEAD + b"X-A: b\r\n", b"408"),
        (HEAD + b"Content-Length: 100\r\n\r\n{", b"408"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;ext=", b"408"),
        (HEALTH + b"GET /h", b"200"),
    ],
    ids=["idle", "byte", "headers", "body", "chunk", "second request"],
)
def test_a_connection_without_a_whole_request_is_closed(serve: Serve, sent: bytes, answer: bytes) -> None:
    client = serve(SHORT)()
    client.sendall(sent)
    assert client.rest().removeprefix(b"HTTP/1.1 ")[:3] == answer


@pytest.mark.parametrize("drip", [b"X-A: b\r\n", b""], ids=["headers", "body"])
def test_bytes_that_keep_coming_do_not_prolong_it(serve: Serve, drip: bytes) -> None:
    client = serve(SHORT)()
    client.sendall(HEAD if drip else HEAD + b"Content-Length: 100000\r\n\r\n")
    client.send_until_closed(drip or b" ", every=0.02)


@pytest.mark.parametrize("line", [b"X-A: " + b"b" * 1000 + b"\r\n", b"b" * 1000], ids=["headers", "one header"])
def test_headers_without_end_are_refused_by_their_size(serve: Serve, line: bytes) -> None:
    client = serve(ConnectionLimits())()
    client.sendall(HEAD + b"X-B: ")
    client.send_until_closed(line)


def test_requests_one_after_the_other_and_pipelined_are_answered(serve: Serve) -> None:
    client = serve(ConnectionLimits())()
    body = b'{"key": "k"}'
    post = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for sent in (HEALTH, post, HEALTH):
        assert client.ask(sent).startswith(b"HTTP/1.1 200")
    client.sendall(HEALTH + post + HEALTH)
    answers = b""
    while answers.count(b"HTTP/1.1 200") < 3:
        answers += client.recv(65536)
    client.sendall(post[:-3])
    assert client.ask(post[-3:]).startswith(b"HTTP/1.1 200")


def test_the_connection_that_idles_longest_gives_way(serve: Serve) -> None:
    connect = serve(ConnectionLimits(most=5))
    idle = [connect() for _ in range(5)]
    assert idle[0].ask(HEALTH).startswith(b"HTTP/1.1 200")  # which makes it the youngest
    new = connect()
    assert idle[1].rest() == b""
    assert new.ask(HEALTH).startswith(b"HTTP/1.1 200")
    assert idle[0].ask(HEALTH).startswith(b"HTTP/1.1 200")


class Other:
    """A connection without a socket."""

    def __init__(self) -> None:
        self.gave_way = False

    def give_way(self) -> None:
        self.gave_way = True


def test_the_address_with_the_most_idle_connections_gives_way() -> None:
    connections = Connections(ConnectionLimits(most=4))
    lonely, *many = (Other() for _ in range(4))
    for other, peer in ((lonely, "10.0.0.1"), *((one, "10.0.0.2") for one in many)):
        assert connections.add(other)
        connections.set_idle(other, peer, idle=True)
    assert connections.add(Other())
    assert [other.gave_way for other in (lonely, *many)] == [False, True, False, False]


def test_there_is_no_room_where_all_are_at_work() -> None:
    connections = Connections(ConnectionLimits(most=1))
    first = Other()
    assert connections.add(first)
    assert not connections.add(Other())
    connections.remove(first)
    connections.set_idle(Other(), "a", idle=True)


def test_a_client_that_reads_nothing_is_left(serve: Serve) -> None:
    client = serve(ConnectionLimits(write_s=0.3))()
    client.sendall(HEALTH.replace(b"healthz", b"large"))
    client.send_until_closed(b" ", every=0.02)
    assert len(client.rest()) < LARGE


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "connections"),
    [
        (256, 1024, 1024, 448),
        (1024, 1_000_000, 65_536, 2_000),
        (1024, resource.RLIM_INFINITY, 65_536, 2_000),
        (20_000, 20_000, None, 2_000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, 2_000),
    ],
)
def test_as_many_files_as_the_system_allows(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int | None, connections: int
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert raise_file_limit() == connections
    assert asked == ([] if raised is None else [(raised, hard)])
