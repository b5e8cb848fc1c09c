"""Which of two attempts at a task began before the other, from what each leaves in S3.

=============================== ======================================================================================
metadata                        tells
=============================== ======================================================================================
``modelslab-try``               the try's number. It rises with retries and clears; a task that resumes after a
                                deferral keeps it; in a run that was deleted and made anew it begins again
``modelslab-task-instance``     Airflow's id of the task instance. Each try has a new one, and as a UUID of version 7
                                it tells when it was made; one clock may be behind another by some seconds
=============================== ======================================================================================

Neither alone is certain, and to refuse the right attempt would be worse than to let a late one pass: an attempt counts
as earlier when both say so. Where an id is not known, the number alone decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

__all__ = ["Writer"]

_TRY, _TASK_INSTANCE = "modelslab-try", "modelslab-task-instance"


@dataclass(frozen=True, slots=True)
class Writer:
    """One attempt at a task.

    :param try_number: of the task instance.
    :param task_instance: Airflow's id of it; ``None`` where there is none.
    """

    try_number: int
    task_instance: UUID | None = None

    @classmethod
    def of(cls, ti: Any) -> Writer:
        """The attempt that runs."""
        return cls(int(ti.try_number), _uuid(getattr(ti, "id", None)))

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> Writer | None:
        """Who wrote an object; ``None`` when it does not say."""
        told = {name.lower(): value for name, value in metadata.items()}  # some stores capitalise the names
        number = told.get(_TRY, "")
        return cls(int(number), _uuid(told.get(_TASK_INSTANCE))) if number.isdecimal() else None

    @classmethod
    def of_claim(cls, claim: Mapping[str, Any]) -> Writer | None:
        """Who wrote a ledger's claim; ``None`` when it does not say."""
        number = claim.get("try_number")
        return cls(number, _uuid(claim.get("task_instance"))) if isinstance(number, int) else None

    def claim(self) -> dict[str, Any]:
        """What a ledger's claim says of who wrote it."""
        known = {} if self.task_instance is None else {"task_instance": str(self.task_instance)}
        return {"try_number": self.try_number, **known}

    def metadata(self) -> dict[str, str]:
        """What an object says of who wrote it."""
        known = {} if self.task_instance is None else {_TASK_INSTANCE: str(self.task_instance)}
        return {_TRY: str(self.try_number), **known}

    def is_before(self, other: Writer) -> bool:
        """Whether this attempt surely began before the other one."""
        mine, others = self.task_instance, other.task_instance
        if mine is not None and others is not None and mine.version == others.version == 7 and mine >= others:
            return False
        return self.try_number < other.try_number


def _uuid(text: object) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
