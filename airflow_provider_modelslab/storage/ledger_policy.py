"""What a person may choose about paying again. Operators check it while a Dag is parsed, so it stands apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LedgerPolicy"]


@dataclass(frozen=True, slots=True)
class LedgerPolicy:
    """What to do where a person may want the one or the other.

    :param reuse_landed: a result that has landed is returned as it is; off, another take is paid for (once for each
        time that the task is cleared).
    :param on_changed_request: ``resubmit`` pays for the new request, ``fail`` raises.
    :param on_unknown_submission: ``fail`` asks a person, ``resubmit`` may pay twice.
    """

    reuse_landed: bool = True
    on_changed_request: Literal["resubmit", "fail"] = "resubmit"
    on_unknown_submission: Literal["fail", "resubmit"] = "fail"

    def __post_init__(self) -> None:
        allowed = {
            "reuse_landed": (True, False),  # a run's conf may say "false", a text that would count as true
            "on_changed_request": ("resubmit", "fail"),
            "on_unknown_submission": ("fail", "resubmit"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name}: must be one of {', '.join(map(str, values))}; got {getattr(self, name)!r}")
