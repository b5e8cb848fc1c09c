"""Sixteen attempts at the same result in the same instant, on real S3 servers: one submission, one job for all."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.ledger_attempts import Place, attempt, attempts_of_a_process
from tests.support.s3 import S3Server

ATTEMPTS = 16
PROCESSES, PROCESS_ROUNDS = 4, 5
ROUNDS = 20


@pytest.mark.slow
def test_threads(any_server: S3Server, any_bucket: str) -> None:
    place = Place.of(any_server, any_bucket)
    with ExitStack() as stack:
        clients = [any_server.client() for _ in range(ATTEMPTS)]
        for client in clients:
            stack.callback(client.close)
        pool = stack.enter_context(ThreadPoolExecutor(ATTEMPTS))
        for number in range(ROUNDS):
            folder = S3Uri(place.bucket, f"ledger/{number}")
            barrier = threading.Barrier(ATTEMPTS)
            submissions: list[int] = []

            def one(
                place: int,
                folder: S3Uri = folder,
                barrier: threading.Barrier = barrier,
                submissions: list[int] = submissions,
            ) -> str:
                def submit() -> str:
                    submissions.append(place)
                    time.sleep(0.02)  # so that the others meet a claim without an id
                    return f"job-of-{place}"

                return attempt(clients[place], folder, submit, lambda: barrier.wait(60))

            jobs = set(pool.map(one, range(ATTEMPTS)))
            assert len(submissions) == 1, f"round {number}: {submissions}"
            assert jobs == {f"job-of-{submissions[0]}"}


@pytest.mark.slow
def test_processes(any_server: S3Server, any_bucket: str, tmp_path: Path) -> None:
    place = Place.of(any_server, any_bucket)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(ATTEMPTS)
    names = [str(number) for number in range(ATTEMPTS)]
    processes = [
        context.Process(
            target=attempts_of_a_process, args=(place, PROCESS_ROUNDS, names[number::PROCESSES], barrier, tmp_path)
        )
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    assert Counter((tmp_path / "bills").read_text().split()) == {str(number): 1 for number in range(PROCESS_ROUNDS)}
    jobs = [(tmp_path / f"jobs-{name}").read_text().splitlines() for name in names]
    assert len(jobs[0]) == PROCESS_ROUNDS
    assert all(others == jobs[0] for others in jobs)
