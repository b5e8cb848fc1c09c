"""What really happened, from the outside: the objects in S3, the vendor's bills and files, the ledgers, the journal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.ledger.listing import result_folder
from airflow_provider_modelslab.ledger.model import Entry, entry_name
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.uri import S3Uri
from benchmarks.fault_campaign.evidence import Evidence
from benchmarks.fault_campaign.run import BUCKET, DAG_ID, LEDGERS, PREFIX, Result, Run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Findings", "Payment", "ledger_of", "verify"]

Job = Mapping[str, Any]
Entries = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Payment:
    """A job that was paid although the result had one before.

    :param reason: why; empty when nothing explains it.
    :param details: what the reason was found by.
    """

    result: str
    earlier: str
    later: str
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Findings:
    """What one campaign paid and what it has.

    :param duplicates: second payments that must not be: of a result whose earlier job is good, unless the run was told
        to submit again when an outcome is unknown, and it was unknown.
    :param second_payments: the others, each with its reason.
    """

    paid: int = 0
    landed: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: list[Payment] = field(default_factory=list)
    second_payments: list[Payment] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def verify(
    runs: Sequence[Run],
    bills: Mapping[str, Any],
    s3: S3Client,
    journal: Sequence[Mapping[str, Any]],
    made: Callable[[str], bytes | None],
) -> Findings:
    """Look at everything.

    :param made: the endpoint's own copy of a job's result.
    """
    findings = Findings(paid=len(bills["jobs"]))
    evidence = Evidence(journal)
    objects = _objects(s3)
    jobs_of: dict[str, list[Job]] = {}
    for job in bills["jobs"]:
        jobs_of.setdefault(str(job["track_id"]).rpartition("/submission")[0], []).append(job)
    for run in runs:
        for result in run.results:
            jobs = jobs_of.pop(result.track, [])
            digest = _check_objects(findings, result, jobs, objects, s3, made)
            if digest is not None and run.plan.kind != "batch":
                _check_returned(findings, result, digest, run.returned)
            ledger = S3LedgerStore(s3, ledger_of(result)).load()
            _check_bills(findings, run, result, jobs, ledger, evidence)
        if run.plan.kind == "batch":
            _check_report(findings, run, s3)
        findings.wrong += [f"{run.plan.name}: {text}" for text in run.unexpected]
    findings.wrong += [
        f"job {job['id']} is no run's: track_id {job['track_id']}" for jobs in jobs_of.values() for job in jobs
    ]
    return findings


def ledger_of(result: Result) -> S3Uri:
    """Where the ledger of a result is."""
    return result_folder(LEDGERS, S3Uri(BUCKET, result.key))


def _objects(s3: S3Client) -> list[str]:
    places = (f"{PREFIX}/{DAG_ID}/", f"{PREFIX}/batches/", f"{PREFIX}/commands/")
    listing = s3.get_paginator("list_objects_v2")
    pages = (page for place in places for page in listing.paginate(Bucket=BUCKET, Prefix=place))
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def _check_objects(
    findings: Findings,
    result: Result,
    jobs: Sequence[Job],
    objects: Iterable[str],
    s3: S3Client,
    made: Callable[[str], bytes | None],
) -> str | None:
    """Exactly one object, byte for byte what the endpoint has made, and a sidecar that describes it; its digest."""
    name = result.name
    mine = sorted(key for key in objects if key.startswith(f"{name}."))
    good = {str(job["id"]) for job in jobs if job["status"] == "success"}
    if result.key not in mine:
        findings.wrong.append(f"{name}: nothing landed")
        if good:
            findings.lost.append(f"{name}: paid as job {', '.join(sorted(good))}")
        return None
    if mine != [result.key, f"{result.key}.json"]:
        findings.wrong.append(f"{name}: there should be one object with its sidecar; there are {mine}")
        return None
    body = s3.get_object(Bucket=BUCKET, Key=result.key)["Body"].read()
    sidecar = json.loads(s3.get_object(Bucket=BUCKET, Key=f"{result.key}.json")["Body"].read())
    digest = hashlib.sha256(body).hexdigest()
    if (sidecar["sha256"], sidecar["bytes"]) != (digest, len(body)):
        findings.wrong.append(f"{name}: the sidecar describes another object than the one beside it")
    if sidecar["job_id"] not in good:
        findings.wrong.append(f"{name}: job {sidecar['job_id']} landed, which is no successful job of this result")
    elif made(sidecar["job_id"]) != body:
        findings.lost.append(f"{name}: what landed is not what the endpoint made as job {sidecar['job_id']}")
    findings.landed += 1
    return digest


def _check_returned(findings: Findings, result: Result, digest: str, returned: Sequence[Mapping[str, Any]]) -> None:
    if not returned or any(one["sha256"] != digest for one in returned):
        findings.wrong.append(f"{result.name}: a manifest that was returned describes another object")


def _check_report(findings: Findings, run: Run, s3: S3Client) -> None:
    """The last report of a batch names all its results as they are."""
    name = run.plan.name
    if not run.returned:
        findings.wrong.append(f"{name}: the batch returned nothing")
        return
    place = S3Uri.parse(run.returned[-1]["manifest"])
    lines = [json.loads(line) for line in s3.get_object(Bucket=place.bucket, Key=place.key)["Body"].read().splitlines()]
    told = {str(line["uri"]): line["sha256"] for line in lines if line["status"] in {"landed", "skipped"}}
    for result in run.results:
        uri = str(S3Uri(BUCKET, result.key))
        there = s3.get_object(Bucket=BUCKET, Key=result.key)["Body"].read() if uri in told else b""
        if told.get(uri) != hashlib.sha256(there).hexdigest():
            findings.wrong.append(f"{name}: the batch's report describes {uri} as {told.get(uri)}")


def _check_bills(
    findings: Findings, run: Run, result: Result, jobs: Sequence[Job], ledger: Entries, evidence: Evidence
) -> None:
    """Every job beyond a result's first has to follow on one that the endpoint failed or lost, or be explained."""
    for position, job in enumerate(jobs[1:], start=1):
        number = _number(job)
        last = jobs[position - 1]
        told = (result.name, f"job {last['id']}, submission {_number(last)}", f"job {job['id']}, submission {number}")
        good = [one for one in jobs[:position] if _why_nothing(one, ledger) is None]
        if not good:
            findings.second_payments.append(Payment(*told, reason=str(_why_nothing(last, ledger))))
            continue
        found = [
            evidence.of(run.plan.name, ledger_of(result).key, one, number, ledger) if _number(one) != number else {}
            for one in good
        ]
        if all(found) and run.plan.unknown == "resubmit":
            reason = f"on_unknown_submission is 'resubmit', and {found[-1]['because']}"
            findings.second_payments.append(Payment(*told, reason, found[-1]))
        else:
            findings.duplicates.append(Payment(*told, details=found[-1]))


def _number(job: Job) -> int:
    """Of the submission."""
    return int(str(job["track_id"]).rpartition("submission")[2])


def _why_nothing(job: Job, ledger: Entries) -> str | None:
    """How the endpoint failed or lost a job; ``None`` for a good one."""
    if job["status"] == "failed":
        return "the job before failed at the endpoint"
    if job["status"] == "gone":
        return "the job before was cleared from the endpoint's queue"
    code = ledger.get(entry_name(_number(job), Entry.FAILED), {}).get("error", {}).get("code")
    lost = code == "job_lost" and "lost_id" in job["faults"]
    return "the endpoint said that it does not know the job before" if lost else None
