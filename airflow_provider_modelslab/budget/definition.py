"""What a budget allows, and which period a reservation counts for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.prices import amount, amount_text, refuse_unknown

__all__ = ["BudgetRule", "Caps"]

_FIELDS = ("max_jobs", "max_cost", "per", "timezone")


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that may be reserved and spent.

    :param max_jobs: jobs; ``None`` for any number.
    :param max_cost: in the currency of the prices; ``None`` for any amount.
    """

    max_jobs: int | None = None
    max_cost: Decimal | None = None

    @classmethod
    def of(cls, max_jobs: object, max_cost: object, where: str = "") -> Self:
        """Read caps, perhaps out of a template.

        :param where: what goes before the names in messages.
        :raises InvalidRequestError: for other values than a whole number of jobs and an amount, of at least 0.
        """
        jobs: int | None = None
        if max_jobs is not None and max_jobs != "":
            text = str(max_jobs).strip()
            if isinstance(max_jobs, bool | float) or not text.isdecimal():
                raise InvalidRequestError.of(
                    f"{where}max_jobs", f"must be a whole number of at least 0; got {max_jobs!r:.80}"
                )
            jobs = int(text)
        return cls(jobs, None if max_cost in (None, "") else amount(max_cost, f"{where}max_cost"))

    def __bool__(self) -> bool:
        return self.max_jobs is not None or self.max_cost is not None

    def __str__(self) -> str:
        jobs = None if self.max_jobs is None else f"max_jobs {self.max_jobs}"
        cost = None if self.max_cost is None else f"max_cost {amount_text(self.max_cost)}"
        return ", ".join(filter(None, (jobs, cost)))


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """A named budget, as a connection or a Variable defines it.

    :param per: what its caps are for: one Dag run, one day, or all time.
    :param timezone: in which a day begins.
    """

    name: str
    caps: Caps
    per: Literal["run", "day", "total"] = "total"
    timezone: tzinfo = UTC

    @classmethod
    def of(cls, name: str, given: object) -> Self:
        """Read a definition: ``{"max_jobs": 500, "max_cost": "50", "per": "run", "timezone": "Europe/Vienna"}``.

        :raises InvalidRequestError: naming the key that is not allowed.
        """
        where = f"budgets.{name}"
        if not isinstance(given, Mapping):
            raise InvalidRequestError.of(where, f'must be a mapping such as {{"max_jobs": 500}}; got {given!r:.80}')
        refuse_unknown(given, _FIELDS, where)
        caps = Caps.of(given.get("max_jobs"), given.get("max_cost"), f"{where}.")
        if not caps:
            raise InvalidRequestError.of(where, "needs max_jobs, max_cost or both")
        per = given.get("per", "total")
        if per not in ("run", "day", "total"):
            raise InvalidRequestError.of(f"{where}.per", f"must be run, day or total; got {per!r:.80}")
        zone = str(given.get("timezone") or "UTC")
        try:
            return cls(name, caps, per, ZoneInfo(zone))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InvalidRequestError.of(
                f"{where}.timezone", f"must be a name such as Europe/Vienna; got {zone!r:.80}"
            ) from None

    def period(self, *, now: float, dag_id: str, run_id: str) -> tuple[str, str]:
        """What a reservation made now counts for: a name for keys in S3, and words for people.

        :param now: seconds since the epoch.
        """
        if self.per == "total":
            return "total", "in total"
        if self.per == "day":
            day = datetime.fromtimestamp(now, self.timezone).date().isoformat()
            return day, f"on {day} ({self.timezone})"
        return f"run-{_digest(dag_id, run_id)}", f"in run {run_id} of {dag_id}"

    @property
    def folder(self) -> str:
        """The budget's own folder in S3, whatever characters its name has."""
        return _digest(self.name)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
