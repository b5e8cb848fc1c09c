"""Thousands of waiting jobs in one triggerer: what they cost, compared with two other ways to wait.

    python -m benchmarks.waiting --json benchmarks/results/waiting.json

Each contender runs 1,000, 5,000 and 10,000 triggers, one per job, in Airflow's own ``TriggerRunner`` in a process of
its own, against an endpoint in another process that answers every look after 200 ms with "processing":

* ``ours``: ``ModelsLabVideo2VideoTrigger`` with the default poll intervals (2 s, growing to 30 s less 0 to 20 %);
* ``http``: the HTTP provider's ``HttpEventTrigger``, the one of its triggers that can look at an answer's body;
* ``thread``: a blocking call in ``asyncio.to_thread`` for each look; both of these look every 27 s, our mean.

The figures, all taken once the looks have reached their longest interval:

* on schedule: the looks that the endpoint saw in the window, as a share of these and the missing ones: one is missing
  for each longest interval, plus 10 % and the latency, that went by without a look at a job. For ours, "exact" is the
  stricter share of looks begun within 1 s or 10 % of their own pause after they were due;
* CPU per look, and memory per job: the process's, less those of as many triggers that wait for nothing (the memory of
  ``batch``, one ``ModelsLabBatchTrigger`` for all the jobs, is given whole);
* longest block: the most that a beat of 10 ms in the loop came late, from the first trigger on, whatever the machine
  does. It includes runs of Python's garbage collector ("gc" is the longest one), which go through all that Airflow has
  loaded and keeps for its triggers; "no gc" is the longest block without them. What came during a run of 50 ms or more
  is done after it: "backlog" is the longest block of the 100 ms after such a run, without the run. "cpu" is the most
  that the loop's thread was busy between two beats, collector left out. The figures of the triggers that wait for
  nothing are beside them.

The exit code is 1 unless, at 5,000 jobs, ours is 95 % on schedule by both measures, takes 20 kB a job at most and never
blocks the loop for more than 100 ms, collector left out: run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import about, machine, print_table, write_json
from benchmarks.waiting_server import LATENCY

INTERVALS = {"ours": 30.0, "batch": 30.0, "http": 27.0, "thread": 27.0}
"""The longest pause between two looks."""
SETTLE = {"ours": 66.0, "batch": 66.0, "http": 30.0, "thread": 30.0}
"""Seconds from the last trigger's start to the window: ours take 64 s from a pause of 2 s to one of 30 s."""
CHECKED = 5000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 5000, 10000], metavar="N")
    parser.add_argument("--contenders", nargs="+", default=["ours", "batch", "http", "thread"], choices=list(INTERVALS))
    parser.add_argument("--window", type=float, default=60.0, help="seconds that are measured (default 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = []
    for jobs in arguments.jobs:
        idle = _measure("idle", jobs, 5.0, min(arguments.window, 10.0))
        row: dict[str, Any] = {"jobs": jobs}
        for contender in arguments.contenders:
            found = _measure(contender, jobs, SETTLE[contender], arguments.window)
            figures = _figures(contender, jobs, found, idle)
            print(f"{jobs} jobs, {contender}: {json.dumps(figures)}", file=sys.stderr, flush=True)
            if contender == "ours":
                row |= figures
            else:
                row[contender] = figures
        row["idle"] = {
            name: round(idle[name], 1)
            for name in (
                "longest_block_ms",
                "longest_block_cpu_ms",
                "longest_block_without_gc_ms",
                "longest_backlog_of_gc_ms",
                "longest_gc_ms",
            )
        }
        row["machine"] = f"{machine()}, load {os.getloadavg()[0]:.1f}"
        row["gc_of_airflow_ms"] = round(idle["gc_of_airflow_ms"], 1)
        rows.append(row)
        if arguments.json is not None:
            _write(arguments.json, rows)
    _show(rows, arguments.contenders)
    return 0 if all(_good(row) for row in rows if row["jobs"] == CHECKED and "ours" in arguments.contenders) else 1


def _write(path: Path, rows: list[dict[str, Any]], arguments: list[str] | None = None) -> None:
    """The rows by their number of jobs; the first one says when and by which command they were made."""
    first, *others = sorted(rows, key=lambda row: int(row["jobs"]))
    write_json(path, [{**about("waiting", arguments), **first}, *others])


def _measure(contender: str, jobs: int, settle: float, window: float) -> dict[str, Any]:
    """Run one contender in a fresh process against a fresh endpoint."""
    with _endpoint() as url, tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")} | {
            "AIRFLOW_HOME": folder,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_MODELSLAB_DEFAULT": json.dumps({"conn_type": "modelslab", "host": url, "password": "key"}),
            "AIRFLOW_CONN_ENDPOINT": json.dumps({"conn_type": "http", "host": url}),
            "BENCHMARK_URL": url,
            "NO_PROXY": "127.0.0.1",
        }
        options = {"jobs": jobs, "settle": settle, "window": window, "out": out}
        command = [sys.executable, "-m", "benchmarks.waiting_triggerer", contender]
        command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
        log = Path(folder) / "log"
        with log.open("wb") as lines:
            done = subprocess.run(command, env=environment, stdout=lines, stderr=lines, check=False)
        if done.returncode:
            sys.exit(f"The triggerer of {contender} ended with {done.returncode}:\n{log.read_text()[-3000:]}")
        with urllib.request.urlopen(f"{url}/arrivals") as answer:  # noqa: S310 - our own
            return {**json.loads(out.read_text()), "arrivals": json.load(answer)}


