"""A budget that many processes share: jobs reserved at the same time, on real S3 servers over TLS.

Each process reserves as a batch does: a slot before each submit, several together, and what became of them written with
the next. Exactly the cap is granted, whoever is quicker. ``calls_per_grant`` are the S3 calls that the budget adds for
each job that it grants, ``calls_per_clip`` for each clip that wanted one; a batch ends with its first refusal, so calls
after it are counted apart. ``--submit-s`` is the time that a submit takes; by default none, so that all processes do
nothing but reserve, which no batch does.

    python -m benchmarks.budget [--store moto radosgw] [--processes 16] [--reservations 2000] [--cap 1000] [--json FILE]

Mapped tasks of one clip each are measured too: they reserve one slot at a time with a fresh reading of the state, with
a quarter of the processes, and a twentieth of the reservations and of the cap.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import resource
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from airflow_provider_modelslab.api.errors import BudgetExhaustedError
from airflow_provider_modelslab.budget.definition import Caps
from airflow_provider_modelslab.budget.log import S3BudgetLog
from airflow_provider_modelslab.budget.model import Change
from airflow_provider_modelslab.budget.service import MAX_BLOCK, Budget, Wanted
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri
from benchmarks.report import about, add_json_option, print_table, write_json
from tools.stack.radosgw import RadosGateway
from tools.stack.s3 import S3Server

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from mypy_boto3_s3 import S3Client

__all__ = ["Load", "measure"]

BUCKET = "budgets"
STORES = {"moto": S3Server, "radosgw": RadosGateway}


@dataclass(frozen=True)
class Load:
    """What is asked of the budget.

    :param reservations: of all processes together.
    :param cap: jobs that the budget allows.
    :param single: whether each reservation is a task of its own.
    """

    processes: int = 16
    reservations: int = 2000
    cap: int = 1000
    single: bool = False
    submit_s: float = 0.0

    def of_single_clips(self) -> Load:
        """The smaller load of mapped tasks."""
        return Load(max(1, self.processes // 4), self.reservations // 20, self.cap // 20, True, self.submit_s)


@dataclass(frozen=True)
class _Place:
    endpoint_url: str
    ca_path: str
    access_key: str
    secret_key: str
    region: str

    def client(self, calls: Counter[str]) -> S3Client:
        config = S3Profile(region=self.region, endpoint_url=self.endpoint_url).client_config()
        session = boto3.session.Session(self.access_key, self.secret_key, region_name=self.region)
        s3: S3Client = session.client("s3", endpoint_url=self.endpoint_url, verify=self.ca_path, config=config)

        def note(model: Any, **_: Any) -> None:
            calls[model.name] += 1

        s3.meta.events.register("before-call.s3", note)
        return s3


def measure(server: S3Server, load: Load, folder: str = "budget") -> dict[str, Any]:
    """Run the processes; what was granted, refused and over-spent, how quickly, and by how many calls."""
    place = _Place(server.endpoint_url, str(server.ca_path), server.access_key, server.secret_key, server.region)
    s3 = place.client(Counter())
    s3.create_bucket(Bucket=BUCKET)
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[dict[str, float]] = context.Queue()
    barrier = context.Barrier(load.processes + 1)
    share = load.reservations // load.processes
    processes = [
        context.Process(target=_reserve, args=(place, load, folder, number, share, barrier, results))
        for number in range(load.processes)
    ]
    for process in processes:
        process.start()
    barrier.wait(300)
    began = time.monotonic()
    parts: list[dict[str, float]] = []
    while len(parts) < len(processes):
        if any(process.exitcode for process in processes):
            raise RuntimeError("a process has failed; its traceback is in stderr")
        with suppress(queue.Empty):
            parts.append(results.get(timeout=1))
    seconds = time.monotonic() - began
    for process in processes:
        process.join()
    state = S3BudgetLog(s3, S3Uri(BUCKET, folder)).load()[1]
    s3.close()
    sums = {name: sum(part[name] for part in parts) for name in parts[0]}
    granted = int(sums["granted"])
    return {
        "processes": load.processes,
        "reservations": share * load.processes,
        "cap": load.cap,
        "single": load.single,
        "submit_s": load.submit_s,
        "granted": granted,
        "refused": int(sums["refused"]),
        "overspent": max(0, granted - load.cap),
        "recorded": state.total().jobs,
        "open": len(state.open),
        "seconds": round(seconds, 2),
        "per_s": round(share * load.processes / seconds, 1),
        "calls_per_grant": round(sums["calls"] / max(granted, 1), 3),
        "calls_per_clip": round(sums["calls"] / (share * load.processes), 3),
        "calls_per_refusal": round(sums["more_calls"] / max(sums["refused"], 1), 3),
        "client_cpu_ms_per_grant": round(1000 * sums["cpu_s"] / max(granted, 1), 2),
    }


def _reserve(
    place: _Place,
    load: Load,
    folder: str,
    number: int,
    share: int,
    barrier: Barrier,
    results: multiprocessing.Queue[dict[str, float]],
) -> None:
    calls: Counter[str] = Counter()
    s3 = place.client(calls)

    def open_budget() -> Budget:
        return Budget(
            S3BudgetLog(s3, S3Uri(BUCKET, folder)),
            Caps(load.cap),
            title="the budget of the benchmark",
            how_to_raise="Raise it",
            user=f"benchmark.task{number}",
            read_ledger=_no_ledger,
        )

    wanted = [Wanted(f"s3://{BUCKET}/ledger/{number}/{one}") for one in range(share)]
    budget, granted, refused, until_refused = open_budget(), 0, 0, 0
    s3.list_objects_v2(Bucket=BUCKET, MaxKeys=1)  # the connection is made
    calls.clear()
    barrier.wait(300)
    began = _cpu_s()
    for index, one in enumerate(wanted):
        coming = [] if load.single else wanted[index + 1 : index + MAX_BLOCK]
        try:
            slot_id = budget.reserve(one, lambda coming=coming: coming)  # type: ignore[misc]
        except BudgetExhaustedError:
            refused += 1
            until_refused = until_refused or calls.total()
            continue
        granted += budget.may_submit(slot_id)
        time.sleep(load.submit_s)
        budget.settle(Change(slot_id, "spent"))
        if load.single:
            budget.close()
            budget = open_budget()
    budget.close()
    until = until_refused or calls.total()
    results.put(
        {
            "granted": granted,
            "refused": refused,
            "calls": until,
            "more_calls": calls.total() - until,
            "cpu_s": _cpu_s() - began,
        }
    )
    s3.close()


def _no_ledger(uri: str) -> Mapping[str, Mapping[str, Any]]:
    raise AssertionError(f"nobody has died, so {uri} is not read")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=STORES, nargs="+", default=["moto"])
    parser.add_argument("--processes", type=int, default=Load.processes)
    parser.add_argument("--reservations", type=int, default=Load.reservations)
    parser.add_argument("--cap", type=int, default=Load.cap)
    parser.add_argument("--submit-s", type=float, default=Load.submit_s)
    add_json_option(parser)
    given = parser.parse_args()
    batches = Load(given.processes, given.reservations, given.cap, submit_s=given.submit_s)
    stores: dict[str, dict[str, Any]] = {}
    for store in given.store:
        with STORES[store]() as server:
            stores[store] = {
                "batches": measure(server, batches),
                "single": measure(server, batches.of_single_clips(), "single"),
            }
        columns = list(stores[store])
        rows = [[name, *(str(stores[store][kind][name]) for kind in columns)] for name in stores[store]["batches"]]
        print_table(f"A budget of {batches.cap} jobs, {store}", ["figure", *columns], rows)
    write_json(given.json, {**about("budget"), "stores": stores})


if __name__ == "__main__":
    main()
