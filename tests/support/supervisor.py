"""A task's supervisor that knows nothing, and what it is asked from which thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse, GetConnection, GetVariable

__all__ = ["OneThreadSupervisor", "Supervisor"]


class Supervisor:
    """Knows no connection and no Variable."""

    def send(self, question: object) -> ErrorResponse | None:
        if isinstance(question, GetConnection):
            return ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)
        if isinstance(question, GetVariable):
            return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
        return None

    async def asend(self, question: object) -> ErrorResponse | None:
        return self.send(question)


@dataclass
class OneThreadSupervisor(Supervisor):
    """Notes which other thread asks something: Airflow 3.1 mixes up the answers to several, and the task hangs."""

    thread: threading.Thread = field(default_factory=threading.current_thread)
    by_other_threads: list[str] = field(default_factory=list)

    def send(self, question: object) -> ErrorResponse | None:
        if threading.current_thread() is not self.thread:
            self.by_other_threads.append(f"{type(question).__name__} by {threading.current_thread().name}")
        return super().send(question)