@contextmanager
def _endpoint() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.waiting_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def _figures(contender: str, jobs: int, found: dict[str, Any], idle: dict[str, Any]) -> dict[str, Any]:
    interval = INTERVALS[contender]
    began, ended = found["began"], found["ended"]
    looks = sum(began <= at < ended for times in found["arrivals"].values() for at in times)
    idle_cpu = idle["cpu_s"] / (idle["ended"] - idle["began"])
    own, late = found["looks"]
    return {
        "on_schedule": round(_on_schedule(found["arrivals"], jobs, began, ended, interval), 4),
        **({"on_schedule_exact": round(1 - late / own, 4)} if own else {}),
        "looks_per_s": round(looks / (ended - began), 1),
        "cpu_ms_per_poll": round((found["cpu_s"] - idle_cpu * (ended - began)) / max(looks, 1) * 1000, 3),
        "kb_per_job": round((found["memory_kb"] - (idle["memory_kb"] if contender != "batch" else 0)) / jobs, 2),
        "longest_block_ms": round(found["longest_block_ms"], 1),
        "longest_block_cpu_ms": round(found["longest_block_cpu_ms"], 1),
        "longest_block_without_gc_ms": round(found["longest_block_without_gc_ms"], 1),
        "longest_backlog_of_gc_ms": round(found["longest_backlog_of_gc_ms"], 1),
        "longest_gc_ms": round(found["longest_gc_ms"], 1),
        "open_files": found["files"],
    }


def _on_schedule(arrivals: dict[str, list[float]], jobs: int, began: float, ended: float, interval: float) -> float:
    """The share of looks of the window that came in time; see the module's text."""
    allowed = interval * 1.1 + LATENCY
    good = bad = 0
    for number in range(jobs):
        times = arrivals.get(f"{number:07d}", [])
        seen = [began, *(at for at in times if at < ended)] if not times or times[0] >= began else times
        for earlier, later in itertools.pairwise(at for at in seen if at < ended):
            if later >= began:
                good += 1
                bad += int((later - earlier) / allowed)
        bad += int((ended - max(at for at in seen if at < ended)) / allowed)
    return good / max(good + bad, 1)


def _good(row: dict[str, Any]) -> bool:
    return bool(
        min(row["on_schedule"], row["on_schedule_exact"]) >= 0.95
        and row["kb_per_job"] <= 20
        and max(row["longest_block_without_gc_ms"], row["longest_backlog_of_gc_ms"]) <= 100
    )


def _show(rows: list[dict[str, Any]], contenders: list[str]) -> None:
    names = (
        "on_schedule",
        "looks_per_s",
        "cpu_ms_per_poll",
        "kb_per_job",
        "longest_block_ms",
        "longest_gc_ms",
        "longest_block_without_gc_ms",
        "longest_backlog_of_gc_ms",
        "longest_block_cpu_ms",
        "open_files",
    )
    lines: list[list[float | str]] = []
    for row in rows:
        for contender in contenders:
            figures = row if contender == "ours" else row[contender]
            cells = [figures[name] * 100 if name == "on_schedule" else float(figures[name]) for name in names]
            lines.append([f"{row['jobs']} {contender}", *cells])
    columns = ["jobs", "on schedule %", "looks/s", "CPU ms", "kB/job", "block ms", "gc ms", "no gc"]
    columns += ["backlog", "cpu ms", "files"]
    print_table("Waiting in one triggerer (Airflow's TriggerRunner), endpoint answers after 200 ms", columns, lines)


if __name__ == "__main__":
    sys.exit(main())
