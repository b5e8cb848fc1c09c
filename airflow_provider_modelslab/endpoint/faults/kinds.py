"""The faults by name, their options and what these may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeGuard

__all__ = ["FAULTS", "check_kind", "fill", "is_number"]

FAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # Before the job is accepted: nothing is billed.
        "rate_limit": {"submits": 1, "queue": None, "retry_after": 1},
        "same_request_filter": {"seconds": 30.0},
        "error_before": {"status": 500},
        "reset_before": {},
        # The job is accepted and billed, the answer is not what it should be.
        "hang": {"when": "after", "seconds": 30.0, "fetches": 1},
        "reset_after": {},
        "error_after": {"status": 500},
        "malformed": {},
        # The job itself.
        "never_ending": {},
        "job_failed": {"message": "the fault job_failed was asked for"},
        "duplicate_webhook": {"times": 2},
        # Fetches.
        "lost_id": {"fetch": 1},
        "not_found_at_first": {"fetches": 1},
        "flaky_fetch": {"probability": 0.5, "how": "any", "status": 503},
        # The file, on the endpoint's own storage.
        "late_links": {"seconds": 3.0},
        "expired_links": {"seconds": 0.0},
        "truncated_video": {"keep": 0.5, "times": None},
        "corrupt_video": {"content": "html", "times": None},
    }
)
"""Every fault with its options and their defaults. Faults of the file do not affect results in a bucket.

==================== =========================================================================================
rate_limit           The first ``submits`` submits with this track_id are refused (None: all). If ``queue`` is given:
                     submits are refused while the key has that many unfinished jobs. The response has ``retry_after``
same_request_filter  The submit is refused if the same key sent the same request less than ``seconds`` ago. ``webhook``
                     and ``track_id`` are not compared
error_before         The job is not accepted. The response is HTTP ``status`` (500 to 599)
reset_before         The job is not accepted. The connection ends with a TCP reset
hang                 No response. The connection is closed after ``seconds``. ``when``: ``before`` or ``after`` the job
                     is accepted, ``fetch`` (at the first ``fetches`` fetches), or ``any`` (one of the three, by chance)
reset_after          The job is accepted. Then the connection ends with a TCP reset
error_after          The job is accepted. The response is HTTP ``status`` (500 to 599)
malformed            The job is accepted. The response is cut off after half of its JSON
never_ending         The job stays "processing" and never starts, until the queue is cleared
job_failed           The job fails with the ``message``
duplicate_webhook    The webhook is called ``times`` times
lost_id              "Request not found" from fetch number ``fetch`` on (1 is the first)
not_found_at_first   "Request not found" at the first ``fetches`` fetches
flaky_fetch          Each fetch fails with this ``probability``. ``how`` is ``error`` (HTTP ``status``), ``reset`` (TCP
                     reset) or ``any``
late_links           The file answers 404 until ``seconds`` after the job has succeeded
expired_links        The file answers 404 from ``seconds`` after the job has succeeded
truncated_video      The share ``keep`` of the file is sent, with the Content-Length of the whole file. This happens at
                     the first ``times`` reads (None: all)
corrupt_video        HTTP 200 with an ``html`` page or with ``random`` bytes, at the first ``times`` reads (None: all)
==================== =========================================================================================
"""

_CHOICES = {
    ("hang", "when"): ("before", "after", "fetch", "any"),
    ("flaky_fetch", "how"): ("error", "reset", "any"),
    ("corrupt_video", "content"): ("html", "random"),
}
_MAY_BE_NONE = {
    ("rate_limit", "submits"),
    ("rate_limit", "queue"),
    ("truncated_video", "times"),
    ("corrupt_video", "times"),
}
_AT_LEAST_ONE = {("lost_id", "fetch"), ("duplicate_webhook", "times"), ("rate_limit", "queue")}
_SHARES = {"probability", "keep"}


def fill(kind: str, given: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """All options of a fault: those that are given, checked, and for the others the defaults.

    :raises ValueError: naming the fault or the option that cannot be.
    """
    check_kind(kind)
    problem = "" if isinstance(given, Mapping) else f"the options of {kind} must be an object; got {given!r:.100}"
    if problem:
        raise ValueError(problem)
    filled = dict(FAULTS[kind] if defaults is None else defaults)
    for name, value in given.items():
        if name not in filled:
            raise ValueError(f"{kind} has no option {name!r}; allowed: {', '.join(filled) or 'none'}")
        if problem := _problem(kind, name, value):
            raise ValueError(f"{name} of {kind} must be {problem}; got {value!r:.100}")
        filled[name] = value
    if kind == "rate_limit" and given.get("queue") is not None and "submits" not in given:
        filled["submits"] = 0  # by the depth of the queue alone
    return filled


def _problem(kind: str, name: str, value: object) -> str:
    """What the option must be, when the value is not that."""
    if value is None and (kind, name) in _MAY_BE_NONE:
        return ""
    if choices := _CHOICES.get((kind, name)):
        return "" if value in choices else f"one of {', '.join(choices)}"
    if name == "message":
        return "" if isinstance(value, str) else "text"
    if name == "status":
        return "" if isinstance(value, int) and 500 <= value <= 599 else "from 500 to 599"
    if name in _SHARES:
        return "" if is_number(value) and 0 <= value <= 1 else "a number from 0 to 1"
    if name in {"seconds", "retry_after"}:
        return "" if is_number(value) and value >= 0 else "a number of seconds of at least 0"
    least = 1 if (kind, name) in _AT_LEAST_ONE else 0
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    return "" if whole else f"a whole number of at least {least}"


def check_kind(kind: object) -> None:
    """Refuse what is no fault.

    :raises ValueError: with the names of those that there are.
    """
    if kind not in FAULTS:
        raise ValueError(f"{kind!r:.60} is not a fault; allowed: {', '.join(FAULTS)}")


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number, and no switch."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
