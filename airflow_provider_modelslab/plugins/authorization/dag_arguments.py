"""A task's arguments as the Dag's author wrote them: triggering the Dag or editing an XCom cannot change them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.compat import serialized_tasks
from airflow_provider_modelslab.operators.arguments import is_literal
from airflow_provider_modelslab.plugins.json_values import as_mapping, sound

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["UNKNOWN", "DagArguments", "is_cut", "read_declared"]

UNKNOWN = "{{ unknown }}"
"""Placeholder for an argument that is no longer known: a template that could be rendered to anything."""

_CUT = "Truncated. You can change this behaviour in [core]max_templated_field_length"
_CLIPS = ("init_video", "source", "op_args", "op_kwargs", "op_kwargs_expand_input")
"""Arguments that name clips; the last three are those of a decorated function."""


@dataclass(frozen=True, slots=True)
class DagArguments:
    """The arguments of one task in the version of its Dag that it ran with.

    :param arguments: by name, templates as such.
    :param expanded: the arguments that a mapped task is expanded over, as Airflow stores them.
    :param lost: that version of the Dag, or the task in it, was deleted.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    expanded: Mapping[str, Any] = field(default_factory=dict)
    lost: bool = False

    def text(self, name: str) -> str | None:
        """An argument that is a text or a number; ``None`` where it was not given, a template where it is not known."""
        if self.lost or _may_hold(self.expanded, name):
            return UNKNOWN
        given = self.arguments.get(name)
        if given is None or (isinstance(given, str) and not is_cut(given)):
            return given
        return str(given) if isinstance(given, int) else UNKNOWN

    def names_clip(self, uri: str) -> bool:
        """Whether the Dag itself names this very clip."""
        given = [self.arguments.get(name) for name in _CLIPS]
        return is_literal(uri) and uri in _texts([*given, self.expanded])

    def chooses_clips(self) -> bool:
        """Whether the Dag itself says where a batch's clips are, so that who triggers it cannot choose them."""
        given = self.arguments.get("source")
        return given is not None and is_literal(given) and not any(map(is_cut, _texts(given)))


def read_declared(session: Session, dag_version_id: Any, task_id: str) -> DagArguments:
    """Read a task's arguments from a version of its Dag; they are lost where they are nested too deep."""
    tasks = serialized_tasks(session, dag_version_id)
    try:
        task = sound(next((one for one in tasks if one.get("task_id") == task_id), None))
    except ValueError:
        task = None
    if task is None:
        return DagArguments(lost=True)
    return DagArguments({**task, **as_mapping(task.get("partial_kwargs"))}, as_mapping(task.get("expand_input")))


def is_cut(text: str) -> bool:
    """Whether Airflow kept the beginning of a value only, since it is long."""
    return text.startswith(_CUT[:10])


def _may_hold(expanded: Mapping[str, Any], name: str) -> bool:
    """Whether an argument may be among those that a task is expanded over; another task's mappings may hold any."""
    value = expanded.get("value")
    return name in str(value) or (expanded.get("type") == "list-of-dicts" and not isinstance(value, list))


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
