"""Why nobody could know whether a submission had become a job: what the journal and the ledger have of the moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_provider_modelslab.ledger.model import Entry, entry_name, number_of
from benchmarks.fault_campaign.journal import FAULT
from benchmarks.fault_campaign.phases import PHASES
from benchmarks.fault_campaign.plan import LOSES_ANSWER

__all__ = ["Evidence"]

_NEAR_S = 3.0
_LEASE_LEFT_S = 30.0  # a claim is looked at when some of its lease is over
_ENDPOINT_DOWN = {"endpoint kill", "endpoint freeze"}

Event = Mapping[str, Any]


class Evidence:
    """Looks explanations up.

    :param journal: all events.
    """

    def __init__(self, journal: Sequence[Event]) -> None:
        self._processes: dict[tuple[str, int], list[Event]] = defaultdict(list)
        self._outages: list[float] = []
        for event in journal:
            if "pid" in event:
                self._processes[str(event.get("run")), event["pid"]].append(event)
            if event["event"] == FAULT and event["kind"] in _ENDPOINT_DOWN:
                self._outages.append(event["at"])

    def of(
        self, run: str, folder: str, job: Mapping[str, Any], later: int, ledger: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Why a job's id was not known when another was submitted; empty when nothing explains it.

        The claim has to be there, and no entry with the job's id. Then an answer was lost, or the process ended before
        it had recorded the id, or S3 refused that record. Or the one who submitted later had a clock by which the
        claim's lease was over.

        :param folder: the ledger's, as the journal names it.
        :param later: the number of the other submission.
        """
        number = int(str(job["track_id"]).rpartition("submission")[2])
        entries = sorted(name for name in ledger if number_of(name) == number)
        claim = ledger.get(entry_name(number, Entry.CLAIM), {})
        told = {"ledger": entries, "claimed_at": claim.get("claimed_at")}
        if claim and (ahead := self._is_over(run, folder, claim, ledger.get(entry_name(later, Entry.CLAIM), {}))):
            return {"because": f"a clock was {ahead:.0f} s ahead of the claim's, more than its lease", **told}
        if not claim or entry_name(number, Entry.JOB) in entries:
            return {}
        process = self._processes[run, claim["process"]["pid"]]
        if ("job recorded", folder, number) in {(e["event"], e.get("ledger"), e.get("submission")) for e in process}:
            return {}
        unknown = ledger.get(entry_name(number, Entry.UNKNOWN))
        because = self._lost_process(process) if unknown is None else self._lost_answer(job, unknown, process)
        return {"because": because, **told} if because else {}

    def _is_over(self, run: str, folder: str, claim: Event, later: Event) -> float | None:
        """By how many seconds one clock was ahead of the other, if that is more than the lease of a claim."""
        if "expires_at" not in claim or not later:
            return None
        lease = claim["expires_at"] - datetime.fromisoformat(claim["claimed_at"]).timestamp()
        ahead = self._ahead(run, folder, later) - self._ahead(run, folder, claim)
        return ahead if ahead > lease - _LEASE_LEFT_S else None

    def _ahead(self, run: str, folder: str, claim: Event) -> float:
        """How many seconds the clock of a claim's process was ahead when it claimed."""
        stepped = found = 0.0
        for event in self._processes[run, claim["process"]["pid"]]:
            if event["event"] == FAULT and event["kind"] == "clock":
                stepped += event["seconds"]
            elif event["event"] == "claim put" and event["ledger"] == folder:
                found = stepped
        return found

    def _lost_answer(self, job: Mapping[str, Any], unknown: Mapping[str, Any], process: Sequence[Event]) -> str | None:
        losing = sorted(set(job["faults"]) & set(LOSES_ANSWER))
        if losing:
            return f"the answer was lost: {', '.join(losing)}"
        for kind in _faults(process):
            if kind in _ENDPOINT_DOWN or kind.startswith("answer: "):
                return f"the answer was lost: {kind}"
        if any(abs(at - job["accepted_at"]) < _NEAR_S for at in self._outages):
            return "the endpoint was killed or frozen before it had answered"
        is_late = "no answer within" in str(unknown.get("error", {}).get("message"))
        return "no answer came in time" if is_late else None

    def _lost_process(self, process: Sequence[Event]) -> str | None:
        phases = [event["event"] for event in process if event["event"] in PHASES]
        if process and process[-1]["event"] == "ended" and process[-1]["status"] < 0 and phases:
            return f"its process was killed in the phase {phases[-1]!r}"
        refused = [kind for kind in _faults(process) if kind.startswith("s3 ")]
        return f"S3 did not take the record of its id: {', '.join(refused)}" if refused else None


def _faults(process: Sequence[Event]) -> list[str]:
    return [event["kind"] for event in process if event["event"] == FAULT]
