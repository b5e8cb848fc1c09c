"""The XComs of a Dag run in a test, and what Airflow's supervisor would answer to a task that asks for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

__all__ = ["RETURNED", "Supervisor", "XComs"]

RETURNED = "return_value"
"""The key of what a task returned."""


@dataclass
class XComs:
    """All XComs of one run, as the JSON that Airflow stores."""

    stored: dict[tuple[str, int, str], str] = field(default_factory=dict)

    def push(self, task_id: str, map_index: int, key: str, value: Any) -> None:
        """Store one.

        :raises TypeError: for a value that Airflow cannot store.
        """
        from airflow.sdk.bases.xcom import BaseXCom

        self.stored[task_id, map_index, key] = json.dumps(BaseXCom.serialize_value(value), allow_nan=False)

    def pull(self, task_id: str, key: str, map_index: int) -> tuple[bool, Any]:
        """Whether there is one, and its value."""
        found = self.stored.get((task_id, map_index, key))
        return found is not None, None if found is None else _read(json.loads(found))

    def indexes(self, task_id: str, key: str) -> list[int]:
        """The map indexes of the task that have one of this key, sorted."""
        return sorted(index for task, index, name in self.stored if (task, name) == (task_id, key))

    def raw(self, task_id: str, key: str) -> list[Any]:
        """Those of all mapped tasks, in their order, as JSON values."""
        return [json.loads(self.stored[task_id, index, key]) for index in self.indexes(task_id, key)]


@dataclass(frozen=True)
class Supervisor:
    """Answers what tasks ask Airflow's supervisor: the outputs of mapped tasks. It knows nothing else.

    Connections and Airflow variables are found in the environment, which is asked first.
    """

    xcoms: XComs

    def send(self, message: Any) -> Any:
        """The answer to one of Airflow's messages."""
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time import comms

        if isinstance(message, comms.GetXComCount):
            return comms.XComCountResponse(len=len(self._sequence(message)))
        if isinstance(message, comms.GetXComSequenceItem):
            try:
                return comms.XComSequenceIndexResult(root=self._sequence(message)[message.offset])
            except IndexError:
                return comms.ErrorResponse(error=ErrorType.XCOM_NOT_FOUND)
        if isinstance(message, comms.GetXComSequenceSlice):
            part = self._sequence(message)[message.start : message.stop : message.step]
            return comms.XComSequenceSliceResult(root=list(part))
        if isinstance(message, comms.GetVariable):
            return comms.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
        return comms.ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)

    async def asend(self, message: Any) -> Any:
        """The same for a trigger."""
        return self.send(message)

    def _sequence(self, message: Any) -> Sequence[Any]:
        return self.xcoms.raw(message.task_id, message.key)


def _read(stored: Any) -> Any:
    from airflow.sdk.bases.xcom import BaseXCom

    return BaseXCom.deserialize_value(SimpleNamespace(value=stored))
