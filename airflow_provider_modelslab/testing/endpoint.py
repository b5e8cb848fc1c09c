"""The endpoint on a real socket, in a thread of the test, with faults on demand and bills."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_modelslab.endpoint.faults.kinds import fill
from airflow_provider_modelslab.endpoint.faults.plan import FaultPlan, Faults
from airflow_provider_modelslab.endpoint.settings import AnswerStyle, Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from airflow_provider_modelslab.endpoint.engine import Engine
    from airflow_provider_modelslab.endpoint.http.connections import ConnectionLimits

__all__ = ["API_KEY", "Bill", "FaultQueue", "ServedEndpoint", "serve_app", "serve_endpoint"]

API_KEY = "test-key-of-nobody"
"""The key that the endpoint of the tests accepts."""

_START_S = 120.0


@dataclass(frozen=True, slots=True)
class Bill:
    """One job that the endpoint accepted: the vendor would charge it.

    :param job_id: the id that the endpoint gave the job.
    :param track_id: the ``track_id`` of the request.
    :param fingerprint: the same for requests that ask for the same result.
    :param accepted_at: seconds since the epoch.
    :param status: of the job now: ``queued``, ``running``, ``success``, ``failed``, ...
    :param faults: the names of the faults that its submit got.
    """

    job_id: int
    track_id: str | None
    fingerprint: str
    accepted_at: float
    status: str
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FaultQueue(FaultPlan):
    """Gives faults to the next submits, in the order in which a test asks for them.

    :param waiting: the faults of the submits to come, the next one first.
    """

    waiting: deque[Mapping[str, Mapping[str, Any]]] = field(default_factory=deque, compare=False)

    def draw(self, subject: str, ordinal: int) -> Faults:
        """Those of the next submit."""
        try:
            return Faults(self.waiting.popleft(), self.token(subject, ordinal))
        except IndexError:
            return Faults({}, self.token(subject, ordinal))


@dataclass(frozen=True)
class ServedEndpoint:
    """A running endpoint.

    :param url: its address, for the connection's host.
    :param key: the API key that it accepts, for the connection's password.
    """

    url: str
    key: str = field(default=API_KEY, repr=False)
    _faults: FaultQueue = field(default_factory=FaultQueue, repr=False)

    def inject(self, fault: str, *, times: int = 1, **options: Any) -> None:
        """Give a fault to the next submits; a submit that the client repeats is a new one.

        :param fault: one of :data:`~airflow_provider_modelslab.endpoint.faults.kinds.FAULTS`, such as ``reset_after``.
        :param times: how many submits get it, at least 1.
        :param options: of the fault, such as ``status=503``.
        :raises ValueError: naming the fault or the option that does not exist.
        """
        if times < 1:
            raise ValueError(f"times must be at least 1; got {times}")
        defaults = {"submits": None} if fault == "rate_limit" and "queue" not in options else {}  # this one, whichever
        filled = fill(fault, {**defaults, **options})
        self._faults.waiting.extend({fault: filled} for _ in range(times))

    def bills(self) -> list[Bill]:
        """One for each job that was accepted, oldest first: what the vendor would charge."""
        return [
            Bill(
                job_id=job["id"],
                track_id=job["track_id"],
                fingerprint=job["fingerprint"],
                accepted_at=job["accepted_at"],
                status=job["status"],
                faults=tuple(job["faults"]),
            )
            for job in self._admin()["jobs"]
        ]

    def faults_acted(self) -> dict[str, int]:
        """How often each fault acted: a test of a fault that never did would prove nothing."""
        found: dict[str, int] = self._admin()["faults"]
        return found

    def requests(self) -> dict[str, int]:
        """How many requests came, by the call's name: ``video2video``, ``fetch``, ``files``, ..."""
        found: dict[str, int] = self._admin()["requests"]
        return found

    def _admin(self) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands before this machine
            answer: dict[str, Any] = session.get(f"{self.url}/admin/bills", timeout=60).json()
        return answer


@contextmanager
def serve_endpoint(
    folder: Path,
    *,
    engine: Engine | Sequence[Engine] | None = None,
    hold_s: float = 0.0,
    answers: AnswerStyle = "legacy",
) -> Iterator[ServedEndpoint]:
    """Serve an endpoint within the block, on a free port of 127.0.0.1.

    :param folder: for its queue and results.
    :param engine: what makes the clips; by default the echo engine, which answers within milliseconds.
    :param hold_s: seconds that a submit waits for its result; by default none, so that a task has to poll.
    :param answers: which of the vendor's styles of answers.
    """
    from airflow_provider_modelslab.endpoint.echo import EchoEngine

    faults = FaultQueue()
    settings = Settings(
        state_dir=folder,
        answers=answers,
        hold_s=hold_s,
        api_keys=(API_KEY,),
        allow_private_addresses=True,
        faults=faults,
        admin=True,
    )
    with serve_app(settings, engine or EchoEngine()) as url:
        yield ServedEndpoint(url, API_KEY, faults)


@contextmanager
def serve_app(
    settings: Settings,
    engine: Engine | Sequence[Engine],
    *,
    clock: Callable[[], float] = time.time,
    prepare: Callable[[FastAPI], object] = lambda app: None,
    limits: ConnectionLimits | None = None,
) -> Iterator[str]:
    """Serve an endpoint with any settings; its address.

    :param clock: seconds since the epoch.
    :param prepare: adds to the app before it starts.
    :param limits: of connections.
    :raises RuntimeError: when it does not start or stop.
    """
    from airflow_provider_modelslab.endpoint.http.app import create_app
    from airflow_provider_modelslab.endpoint.http.server import EndpointServer

    ready: queue.Queue[str] = queue.Queue()
    app = create_app(settings, engine, clock=clock)
    prepare(app)
    server = EndpointServer(app, on_ready=ready.put, log_level="warning", limits=limits)
    thread = threading.Thread(target=server.run, name="modelslab-endpoint")
    thread.start()
    try:
        yield ready.get(timeout=_START_S)
    except queue.Empty:
        raise RuntimeError(f"The endpoint did not start within {_START_S:.0f} s") from None
    finally:
        server.should_exit = True
        thread.join(_START_S)
        if thread.is_alive():
            raise RuntimeError(f"The endpoint did not stop within {_START_S:.0f} s")
