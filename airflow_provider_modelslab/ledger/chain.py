"""A chain of places: where the next submission for a request goes, from the entries of its ledger alone.

All submissions of a chain have the fingerprint of the first place, so whoever asks for that request finds them. The
claim of each holds its ``place``; one without it went to the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_modelslab.api.errors import ErrorCode, ModelsLabError
from airflow_provider_modelslab.api.prices import JobPrice, amount_text
from airflow_provider_modelslab.ledger.model import Entries, Entry, Fingerprint, entry_name, number_of

__all__ = ["RunHere", "failure_at", "is_fallback_cause", "next_place"]

_NO_MODEL = re.compile(
    r"\bmodel(?:[ _]?id)?\b.{0,120}\b(?:not (?:found|available|exist)|does not exist|unavailable)"
    r"|\b(?:no|unknown|no such) model\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class RunHere:
    """Nothing is paid for: the next place of the chain is this machine.

    :param chain: which place this is and why those before it came to nothing, see :attr:`Job.chain`.
    """

    chain: dict[str, Any]


def is_fallback_cause(error: ModelsLabError | Mapping[str, Any]) -> bool:
    """Whether another place is tried: the job failed, the account has no credits, or the model is not there.

    :param error: the error, or its event as the ledger records it.
    """
    event = error.to_event() if isinstance(error, ModelsLabError) else error
    code = event.get("code")
    if code in (ErrorCode.JOB_FAILED, ErrorCode.PAYMENT):
        return True
    # The request is validated before it is sent, so an endpoint that faults the model_id alone does not have it.
    is_about_model = set(event.get("fields") or ()) == {"model_id"} or _NO_MODEL.search(str(event.get("message")))
    return code == ErrorCode.VALIDATION and bool(is_about_model)


def next_place(
    entries: Entries, fingerprint: Fingerprint, places: Sequence[Mapping[str, Any]]
) -> tuple[int, list[dict[str, Any]]]:
    """The place of the next submission, and why the places before it came to nothing.

    A chain that has landed, or that came to nothing at its last place, is over: the next one begins at the first place.
    After an error that calls for no other place, the same place is tried again.

    :param places: of the chain, as claims hold them.
    :return: an index into ``places``, and for each place that came to nothing its record with ``code``, ``message`` and
        ``job_id``.
    """
    index, failures = 0, dict[int, dict[str, Any]]()
    for number in sorted({number_of(name) for name in entries}):
        found = {kind: entries[name] for kind in Entry if (name := entry_name(number, kind)) in entries}
        claim = found.get(Entry.CLAIM)
        if claim is None or not fingerprint.matches(claim):
            continue
        place = claim.get("place", places[0])
        if place not in places:
            continue
        index = places.index(place)
        ended = found.get(Entry.FAILED) or found.get(Entry.RELEASED)
        if Entry.LANDED in found:
            index, failures = 0, {}
        elif ended is not None and is_fallback_cause(error := ended.get("error") or {}):
            failures = {at: failure for at, failure in failures.items() if at < index}
            failures[index] = failure_at(place, error, found.get(Entry.JOB, {}))
            index += 1
            if index == len(places):
                index, failures = 0, {}
    return index, [failures[at] for at in sorted(failures) if at < index]


def failure_at(place: Mapping[str, Any], error: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    """Why a place came to nothing, as manifests say it.

    :param error: its event.
    :param job: as the ledger records it; empty where none was submitted.
    """
    failure = {
        **place,
        "code": error.get("code"),
        "message": error.get("message"),
        "job_id": error.get("job_id") or job.get("job_id"),
    }
    if job.get("price") is None:
        return failure
    price = JobPrice.from_record(job["price"])
    return {**failure, "cost": amount_text(price.reserved), "currency": price.currency}
