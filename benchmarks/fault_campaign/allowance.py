"""The budget that all runs of a campaign share, the person who raises it, and whether it held in the end."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import BudgetExhaustedError
from airflow_provider_modelslab.budget.definition import BudgetRule, Caps
from airflow_provider_modelslab.budget.log import S3BudgetLog
from airflow_provider_modelslab.budget.model import BudgetState
from airflow_provider_modelslab.budget.service import Budget, Wanted
from airflow_provider_modelslab.ledger.model import Entry, kind_of, number_of
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.uri import S3Uri
from benchmarks.fault_campaign import clock
from benchmarks.fault_campaign.journal import Journal
from benchmarks.fault_campaign.run import BUCKET, BUDGET, LEDGERS, Run
from benchmarks.fault_campaign.verify import ledger_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Allowance", "cap_in"]

_CAP = re.compile(rf"Budget '{BUDGET}' \(max_jobs (\d+) ")
_VARIABLE = "AIRFLOW_VAR_MODELSLAB_BUDGETS"


def cap_in(text: str) -> int | None:
    """The cap that a message says is reached; ``None`` where it says nothing of one."""
    found = _CAP.search(text)
    return int(found[1]) if found else None


class Allowance:
    """So many jobs, and as many more whenever a run has met the cap.

    :param step: jobs.
    """

    def __init__(self, s3: S3Client, step: int, journal: Journal) -> None:
        self.cap = step
        self._s3 = s3
        self._step = step
        self._journal = journal
        self._raised_at: list[tuple[float, int]] = []  # the cap that held until then

    def allow(self) -> None:
        """Put it into the Variable, which processes that are forked from now on see."""
        os.environ[_VARIABLE] = json.dumps({BUDGET: {"max_jobs": self.cap}})

    def reached(self, cap: int) -> None:
        """A run has met this cap; it is raised once, however many runs have met it."""
        if cap < self.cap:
            return
        self._raised_at.append((clock.now(), self.cap))
        self.cap += self._step
        self.allow()
        self._journal.note("the budget is raised", cap=self.cap)

    def audit(self, runs: Sequence[Run], jobs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, int], list[str]]:
        """When all has ended: figures, and what is wrong.

        Each job that was paid for had a reservation of its own, and counts; each other reservation was given back, or
        is held since nobody knows what became of its submit.

        :param jobs: the endpoint's bills.
        """
        state, claims = self._settled(), self._claims(runs)
        billed = {str(job["track_id"]) for job in jobs}
        asked = tuple(f"{result.track}/" for run in runs if run.plan.unknown == "fail" for result in run.results)
        held = [slot_id for slot_id in state.held if claims.get(slot_id) in billed]
        spent = state.total().jobs - len(state.held) - len(state.open)
        wrong = [f"a job of {slot.ledger} stays reserved by {slot.user}" for slot in state.open.values()]
        # Where a person is asked, each submission has an outcome in the end.
        wrong += [f"{claims[id_]} stays held" for id_ in state.held if claims.get(id_, "").startswith(asked)]
        wrong += [f"{track_id} was submitted without a reservation" for track_id in billed - set(claims.values())]
        if spent + len(held) != len(jobs):
            wrong.append(
                f"the budget has {spent} jobs spent and {len(held)} of {len(state.held)} held that were paid for; the "
                f"endpoint has {len(jobs)}"
            )
        over = self._overspent([float(job["accepted_at"]) for job in jobs])
        if over:
            wrong.append(f"{over} jobs more than the budget allowed")
        figures = {"max_jobs": self.cap, "raised": len(self._raised_at), "spent": spent, "held": len(state.held)}
        return {**figures, "claims": len(claims), "overspent": over}, wrong

    def _overspent(self, accepted: Sequence[float]) -> int:
        """By how many jobs a cap was passed at most before it was raised, or at the end."""
        caps: Iterable[tuple[float, int]] = (*self._raised_at, (float("inf"), self.cap))
        return max(0, *(sum(at <= until for at in accepted) - cap for until, cap in caps))

    def _settled(self) -> BudgetState:
        """The state after everything was found out that a process finds out when there is no room for it."""
        folder = LEDGERS.child(f"budgets/{BudgetRule.of(BUDGET, {'max_jobs': 1}).folder}/total")
        state, minutes = BudgetState(), 0
        while True:  # what is unknown is looked up every ten minutes at most, and so many at a time
            minutes += 11
            now = clock.now() + 60 * minutes
            budget = Budget(
                S3BudgetLog(self._s3, folder),
                Caps(0),
                title=f"Budget {BUDGET!r}",
                how_to_raise="Nobody does",
                user="the judge",
                read_ledger=lambda uri: S3LedgerStore(self._s3, S3Uri.parse(uri)).load(),
                clock=itertools.repeat(now).__next__,
            )
            with suppress(BudgetExhaustedError):
                budget.reserve(Wanted(f"s3://{BUCKET}/of-nobody"))
            budget.close()
            before, state = state, budget.state()
            if {*state.held, *state.open} == {*before.held, *before.open}:
                return state

    def _claims(self, runs: Sequence[Run]) -> dict[str, str]:
        """The submission that each slot was claimed for."""
        found = {}
        for result in (result for run in runs for result in run.results):
            for name, entry in S3LedgerStore(self._s3, ledger_of(result)).load().items():
                if kind_of(name) == Entry.CLAIM:
                    submission = result.submission(number_of(name))
                    found.update(dict.fromkeys(entry.get("budget") or (), submission))
        return found
