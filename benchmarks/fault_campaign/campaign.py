"""One campaign from its start to what was found; in a process that :func:`.warm.load` has made ready."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.ledger.model import Entry, kind_of
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from benchmarks.fault_campaign import warm
from benchmarks.fault_campaign.allowance import Allowance
from benchmarks.fault_campaign.journal import Journal
from benchmarks.fault_campaign.plan import Planner
from benchmarks.fault_campaign.rehearsal import rehearse
from benchmarks.fault_campaign.report import figures
from benchmarks.fault_campaign.run import Run
from benchmarks.fault_campaign.runner import Runner
from benchmarks.fault_campaign.stage import Stage
from benchmarks.fault_campaign.verify import ledger_of, verify

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Campaign"]

_QUIET_CLEARS = 24


@dataclass
class Campaign:
    """What was asked for.

    :param faults: at least; runs are added until so many have acted.
    :param clips: results at least.
    :param processes: at once.
    :param limit_s: seconds after which it is given up.
    :param budget: jobs that all runs may submit together, and that a person adds whenever one has met the cap.
    """

    folder: Path
    planner: Planner
    faults: int
    clips: int
    processes: int
    limit_s: float
    budget: int

    def run(self) -> dict[str, Any]:
        """Its figures."""
        started, cpu = time.monotonic(), _cpu_s()
        logs = self.folder / "logs"
        logs.mkdir(parents=True)
        journal = Journal(self.folder / "journal.jsonl")
        stage = Stage(self.folder, seed=self.planner.seed, journal=journal.path)
        try:
            stage.start()
            with stage.connected(), stage.client() as s3:
                rehearse()
                stage.forget_bills()
                warm.settle()
                allowance = Allowance(s3, self.budget, journal)
                allowance.allow()
                runner = Runner(
                    stage,
                    s3,
                    self.planner,
                    allowance=allowance,
                    processes=self.processes,
                    journal=journal,
                    logs=logs,
                )
                try:
                    runner.run(self.faults, runs=self.clips, limit_s=self.limit_s)
                    before = stage.bills()["requests"]
                    runner.clear(_known_to_have_landed(runner.runs, s3), limit_s=self.limit_s)
                    bills = stage.bills()
                finally:
                    runner.close()
                events = journal.read()
                findings = verify(runner.runs, bills, s3, events, stage.made)
                budget, wrong = allowance.audit(runner.runs, bills["jobs"])
                findings.wrong += wrong
        finally:
            stage.stop()
        if bills["requests"] != before:
            findings.wrong.append(f"landed tasks that were cleared called the endpoint: {before}, {bills['requests']}")
        seconds, cpu_s = time.monotonic() - started, _cpu_s() - cpu
        return figures(findings, runner.runs, bills, events, runner.counts, budget, seconds=seconds, cpu_s=cpu_s)


def _cpu_s() -> float:
    """Of this process and of all its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _known_to_have_landed(runs: list[Run], s3: S3Client) -> list[Run]:
    """Some runs all of whose ledgers say that the result has landed: S3 may have refused to take that entry."""
    return [
        run
        for run in runs[:: max(1, len(runs) // _QUIET_CLEARS)]
        if all(Entry.LANDED in map(kind_of, S3LedgerStore(s3, ledger_of(result)).names()) for result in run.results)
    ]
