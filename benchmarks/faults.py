"""Paid once, landed once: hundreds of random faults and kills, and then a look at the bills and the bucket.

    python -m benchmarks.faults --seed 7

The endpoint is a real process with faults of its own, S3 is a real server over TLS, and the operator and its trigger
are the real ones, in processes that die of a real SIGKILL: at named boundaries (before the claim, between the claim and
the submit, while the request is under way, before the id is written, while the result lands...) and at random moments.
Processes are also stopped until another attempt has begun and then woken, started twice in the same instant, and the
endpoint itself is killed and started again. Tasks that wait, and tasks that have landed, are cleared.

Airflow's part is played: a scheduler would take three seconds of CPU for each of some thousand processes. A warm parent
forks one process for each execution, trigger and resumption, and decides about tries, deferrals and clears as Airflow
does. There is no ``task_state_store``, so the ledger in S3 alone has to remember. The same cases under a real Airflow
are in ``tests/system``. A process is stopped for seconds only, well within the life of its claim.

A clip of which nobody knows whether it was accepted is given to a person (``on_unknown_submission="fail"``), who looks
for it in the bills and answers in the run's conf; or it is submitted again (``"resubmit"``), which may pay twice, and
then each duplicate has to be explained by an answer that was lost or a kill before the id was written.

The exit status is 1 for a clip that was lost, for any duplicate with ``fail``, for an unexplained one with
``resubmit``, and for anything else that is not as it should be. A seed gives the same plan each time; when things
happen within it is up to the machine.
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.fault_campaign.plan import SLOW, draw_clip
from benchmarks.report import about, add_json_option, print_table, write_json

if TYPE_CHECKING:
    from benchmarks.fault_campaign.clip import Clip

_PACKAGES = ("airflow-provider-modelslab", "apache-airflow-core", "boto3", "moto", "requests", "aiohttp")
_TOP = ("faults", "clips", "paid", "landed", "duplicates", "lost")
_MORE_CLIPS = 8
_QUIET_CLEARS = 24


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seed", type=int, default=1, help="of the plan (default 1)")
    add("--clips", type=int, default=120, help="clips at least (default 120)")
    add("--faults", type=int, default=320, help="faults and kills at least; clips are added until then (default 320)")
    add("--on-unknown-submission", choices=("fail", "resubmit", "both"), default="both", help="(default both)")
    add("--skip", nargs="*", default=[], metavar="FAULT", help="faults of the endpoint to leave out, such as lost_id")
    add("--keep", type=Path, metavar="FOLDER", help="keep the journal and all logs there")
    add("--limit-s", type=float, default=600.0, help="seconds after which a mode is given up (default 600)")
    add_json_option(parser)
    given = parser.parse_args(arguments)
    modes = ["fail", "resubmit"] if given.on_unknown_submission == "both" else [given.on_unknown_submission]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    print(f"Seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fault-campaign-") as temporary:
        folder = (given.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        _warm_up(folder)
        figures = {mode: _campaign(given, mode, folder / mode) for mode in modes}
    _print(figures)
    again = f"python -m benchmarks.faults --seed {given.seed} --clips {given.clips} --faults {given.faults}"
    again += f" --on-unknown-submission {given.on_unknown_submission}"
    again += f" --skip {' '.join(given.skip)}" if given.skip else ""
    print(f"\nThe same plan again: {again}")
    problems = [f"{mode}: {problem}" for mode in modes for problem in _problems(mode, figures[mode])]
    for problem in problems:
        print(problem, file=sys.stderr)
    if given.json is not None:
        head = {
            **about("faults"),
            "command": again,
            "seed": given.seed,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
            "passed": not problems,
        }
        # The figures of the operator's default stand at the top.
        top = {name: figures[modes[0]][name] for name in _TOP}
        write_json(given.json, {**head, "mode": modes[0], **top, "modes": figures})
    return 1 if problems else 0


def _warm_up(folder: Path) -> None:
    """Import once what every process needs; the forked ones have it for nothing."""
    os.environ["AIRFLOW_HOME"] = str(folder / "airflow")
    os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
    import aiohttp  # noqa: F401
    import botocore.session
    from airflow.providers.amazon.aws.hooks import s3  # noqa: F401

    from airflow_provider_modelslab.client import aio, sync  # noqa: F401
    from airflow_provider_modelslab.jobs import paid_job, task  # noqa: F401
    from airflow_provider_modelslab.storage import checks, landing, sidecar  # noqa: F401
    from benchmarks.fault_campaign import runner  # noqa: F401

    # botocore reads its description of S3 again for each session, which is most of a short process's work.
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)


def _campaign(given: argparse.Namespace, mode: str, folder: Path) -> dict[str, Any]:
    from benchmarks.fault_campaign.attempt import rehearse
    from benchmarks.fault_campaign.journal import Journal
    from benchmarks.fault_campaign.report import count_faults, figures
    from benchmarks.fault_campaign.runner import Runner
    from benchmarks.fault_campaign.stage import Stage
    from benchmarks.fault_campaign.verify import verify

    started = time.monotonic()
    logs = folder / "logs"
    logs.mkdir(parents=True)
    journal = Journal(folder / "journal.jsonl")
    stage = Stage(folder, seed=given.seed)
    runner = Runner(stage, journal=journal, logs=logs, seed=given.seed)
    try:
        stage.start()
        with stage.connected():
            clips = _clips(given, mode, range(given.clips))
            rehearse(clips[0].attempt())
            gc.collect()
            gc.freeze()  # or each child would copy the memory that its collector looks at
            assert threading.active_count() == 1, "forking needs a process without threads"
            runner.run(clips, limit_s=given.limit_s)
            while count_faults(stage.bills(), journal.read(), runner.counts) < given.faults:
                more = _clips(given, mode, range(len(clips), len(clips) + _MORE_CLIPS))
                runner.run(more, limit_s=given.limit_s)
                clips += more
            before = stage.bills()["requests"]
            quiet = clips[:: max(1, len(clips) // _QUIET_CLEARS)]
            runner.run(quiet, limit_s=given.limit_s, clear=True)
            bills = stage.bills()
        with stage.client() as s3:
            findings = verify(clips, bills, s3, journal.read())
        if bills["requests"] != before:
            findings.wrong.append(f"landed tasks that were cleared called the endpoint: {before}, {bills['requests']}")
        return figures(findings, clips, bills, journal.read(), runner.counts, seconds=time.monotonic() - started)
    finally:
        runner.close()
        stage.stop()


def _clips(given: argparse.Namespace, mode: str, numbers: range) -> list[Clip]:
    from benchmarks.fault_campaign.clip import Clip

    skip = given.skip if numbers.start == 0 else [*given.skip, *SLOW]  # those that are added are not to take a minute
    intensity = given.faults / given.clips / 2.2
    plans = [draw_clip(given.seed, number, intensity=intensity, skip=skip) for number in numbers]
    return [Clip(plan, mode) for plan in sorted(plans, key=lambda plan: not plan.slow)]


def _problems(mode: str, found: dict[str, Any]) -> list[str]:
    problems = [f"LOST {text}" for text in found["lost_clips"]]
    problems += found["wrong"]
    for duplicate in found["duplicate_jobs"]:
        if mode == "fail" or not duplicate["evidence"]:
            problems.append(f"PAID TWICE {duplicate}")
    return problems


def _print(figures: dict[str, dict[str, Any]]) -> None:
    print()
    modes = list(figures)
    names: list[tuple[str, str]] = []
    for found in figures.values():
        for name, value in found.items():
            if isinstance(value, dict) and name != "requests":
                names += [(name, kind) for kind in value if (name, kind) not in names]
            elif isinstance(value, int | float):
                names += [(name, "")] if (name, "") not in names else []
    order = list(dict.fromkeys(name for name, _ in names))
    rows = []
    for name, kind in sorted(names, key=lambda one: order.index(one[0])):
        values = [found[name].get(kind, 0) if kind else found[name] for found in figures.values()]
        rows.append([name.replace("_", " "), kind, *(f"{value:g}" for value in values)])
    print_table("Faults and kills, by on_unknown_submission", ["", "", *modes], rows)
    for mode, found in figures.items():
        for duplicate in found["duplicate_jobs"]:
            told = duplicate["evidence"].get("because", "NOTHING EXPLAINS IT")
            entries = ", ".join(duplicate["evidence"].get("ledger", []))
            print(
                f"{mode}: {duplicate['clip']} paid job {duplicate['later']} after {duplicate['earlier']}: {told}; "
                f"ledger: {entries}"
            )


if __name__ == "__main__":
    sys.exit(main())
