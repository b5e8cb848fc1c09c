"""The options of a ledger's user. Dags load this module, and not ``ledger.model``, which takes longer to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LedgerPolicy"]


@dataclass(frozen=True, slots=True)
class LedgerPolicy:
    """The options of a user. Operators check them while a Dag is parsed.

    :param reuse: which stored results are reused if request and clip are the same: ``"run"`` those that were made for
        this Dag run, ``"always"`` any, ``"never"`` only those that this task made, or waited for, since it was last
        cleared (so that its retries pay for nothing twice). A job that is still running is always reused.
    :param on_changed_request: if the stored result is for another request: ``resubmit`` pays for the new request,
        ``fail`` raises.
    :param on_unknown_submission: ``fail`` leaves the decision to a person, ``resubmit`` may pay twice.
    :raises ValueError: for any other value.
    """

    reuse: Literal["run", "always", "never"] = "run"
    on_changed_request: Literal["resubmit", "fail"] = "resubmit"
    on_unknown_submission: Literal["fail", "resubmit"] = "fail"

    def __post_init__(self) -> None:
        allowed = {
            "reuse": ("run", "always", "never"),
            "on_changed_request": ("resubmit", "fail"),
            "on_unknown_submission": ("fail", "resubmit"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name}: must be one of {', '.join(values)}; got {getattr(self, name)!r}")
