"""Records the calls that lead to an HTTP request, across the threads and asyncio tasks that they go through."""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import BaseEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import requests

__all__ = ["CallPaths", "Frame"]


@dataclass(frozen=True)
class Frame:
    """One frame of a call stack."""

    module: str
    code: CodeType

    def __str__(self) -> str:
        return f"{self.module}:{self.code.co_qualname}"


@dataclass
class CallPaths:
    """The call paths to requests, as far as they are frames of one package.

    A thread of a pool continues the stack that called ``ThreadPoolExecutor.submit``, which asyncio's
    ``run_in_executor`` and ``to_thread`` call too. An asyncio task continues the stack that created it. Callbacks of
    the event loop continue nothing: they have the stack that runs the loop.

    :param package: frames of its modules are recorded.
    :param wanted: which requests are recorded.
    :param paths: one for each request, outermost frame first.
    """

    package: str
    wanted: Callable[[requests.PreparedRequest], bool]
    paths: list[tuple[Frame, ...]] = field(default_factory=list)
    _thread: threading.local = field(default_factory=threading.local)
    _tasks: WeakKeyDictionary[asyncio.Future[Any], tuple[Frame, ...]] = field(default_factory=WeakKeyDictionary)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record within the block; for one recorder at a time."""
        send, create_task, submit = requests.Session.send, BaseEventLoop.create_task, ThreadPoolExecutor.submit

        def send_(session: requests.Session, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            if self.wanted(request):
                self.paths.append(self._path(sys._getframe(1)))
            return send(session, request, **kwargs)

        def create_task_(loop: BaseEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
            task = create_task(loop, coro, **kwargs)
            self._tasks[task] = self._path(sys._getframe(1))
            return task

        def submit_(pool: ThreadPoolExecutor, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            return submit(pool, self._continue, self._path(sys._getframe(1)), call, *args, **kwargs)

        with (
            mock.patch.object(requests.Session, "send", send_),
            mock.patch.object(BaseEventLoop, "create_task", create_task_),
            mock.patch.object(ThreadPoolExecutor, "submit", submit_),
        ):
            yield

    def _continue(self, start: tuple[Frame, ...], call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self._thread.start = start
        try:
            return call(*args, **kwargs)
        finally:
            self._thread.start = ()

    def _path(self, frame: FrameType | None) -> tuple[Frame, ...]:
        start: tuple[Frame, ...] = getattr(self._thread, "start", ())
        task = _current_task()
        frames: list[Frame] = []
        while frame is not None:
            if frame.f_code is asyncio.Handle._run.__code__ and task is not None and task in self._tasks:
                start = self._tasks[task]  # instead of the frames that run the loop
                break
            module = frame.f_globals.get("__name__", "")
            if f"{module}.".startswith(f"{self.package}."):
                frames.append(Frame(module, frame.f_code))
            frame = frame.f_back
        return (*start, *reversed(frames))


def _current_task() -> asyncio.Future[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
