"""Paid once, landed once: after thousands of random faults and kills, the bills are compared with the bucket.

    python -m benchmarks.faults --faults 3000 --seed 7

The endpoint is the real one in a process of its own, S3 is a real server over TLS, and the operators, their triggers
and the command line are the real ones, in processes that end of a real SIGKILL or SIGTERM. What goes wrong:

- Processes of workers, triggerers and commands are killed, or frozen until another attempt has begun, in each phase of
  a job's way (``fault_campaign/phases.py``) or a moment later; and they are started twice in the same instant.
- The endpoint is killed or frozen while a call is under way. It answers with errors, pages, nothing, half, drop by drop
  or never, before or after it has accepted a job; it loses and fails jobs, and serves cut and wrong files.
- S3 answers 503 or 403, or drops a connection before or after it has done what was asked, or answers too late.
- The clock of a process jumps by up to ten minutes.

Airflow's part is played: a scheduler would take three seconds of CPU for each of some thousand processes. A warm parent
forks one process for each execution, trigger, resumption and command, and decides about tries, deferrals and clears as
Airflow does. There is no ``task_state_store``, so the ledger in S3 alone has to remember. The same cases under a real
Airflow are in ``tests/system``. All waits are scaled down (``fault_campaign/warm.py``), so what takes time is the work.

A submission of which nobody knows whether it was accepted is given to a person (``on_unknown_submission="fail"``), who
looks for it in the bills and answers; or, in a quarter of the runs, it is submitted again (``"resubmit"``), which may
pay twice, and then each second payment has to be explained by an answer or a process that was lost at that moment.

All jobs are of one budget (``--budget``). Whenever a run has met its cap, a person raises it and clears the task. In
the end each job that was paid for has a reservation, each other reservation was given back or is held for a submission
of unknown outcome, and at no time were more jobs accepted than the cap allowed: ``overspent`` is 0.

The exit status is 1 for a result that was lost, for a second payment that nothing explains, for any with ``fail`` but
after a job that the endpoint failed or lost, and for anything else that is not as it should be. A seed draws the same
runs each time. What happens to a process is drawn from the seed too, with more weight on the phases that were hit least
so far; when things happen within it is up to the machine.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.fault_campaign import warm
from benchmarks.fault_campaign.plan import Planner
from benchmarks.report import about, add_json_option, machine, print_table, write_json

_PACKAGES = ("airflow-provider-modelslab", "apache-airflow-core", "boto3", "moto", "requests", "aiohttp")
_RESUBMIT = {"fail": 0.0, "resubmit": 1.0, "both": 0.25}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seed", type=int, default=1, help="of the plan (default 1)")
    add("--faults", type=int, default=300, help="faults and kills at least; runs are added until then (default 300)")
    add("--runs", type=int, default=1, help="tasks and commands at least (default 1)")
    add("--budget", type=int, default=20, help="jobs that all may submit, and at each raise as many more (default 20)")
    add("--processes", type=int, default=16, help="processes of workers and commands at once (default 16)")
    add("--on-unknown-submission", choices=tuple(_RESUBMIT), default="both", help="(default both, a quarter resubmit)")
    add("--skip", nargs="*", default=[], metavar="FAULT", help="faults of jobs to leave out, such as never_ending")
    add("--keep", type=Path, metavar="FOLDER", help="keep the journal and all logs there")
    add("--limit-s", type=float, default=3600.0, help="seconds after which it is given up (default 3600)")
    add_json_option(parser)
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    print(f"Seed {given.seed}", flush=True)
    planner = Planner(given.seed, resubmit=_RESUBMIT[given.on_unknown_submission], skip=given.skip)
    with tempfile.TemporaryDirectory(prefix="fault-campaign-") as temporary:
        folder = (given.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        warm.load(folder)
        from benchmarks.fault_campaign.campaign import Campaign  # loads the package, so not before

        found = Campaign(folder, planner, given.faults, given.runs, given.processes, given.limit_s, given.budget).run()
    _print(found)
    problems = _problems(found)
    for problem in problems:
        print(problem, file=sys.stderr)
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    again = ["--faults", str(given.faults), "--seed", str(given.seed)]
    again += ["--on-unknown-submission", given.on_unknown_submission] if given.on_unknown_submission != "both" else []
    again += ["--budget", str(given.budget)] if given.budget != parser.get_default("budget") else []
    again += ["--skip", *given.skip] if given.skip else []
    head = {**about("faults", again), "seed": given.seed, "versions": versions, "passed": not problems}
    write_json(given.json, {**head, **found})
    return 1 if problems else 0


def _problems(found: dict[str, Any]) -> list[str]:
    problems = [f"LOST {text}" for text in found["lost_clips"]]
    return [*problems, *found["wrong"], *(f"PAID TWICE {duplicate}" for duplicate in found["duplicate_jobs"])]


def _print(found: dict[str, Any]) -> None:
    rows = []
    for name, value in found.items():
        if isinstance(value, int | float):
            rows.append([name.replace("_", " "), "", f"{value:g}"])
        elif isinstance(value, dict) and name not in {"modes", "requests"}:
            rows += [[name.replace("_", " "), str(kind), f"{count}"] for kind, count in value.items()]
    print()
    print_table("Faults and kills", ["", "", ""], rows)
    for one in found["second_payment_jobs"]:
        print(f"{one['result']} paid {one['later']} after {one['earlier']}: {one['reason']}")
    print(f"\n{found['cpu_seconds']:.0f} s of CPU: two idle cores need at least half of that. {machine()}")


if __name__ == "__main__":
    sys.exit(main())
