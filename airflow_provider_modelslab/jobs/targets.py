"""The targets of a paid job: where it runs first, and where it runs if it fails there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from airflow_provider_modelslab.api.endpoint_request import EndpointRequest, is_blank
from airflow_provider_modelslab.api.errors import InvalidRequestError

if TYPE_CHECKING:
    from airflow_provider_modelslab.ledger.chain import RunHere
    from airflow_provider_modelslab.storage.result_manifest import Job

__all__ = ["Target", "check_fallback", "target_of", "targets_of"]

_KEYS = ("modelslab_conn_id", "model_id", "run_on")
_RUN_ON = ("endpoint", "local")

Request = TypeVar("Request", bound=EndpointRequest)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a job can run.

    :param conn_id: the Airflow connection.
    :param model_id: the model; ``None`` for a request that names none.
    :param run_on: the connection's endpoint, or this worker.
    """

    conn_id: str
    model_id: str | None
    run_on: Literal["endpoint", "local"] = "endpoint"

    def record(self) -> dict[str, Any]:
        """Plain JSON, for the ledger, sidecars and XCom."""
        return {"modelslab_conn_id": self.conn_id, "model_id": self.model_id, "run_on": self.run_on}

    def adapt(self, request: Request) -> Request:
        """The request as it is made here."""
        if self.model_id is None or getattr(request, "model_id", None) == self.model_id:
            return request
        return request.model_copy(update={"model_id": self.model_id})


def target_of(job: Job | RunHere) -> Target | None:
    """Where a job was submitted, or is to be run; ``None`` for one without other places to fall back to."""
    made_by = (job.chain or {}).get("made_by")
    return None if made_by is None else Target(made_by["modelslab_conn_id"], made_by["model_id"], made_by["run_on"])


def check_fallback(fallback: object) -> Sequence[Mapping[str, Any]]:
    """Check what a user gave as ``fallback``; what depends on the task itself is left to :func:`targets_of`.

    :raises InvalidRequestError: naming the entry at fault.
    """
    if not isinstance(fallback, Sequence) or isinstance(fallback, str) or not fallback:
        raise InvalidRequestError.of(
            "fallback",
            f'must be a list of at least one place such as {{"modelslab_conn_id": "other"}}; got {fallback!r:.80}',
        )
    for number, entry in enumerate(fallback):
        where = f"fallback[{number}]"
        if not isinstance(entry, Mapping) or not entry:
            raise InvalidRequestError.of(where, f"must be a mapping with {', '.join(_KEYS)}; got {entry!r:.80}")
        if unknown := sorted(str(key) for key in entry if key not in _KEYS):
            raise InvalidRequestError.of(where, f"has unknown keys {', '.join(unknown)}; known: {', '.join(_KEYS)}")
        for key in _KEYS:
            if not is_blank(entry.get(key)) and not isinstance(entry[key], str):
                raise InvalidRequestError.of(f"{where}.{key}", f"must be text; got {entry[key]!r:.80}")
        run_on = entry.get("run_on")
        if not is_blank(run_on) and run_on not in _RUN_ON:
            raise InvalidRequestError.of(f"{where}.run_on", f"must be {' or '.join(_RUN_ON)}; got {run_on!r:.80}")
        if run_on == "local" and number < len(fallback) - 1:
            raise InvalidRequestError.of(f"{where}.run_on", "local is only allowed in the last entry")
    return fallback


def targets_of(request: EndpointRequest, conn_id: str, fallback: object) -> tuple[Target, ...]:
    """The first place of a request, and those of ``fallback``; what an entry leaves out is as in the first place.

    :param conn_id: the connection of the first place.
    :raises InvalidRequestError: for what :func:`check_fallback` refuses, and for a place that equals an earlier one.
    """
    has_model = "model_id" in type(request).model_fields
    first = Target(conn_id, getattr(request, "model_id", None))
    places = [first]
    for number, entry in enumerate(check_fallback(fallback)):
        where = f"fallback[{number}]"
        given = {key: str(entry[key]).strip() for key in _KEYS if not is_blank(entry.get(key))}
        if "model_id" in given and not has_model:
            raise InvalidRequestError.of(f"{where}.model_id", "this endpoint has no model_id")
        place = Target(
            given.get("modelslab_conn_id", first.conn_id),
            given.get("model_id", first.model_id),
            cast("Literal['endpoint', 'local']", given.get("run_on", "endpoint")),
        )
        if place in places:
            what = "the task's own place" if place == first else f"fallback[{places.index(place) - 1}]"
            raise InvalidRequestError.of(where, f"has the same modelslab_conn_id, model_id and run_on as {what}")
        places.append(place)
    return tuple(places)
