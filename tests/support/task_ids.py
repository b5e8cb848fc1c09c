"""Ids of task instances as Airflow makes them: UUIDs of version 7, which begin with the time."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from tests.support.tasks import TaskInstance

__all__ = ["Try", "made_at"]


def made_at(milliseconds: int, random: int = 0) -> UUID:
    """The id of a task instance that was made then.

    :param milliseconds: since the epoch.
    :param random: the rest of it, below 2**62.
    """
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | random)


@dataclass
class Try(TaskInstance):
    """A try with an id, as the API server gives one to each."""

    id: UUID = field(default_factory=lambda: made_at(0))
