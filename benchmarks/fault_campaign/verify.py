"""What really happened, told from the outside: the objects in S3, the vendor's bills, the ledgers and the journal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.ledger.listing import result_folder
from airflow_provider_modelslab.ledger.model import Entry, entry_name, number_of
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.uri import S3Uri
from benchmarks.fault_campaign.attempt import DAG_ID, TASK_ID
from benchmarks.fault_campaign.clip import Clip
from benchmarks.fault_campaign.person import submission_of
from benchmarks.fault_campaign.plan import LOSES_ANSWER
from benchmarks.fault_campaign.stage import BUCKET, PREFIX

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Duplicate", "Findings", "ledger_of", "verify"]

_LEAVING = ("submitting", "submitted")  # the phases in which a job may exist whose id is not written
_NEAR_S = 0.5

Job = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A job that was paid although an earlier one of the clip was good.

    :param evidence: why the earlier job's id is not known: the ledger's entries of its submission, and what happened at
        the moment; empty when nothing explains it.
    """

    clip: str
    earlier: str
    later: str
    evidence: dict[str, Any]


@dataclass
class Findings:
    """What one campaign paid and what it has."""

    paid: int = 0
    landed: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    resubmitted_after_failure: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def unexplained(self) -> list[Duplicate]:
        """Duplicates that nothing explains."""
        return [found for found in self.duplicates if not found.evidence]


def verify(clips: Sequence[Clip], bills: Mapping[str, Any], s3: S3Client, journal: Sequence[Job]) -> Findings:
    """Look at everything."""
    findings = Findings(paid=len(bills["jobs"]))
    objects = _objects(s3)
    known = set()
    for clip in clips:
        name = clip.plan.name
        numbers = {submission_of(name, number): number for number in range(1, 100)}
        jobs = [job for job in bills["jobs"] if job["track_id"] in numbers]
        known |= {job["id"] for job in jobs}
        _check_objects(findings, clip, jobs, objects, s3)
        if any(clip.calls_when_cleared):
            findings.wrong.append(f"{name}: cleared after it had landed, it called the endpoint")
        ledger = S3LedgerStore(s3, ledger_of(name)).load()
        _check_bills(findings, name, [(numbers[job["track_id"]], job) for job in jobs], ledger, journal)
        findings.wrong += [f"{name}: {text}" for text in clip.unexpected]
    foreign = [job for job in bills["jobs"] if job["id"] not in known]
    findings.wrong += [f"job {job['id']} is no clip's: track_id {job['track_id']}" for job in foreign]
    return findings


def ledger_of(clip: str) -> S3Uri:
    """Where the ledger of a clip is."""
    return result_folder(S3Uri(BUCKET, f"{PREFIX}/_modelslab/ledger"), S3Uri(BUCKET, _key_of(clip)))


def _key_of(clip: str) -> str:
    """Where a clip's result lands."""
    return f"{PREFIX}/{DAG_ID}/{TASK_ID}/{clip}.mp4"


def _objects(s3: S3Client) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/{DAG_ID}/")
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def _check_objects(findings: Findings, clip: Clip, jobs: Sequence[Job], objects: Iterable[str], s3: S3Client) -> None:
    """Exactly one object and its sidecar, which tell of each other, of the clip's own job and of what XCom says."""
    name = clip.plan.name
    key = _key_of(name)
    mine = sorted(found for found in objects if found.startswith(key.removesuffix(".mp4")))
    if key not in mine:
        good = [str(job["id"]) for job in jobs if job["status"] == "success"]
        findings.wrong.append(f"{name}: nothing landed")
        if good:
            findings.lost.append(f"{name}: paid as job {', '.join(good)}")
        return
    if mine != [key, f"{key}.json"]:
        findings.wrong.append(f"{name}: there should be one object with its sidecar; there are {mine}")
        return
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    told = json.loads(s3.get_object(Bucket=BUCKET, Key=f"{key}.json")["Body"].read())
    digest = hashlib.sha256(body).hexdigest()
    if told["sha256"] != digest or told["bytes"] != len(body):
        findings.wrong.append(f"{name}: the sidecar tells of another object than the one beside it")
    if told["job_id"] not in {str(job["id"]) for job in jobs if job["status"] == "success"}:
        findings.wrong.append(f"{name}: job {told['job_id']} landed, which is no successful job of this clip")
    if not clip.manifests or any(one["sha256"] != digest for one in clip.manifests):
        findings.wrong.append(f"{name}: a manifest in XCom tells of another object")
    findings.landed += 1


def _check_bills(
    findings: Findings,
    clip: str,
    jobs: Sequence[tuple[int, Job]],
    ledger: Mapping[str, Mapping[str, Any]],
    journal: Sequence[Job],
) -> None:
    """Every job beyond the clip's first has to follow on one that the endpoint itself failed or lost."""
    for number, job in jobs[1:]:
        before = [(n, other) for n, other in jobs if other["id"] < job["id"]]
        good = [(n, other) for n, other in before if not _came_to_nothing(n, other, ledger)]
        if not good:
            findings.resubmitted_after_failure.append(f"{clip}: job {job['id']}, submission {number}")
            continue
        told = [_evidence(clip, n, other, ledger, journal) if n != number else {} for n, other in good]
        earlier, other = good[-1]
        evidence = told[-1] if all(told) else {}
        told_of = f"job {other['id']}, submission {earlier}"
        findings.duplicates.append(Duplicate(clip, told_of, str(job["id"]), evidence))


def _came_to_nothing(number: int, job: Job, ledger: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the endpoint failed the job, forgot it, or says of its id that it knows none."""
    if job["status"] in {"failed", "gone"}:
        return True
    code = ledger.get(entry_name(number, Entry.FAILED), {}).get("error", {}).get("code")
    return bool(code == "job_lost" and "lost_id" in job["faults"])


def _evidence(
    clip: str, number: int, job: Job, ledger: Mapping[str, Mapping[str, Any]], journal: Sequence[Job]
) -> dict[str, Any]:
    """Why nobody knew the job's id: it has a claim and no job entry, and an answer was lost or a process killed."""
    entries = sorted(name for name in ledger if number_of(name) == number)
    claim = ledger.get(entry_name(number, Entry.CLAIM), {})
    if not claim or entry_name(number, Entry.JOB) in entries:
        return {}
    told = {"ledger": entries, "claimed_at": claim["claimed_at"], "accepted_at": job["accepted_at"]}
    losing = sorted(set(job["faults"]) & set(LOSES_ANSWER))
    if entry_name(number, Entry.UNKNOWN) in entries:
        if losing:
            return {**told, "because": f"the answer was lost: {', '.join(losing)}"}
        for event in journal:
            if event["event"] == "the endpoint is killed" and 0 <= event["at"] - job["accepted_at"] < _NEAR_S:
                return {**told, "because": "the endpoint was killed before it had answered", "killed_at": event["at"]}
        return {}
    mine = [event for event in journal if event.get("clip") == clip and event.get("pid") == claim["process"]["pid"]]
    phases = [event["event"] for event in mine if event["event"] not in {"stopped", "woken", "ended"}]
    if mine and mine[-1]["event"] == "ended" and mine[-1]["status"] == -9 and phases[-1] in _LEAVING:
        return {**told, "because": f"its process was killed in the phase {phases[-1]!r}", "killed_at": mine[-1]["at"]}
    return {}
