"""CPU and processes of tasks, compared with what the parent of the tasks was told by the kernel."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks.batch_cpu import CpuMeter, cpu_below

# Forks a child on each "fork", which burns CPU and waits to be told to end; "end" says what they took.
WORKER = """
import os, resource, sys, time
for line in sys.stdin:
    if line == "fork\\n":
        here, there = os.pipe()
        child = os.fork()
        if child == 0:
            while time.process_time() < 0.08:
                pass
            os.close(there)
            os.read(here, 1)
            os._exit(0)
    if line == "reap\\n":
        os.close(there)
        os.close(here)
        os.waitpid(child, 0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(used.ru_utime + used.ru_stime, flush=True)
"""


class Worker:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, word: str) -> float:
        """CPU seconds of the children so far, as the worker knows it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@pytest.fixture
def worker() -> Iterator[Worker]:
    found = Worker()
    with found.process:
        yield found
        found.process.kill()


def run_children(worker: Worker, count: int, meter: CpuMeter | None = None) -> float:
    for number in range(count):
        worker.tell("fork")
        deadline = time.monotonic() + 30
        while meter is not None and meter.processes <= number and time.monotonic() < deadline:
            time.sleep(0.01)
        worker.tell("reap")
    return worker.tell("how much")


def test_it_counts_what_the_children_took_and_how_many_they_were(worker: Worker) -> None:
    before = run_children(worker, 2)
    with CpuMeter([worker.process.pid], {"all": worker.process.pid}) as meter:
        after = run_children(worker, 3, meter)
    assert meter.processes == 3
    assert meter.tasks_s == pytest.approx(after - before, abs=0.03)
    assert meter.tasks_s >= 3 * 0.05
    assert meter.others_s["all"] == pytest.approx(meter.tasks_s + meter.supervisors_s, abs=0.03)


def test_it_waits_for_the_last_child(worker: Worker) -> None:
    reaping = threading.Timer(0.3, worker.tell, ["reap"])
    with CpuMeter([worker.process.pid], {}) as meter:
        worker.tell("fork")
        reaping.start()
    reaping.join()
    assert meter.tasks_s == pytest.approx(worker.tell("how much"), abs=0.03)
    assert meter.tasks_s >= 0.05


def test_a_tree_has_what_its_dead_members_took(worker: Worker) -> None:
    before = cpu_below(worker.process.pid)
    took = run_children(worker, 2)
    assert cpu_below(worker.process.pid) - before >= took - 0.03
