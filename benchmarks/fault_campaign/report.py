"""One campaign's figures, from what was found and what was noted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.fault_campaign.journal import FAULT
from benchmarks.fault_campaign.phases import PHASES
from benchmarks.fault_campaign.plan import KILLS
from benchmarks.fault_campaign.run import Run
from benchmarks.fault_campaign.verify import Findings, Payment

__all__ = ["endpoint_faults", "figures", "hits"]

_BEFORE_ACCEPTING = ("rate_limit", "error_before", "reset_before")

Events = Sequence[Mapping[str, Any]]


def endpoint_faults(bills: Mapping[str, Any]) -> dict[str, int]:
    """How many submits each fault of the endpoint hit; one that acts at every poll of a job counts once for the job."""
    jobs = Counter(kind for job in bills["jobs"] for kind in job["faults"])
    found = {}
    for kind, acted in bills["faults"].items():
        # A hang may have been one before accepting, which is in no job's bill.
        found[kind] = acted if kind in {*_BEFORE_ACCEPTING, "hang"} else min(acted, jobs[kind])
    return {kind: count for kind, count in sorted(found.items()) if count}


def hits(journal: Events) -> dict[str, int]:
    """How many kills and freezes came in each phase of a job's way."""
    found = Counter(event["phase"] for event in journal if event["event"] == FAULT and event["kind"] in KILLS)
    return {phase: found[phase] for phase in PHASES}


def figures(
    findings: Findings,
    runs: Sequence[Run],
    bills: Mapping[str, Any],
    journal: Events,
    counts: Mapping[str, int],
    budget: Mapping[str, int],
    *,
    seconds: float,
    cpu_s: float,
) -> dict[str, Any]:
    """Everything that a campaign is reported by, as plain JSON."""
    people: Counter[str] = Counter()
    for run in runs:
        people += run.counts
    retries = people.pop("retries", 0)
    noted = Counter(event["kind"] for event in journal if event["event"] == FAULT)
    asked = endpoint_faults(bills)
    faults = sum(noted.values()) + sum(asked.values())
    phases = hits(journal)
    least = min(phases, key=lambda phase: phases[phase])
    return {
        "faults": faults,
        "kills": sum(noted[kind] for kind in KILLS),
        "least_hit_phase": {"name": least, "hits": phases[least]},
        "clips": sum(len(run.results) for run in runs),
        "paid": findings.paid,
        "landed": findings.landed,
        "duplicates": len(findings.duplicates),
        "lost": len(findings.lost),
        "overspent": budget["overspent"],
        "seconds": round(seconds, 1),
        "faults_per_minute": round(60 * faults / seconds, 1),
        "cpu_seconds": round(cpu_s, 1),
        "cpu_seconds_per_fault": round(cpu_s / faults, 4) if faults else 0.0,
        "runs": dict(sorted(Counter(run.plan.kind for run in runs).items())),
        "modes": {mode: _mode(mode, runs, findings) for mode in ("fail", "resubmit")},
        "budget": dict(budget),
        "submitted": sum(event["event"] == "submit sent" for event in journal),
        "second_payments": _reasons(findings.second_payments),
        "processes": counts["processes"],
        "retries": retries,
        "interventions": dict(sorted(people.items())),
        "cleared": {kind: counts.get(kind, 0) for kind in ("cleared while waiting", "cleared when landed")},
        "fault_kinds": dict(sorted(noted.items())),
        "endpoint_faults": asked,
        "hits": phases,
        "requests": bills["requests"],
        "duplicate_jobs": [asdict(found) for found in findings.duplicates],
        "second_payment_jobs": [asdict(found) for found in findings.second_payments],
        "lost_clips": findings.lost,
        "wrong": findings.wrong,
    }


def _mode(mode: str, runs: Sequence[Run], findings: Findings) -> dict[str, Any]:
    """The results of the runs that do the same about submissions of unknown outcome."""
    names = {result.name for run in runs if run.plan.unknown == mode for result in run.results}
    again = [payment for payment in findings.second_payments if payment.result in names]
    return {
        "clips": len(names),
        "duplicates": sum(payment.result in names for payment in findings.duplicates),
        "second_payments": _reasons(again),
    }


def _reasons(payments: Sequence[Payment]) -> dict[str, int]:
    return dict(sorted(Counter(payment.reason for payment in payments).items()))
