"""Planning compared with listing: what it takes to find, filter and plan a prefix of 10,000 clips.

    python -m benchmarks.batch_plan --json benchmarks/results/batch_plan.json

Each row is a fresh process that talks over TLS to an S3 server (moto) in another process:

- ``listing``: the pages of ``list_objects_v2`` alone, read and counted;
- ``plan``: :func:`find_clips` and :func:`make_plan`: listed, filtered, validated, named, checked for collisions, with a
  fingerprint for each clip;
- ``plan, own prompts``: the same clips from a manifest of JSON lines where each has a prompt and a seed of its own, so
  each request is validated, and the objects are looked at once more;
- ``first run``: ``plan``, then one listing that tells which ledgers have entries;
- ``estimate``: ``first run``, then how many jobs and what they cost, as ``airflow modelslab plan`` prints it;
- ``airflow modelslab plan``: the command as a person types it, with all that Airflow loads first;
- ``rerun``: ``plan``, then the index of what has landed, when all clips have: all that a second run does.

Memory is the peak of the whole process, interpreter and imports included. Linux only: it is read from ``/proc``.
The server shares the machine, so the seconds hold its work too, and 50 ms that it takes to answer each listing, as S3
does (see ``benchmarks.batch_plan_server``).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.batch_plan_bucket import BUCKET, FOLDERS
from benchmarks.report import about, add_json_option, print_table, write_json

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tools.stack.s3 import S3Server

ALLOWED = {"plan": (10.0, 200.0), "airflow modelslab plan": (10.0, 200.0), "rerun": (5.0, 100.0)}
"""Seconds and MiB for 10,000 clips."""

COMMON: dict[str, Any] = {
    "model_id": "dark-sushi-mix",
    "prompt": "a watercolour",
    "output_type": "mp4",
    "instant_response": True,
}


def _full_server(objects: int, folder: Path) -> S3Server:
    """An S3 server whose bucket is full from the start."""
    # Late: the processes that are measured do not need them.
    from tools.stack.process import ServerProcess
    from tools.stack.s3 import S3Server

    server = S3Server(folder)
    command = [sys.executable, "-m", "benchmarks.batch_plan_server", str(objects), "-H", "127.0.0.1"]
    command += ["-p", server.endpoint_url.rpartition(":")[2], "-c", str(folder / "server.pem")]
    command += ["-k", str(folder / "server.key")]
    server.process = ServerProcess("the full S3 server", command, log=server.log_path)
    return server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10_000, help="clips below the prefix (default 10000)")
    parser.add_argument("--only", nargs="+", choices=list(WORK), metavar="WORK", help="rows to measure (default all)")
    add_json_option(parser)
    parser.add_argument("--work", choices=list(WORK), help=argparse.SUPPRESS)
    parser.add_argument("--server", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(_measured(arguments.work, json.loads(arguments.server))))
        return 0

    with tempfile.TemporaryDirectory() as folder, _full_server(arguments.objects, Path(folder)) as server:
        access = {
            "endpoint_url": server.endpoint_url,
            "verify": str(server.ca_path),
            "objects": arguments.objects,
            "folder": folder,
        }
        _remember_results(access)
        figures = {work: _in_a_process(work, access) for work in arguments.only or WORK}
    columns = ["seconds", "cpu_s", "peak_mib", "requests", "clips"]
    print_table(
        f"{arguments.objects} clips below a prefix",
        ["work", "seconds", "CPU s", "peak MiB", "requests", "clips"],
        [[work, *(float(values[name]) for name in columns)] for work, values in figures.items()],
    )
    write_json(arguments.json, {**about("batch_plan"), **figures})
    over = [
        work
        for work, (seconds, mib) in ALLOWED.items()
        if work in figures and (figures[work]["seconds"] > seconds or figures[work]["peak_mib"] > mib)
    ]
    for work in over if arguments.objects == 10_000 else ():
        print("\n{}: more than {} s or {} MiB".format(work, *ALLOWED[work]), file=sys.stderr)
    return 1 if over and arguments.objects == 10_000 else 0


def _client(access: dict[str, Any]) -> S3Client:
    import boto3

    from airflow_provider_modelslab.storage.boto_session import make_cheaper
    from airflow_provider_modelslab.storage.s3_profile import S3Profile

    profile = S3Profile(endpoint_url=access["endpoint_url"], region="us-east-1")
    session = boto3.session.Session("a", "b", region_name="us-east-1")
    make_cheaper(session)
    return session.client(
        "s3", endpoint_url=access["endpoint_url"], verify=access["verify"], config=profile.client_config()
    )


def _listing(s3: S3Client, access: dict[str, Any]) -> int:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="in/")
    return sum(len(page.get("Contents", [])) for page in pages)


def _planned(s3: S3Client, source: str) -> Any:
    from airflow_provider_modelslab.batch.planning.plan import make_plan
    from airflow_provider_modelslab.batch.sources.discovery import find_clips
    from airflow_provider_modelslab.storage.uri import S3Uri

    output = S3Uri(BUCKET, "out/")
    clips = find_clips(source, lambda: s3, output=output)
    return make_plan(clips, COMMON, output=output, conn_id="modelslab_default", s3_factory=lambda: s3)


def _plan(s3: S3Client, access: dict[str, Any]) -> int:
    return len(_planned(s3, f"s3://{BUCKET}/in/"))


def _own_prompts(s3: S3Client, access: dict[str, Any]) -> int:
    path = Path(access["folder"]) / "clips.jsonl"
    with path.open("w") as file:
        for number in range(access["objects"]):
            uri = f"s3://{BUCKET}/in/{number % FOLDERS:02d}/clip-{number:06d}.mp4"
            file.write(json.dumps({"init_video": uri, "prompt": f"painting number {number}", "seed": number}) + "\n")
    return len(_planned(s3, str(path)))


def _first_run(s3: S3Client, access: dict[str, Any]) -> int:
    from airflow_provider_modelslab.ledger.listing import LedgerRoot
    from airflow_provider_modelslab.storage.uri import S3Uri

    plan = _planned(s3, f"s3://{BUCKET}/in/")
    listing = LedgerRoot(s3, S3Uri(BUCKET, "_modelslab/ledger")).list(clip.destination for clip in plan)
    return sum(listing.is_new(clip.destination) for clip in plan)


def _estimate(s3: S3Client, access: dict[str, Any]) -> int:
    from airflow_provider_modelslab.api.prices import Prices
    from airflow_provider_modelslab.batch.planning.estimate import estimate
    from airflow_provider_modelslab.batch.results.tracker import BatchTracker
    from airflow_provider_modelslab.batch.running.limits import FailureLimit
    from airflow_provider_modelslab.ledger.attempt import AttemptId
    from airflow_provider_modelslab.ledger.model import LedgerPolicy
    from airflow_provider_modelslab.storage.uri import S3Uri

    prices = Prices.of({"currency": "EUR", "per_job": "0.10"})
    assert prices is not None
    plan, root = _planned(s3, f"s3://{BUCKET}/in/"), S3Uri(BUCKET, "new/ledger")
    tracker = BatchTracker(s3, root, plan, name="plan", limit=FailureLimit())
    found = estimate(
        tracker,
        tracker.begin(),
        lambda clip: prices.of_request(plan.request(clip), timeout=60),
        policy=LedgerPolicy("always"),
        attempt=AttemptId(),
    )
    return found.jobs


def _command(s3: S3Client, access: dict[str, Any]) -> int:
    os.environ["AIRFLOW_HOME"] = access["folder"]
    aws = {"login": "a", "password": "any-secret-key", "extra": {"verify": access["verify"]}}
    extra = {"bucket": BUCKET, "prefix": "new", "region": "us-east-1", "endpoint_url": access["endpoint_url"]}
    extra["prices"] = {"currency": "EUR", "per_job": "0.10"}
    modelslab = {"host": "http://127.0.0.1:9", "password": "any-api-key", "extra": extra}
    for kind, connection in (("aws", aws), ("modelslab", modelslab)):
        os.environ[f"AIRFLOW_CONN_{kind.upper()}_DEFAULT"] = json.dumps({"conn_type": kind, **connection})
    from airflow.cli.cli_parser import get_parser

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

    # The client whose requests are counted.
    ModelsLabHook.new_s3_client = lambda hook, **options: s3  # type: ignore[method-assign]
    words = ["modelslab", "plan", f"s3://{BUCKET}/in/", "--to", f"s3://{BUCKET}/new/", "--json"]
    args = get_parser().parse_args([*words, "--model-id", COMMON["model_id"], "--prompt", COMMON["prompt"]])
    with redirect_stdout(io.StringIO()) as out:
        args.func(args)
    return int(json.loads(out.getvalue())["jobs"])


def _index(s3: S3Client) -> Any:
    from airflow_provider_modelslab.batch.results.index import LandedIndex
    from airflow_provider_modelslab.storage.uri import S3Uri

    return LandedIndex(s3, S3Uri(BUCKET, "_modelslab/ledger"), S3Uri(BUCKET, "out/"))


def _rerun(s3: S3Client, access: dict[str, Any]) -> int:
    return len(_index(s3).find(_planned(s3, f"s3://{BUCKET}/in/")))


WORK: dict[str, Callable[[S3Client, dict[str, Any]], int]] = {
    "listing": _listing,
    "plan": _plan,
    "plan, own prompts": _own_prompts,
    "first run": _first_run,
    "estimate": _estimate,
    "airflow modelslab plan": _command,
    "rerun": _rerun,
}


def _remember_results(access: dict[str, Any]) -> None:
    """The index as a run that landed all clips leaves it."""
    s3 = _client(access)
    index = _index(s3)
    for clip in _planned(s3, f"s3://{BUCKET}/in/"):
        # The ETag of the one byte that each result has.
        index.add(clip, {"bytes": 1, "etag": "4b43b0aee35624cd95b910189b3dc231", "sha256": "0" * 64, "job_id": "1"})
    index.close()
    s3.close()


def _measured(work: str, access: dict[str, Any]) -> dict[str, float]:
    s3 = _client(access)
    requests = 0

    def count(**_: Any) -> None:
        nonlocal requests
        requests += 1

    s3.meta.events.register("before-send.s3", count)
    started, cpu = time.perf_counter(), time.process_time()
    clips = WORK[work](s3, access)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    match = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return {
        "seconds": round(seconds, 2),
        "cpu_s": round(cpu, 2),
        "peak_mib": round(int(match[1]) / 1024, 1),
        "requests": requests,
        "clips": clips,
    }


def _in_a_process(work: str, access: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.batch_plan", "--work", work, "--server", json.dumps(access)]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{work} failed:\n{done.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


if __name__ == "__main__":
    sys.exit(main())
