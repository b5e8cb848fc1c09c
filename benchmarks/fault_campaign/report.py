"""One campaign's figures, from what was found and what was noted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.fault_campaign.clip import Clip
from benchmarks.fault_campaign.verify import Findings

__all__ = ["count_faults", "endpoint_faults", "figures", "kills_by_phase"]

_BEFORE_ACCEPTING = ("rate_limit", "error_before", "reset_before", "same_request_filter")
_NO_PHASE = {"ended", "stopped", "woken", "the task failed", "a person clears the waiting task"}

Events = Sequence[Mapping[str, Any]]


def endpoint_faults(bills: Mapping[str, Any]) -> dict[str, int]:
    """How many submits each fault of the endpoint hit; one that acts at every look at a job counts once for the job."""
    jobs = Counter(kind for job in bills["jobs"] for kind in job["faults"])
    found = {}
    for kind, acted in bills["faults"].items():
        # A hang may have been one before accepting, which is in no job's bill.
        found[kind] = acted if kind in {*_BEFORE_ACCEPTING, "hang"} else min(acted, jobs[kind])
    return {kind: count for kind, count in sorted(found.items()) if count}


def kills_by_phase(journal: Events, ending: str = "ended") -> dict[str, int]:
    """How many processes were killed (or ``stopped``) in each phase."""
    phase: dict[int, str] = {}
    found: Counter[str] = Counter()
    for event in journal:
        pid, what = event.get("pid"), event["event"]
        if pid is None:
            continue
        if what not in _NO_PHASE:
            role = "" if event["role"] != "trigger" else "trigger: "
            phase[pid] = f"{role}{what}"
        elif what == ending and (what != "ended" or event["status"] == -9):
            found[phase.get(pid, "start")] += 1
        if what == "ended":
            phase.pop(pid, None)
    return dict(found)


def count_faults(bills: Mapping[str, Any], journal: Events, counts: Mapping[str, int]) -> int:
    """All that went wrong on purpose; what a person cleared is not among it."""
    kills = sum(kills_by_phase(journal).values()) - counts.get("cleared while waiting", 0)
    others = sum(counts.get(kind, 0) for kind in ("stop", "twin", "endpoint killed"))
    return sum(endpoint_faults(bills).values()) + kills + others


def figures(
    findings: Findings,
    clips: Sequence[Clip],
    bills: Mapping[str, Any],
    journal: Events,
    counts: Mapping[str, int],
    *,
    seconds: float,
) -> dict[str, Any]:
    """Everything that a campaign is reported by, as plain JSON."""
    people: Counter[str] = Counter()
    for clip in clips:
        people += clip.counts
    retries = people.pop("retries", 0)
    return {
        "faults": count_faults(bills, journal, counts),
        "clips": len(clips),
        "submitted": sum(event["event"] == "submitting" for event in journal),
        "paid": findings.paid,
        "landed": findings.landed,
        "duplicates": len(findings.duplicates),
        "unexplained_duplicates": len(findings.unexplained),
        "lost": len(findings.lost),
        "resubmitted_after_failure": len(findings.resubmitted_after_failure),
        "processes": sum(event["event"] == "ended" for event in journal),
        "retries": retries,
        "interventions": dict(sorted(people.items())),
        "cleared": {kind: counts.get(kind, 0) for kind in ("cleared while waiting", "cleared when landed")},
        "endpoint_faults": endpoint_faults(bills),
        "endpoint_killed": counts.get("endpoint killed", 0),
        "twins": counts.get("twin", 0),
        "kills_by_phase": kills_by_phase(journal),
        "stops_by_phase": kills_by_phase(journal, "stopped"),
        "requests": bills["requests"],
        "duplicate_jobs": [asdict(found) for found in findings.duplicates],
        "lost_clips": findings.lost,
        "wrong": findings.wrong,
        "seconds": round(seconds, 1),
    }
