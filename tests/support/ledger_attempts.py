"""Attempts at the same result at once, each with a client of its own, in threads or in processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import boto3

from airflow_provider_modelslab.ledger.model import Submission
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.paid_jobs import FakeCaller, paid_job
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Place", "attempt", "attempts_of_a_process"]


class _Barrier(Protocol):
    def wait(self, timeout: float | None = None) -> int: ...


@dataclass(frozen=True)
class Place:
    """A server, as another process can be told of it, and the bucket of the ledgers."""

    endpoint_url: str
    ca_path: str
    access_key: str
    secret_key: str
    bucket: str

    @classmethod
    def of(cls, server: S3Server, bucket: str) -> Place:
        """On a server of this process."""
        return cls(server.endpoint_url, str(server.ca_path), server.access_key, server.secret_key, bucket)

    def client(self) -> S3Client:
        """As the package makes it."""
        profile = S3Profile(region="us-east-1", endpoint_url=self.endpoint_url)
        session = boto3.session.Session(self.access_key, self.secret_key, region_name="us-east-1")
        config = profile.client_config()
        return session.client("s3", endpoint_url=self.endpoint_url, verify=self.ca_path, config=config)


def attempt(s3: S3Client, folder: S3Uri, submit: Callable[[], str], all_ready: Callable[[], object]) -> str:
    """One attempt at the result whose ledger is ``folder``; the id of the job that it ends with.

    :param all_ready: waits until every attempt has seen that nothing was submitted, and is about to claim.

    It polls the claims of others more often than it would, only so that the test ends sooner.
    """
    ledger = Ledger(S3LedgerStore(s3, folder), sleep=lambda seconds: time.sleep(min(seconds, 0.2)))
    job = paid_job(
        ledger,
        lambda number: (Job(submit(), "conn", submitted_at=time.time()), None),
        caller=FakeCaller(on_confirm=all_ready),
    )
    found = job.acquire()
    assert isinstance(found, Submission)
    return found.job.job_id


def attempts_of_a_process(place: Place, rounds: int, names: list[str], barrier: _Barrier, folder: Path) -> None:
    """For each name one attempt in each round, at the same time as those of all processes.

    Written to ``folder``: a line in ``bills`` for each submission, and the jobs that the attempts ended with.
    """
    with ThreadPoolExecutor(len(names)) as pool:
        for done in [pool.submit(_attempts, place.client(), place, rounds, name, barrier, folder) for name in names]:
            done.result()


def _attempts(s3: S3Client, place: Place, rounds: int, name: str, barrier: _Barrier, folder: Path) -> None:
    with closing(s3), (folder / f"jobs-{name}").open("w") as jobs:
        for number in range(rounds):

            def submit(number: int = number) -> str:
                with (folder / "bills").open("a") as bills:
                    bills.write(f"{number}\n")
                time.sleep(0.02)  # so that the others meet a claim without an id
                return f"job-of-{name}"

            folder_of_round = S3Uri(place.bucket, f"ledger/{number}")
            jobs.write(attempt(s3, folder_of_round, submit, lambda: barrier.wait(60)) + "\n")
