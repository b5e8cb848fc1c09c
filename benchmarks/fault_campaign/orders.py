"""What a client tells the campaign's two servers to do with one of its requests, in a header of that request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

__all__ = ["HEADER", "TASK_HEADER", "Order"]

HEADER = "X-Campaign-Order"
TASK_HEADER = "X-Campaign-Task"
"""Whose request it is."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to happen.

    :param how: a fault, see :data:`.plan.S3_FAULTS` and :data:`.plan.ENDPOINT_FAULTS`; ``hold`` keeps the answer back,
        so that a kill finds the request under way, and is no fault.
    :param value: seconds, or how many requests.
    :param phase: in which the client is.
    :param pid: the client's.
    """

    how: str
    value: float
    phase: str
    pid: int

    def dump(self) -> str:
        """As the value of a header."""
        return f"{self.how};{self.value:g};{self.phase};{self.pid}"

    @classmethod
    def load(cls, text: str) -> Self:
        """The inverse of :meth:`dump`."""
        how, value, phase, pid = text.split(";")
        return cls(how, float(value), phase, int(pid))
