"""Many clips through a real Airflow: what each costs in CPU and task processes, and whether any is paid for twice.

    python -m benchmarks.batch --clips 200 1000 --json benchmarks/results/batch.json

Three ways, one after the other, in one Airflow (scheduler, triggerer, Dag processor, API server, LocalExecutor), with
the same endpoint, whose jobs are done at once and which keeps bills, and the same S3 server over TLS:

- ``ours``: ``ModelsLabVideo2VideoBatchOperator`` over a prefix;
- ``mapped``: ``ModelsLabVideo2VideoOperator.partial(...).expand(init_video=[...])``;
- ``today``: ``HttpOperator``, ``HttpSensor`` and a task with ``requests`` and ``S3Hook.load_bytes``, mapped.

The Dags are in ``benchmarks/batch_dags``. ``mapped`` and ``today`` take about a second of CPU for each clip, so they
get few clips; their figures are per clip all the same. As jobs are done at once, the sensor of ``today`` looks only
once for each clip; with jobs that take minutes it would look more often, in a process each time. ``today`` is also
spared the signing of links (its clips count as public), and takes no note of what it has paid for.

``CPU s`` is what the task processes took, and nothing else; how it is counted, and how exactly, says
``benchmarks.batch_cpu``. ``supervision`` is what LocalExecutor's workers took to supervise them. ``Airflow`` is all of
its parts together with both; with few clips that is mostly what it takes to idle. ``duplicates`` are the jobs that the
endpoint has billed beyond one for each clip. ``S3 calls`` are those that the S3 server got per clip, without the
endpoint's reads of clips by presigned links; the file has them by method too, listings as ``LIST``. The wall time is
Airflow's own for the run, from queued to ended.

LocalExecutor forks task processes from a scheduler that has much of Airflow loaded. Where each is started anew, as in
pods of Kubernetes, it costs some seconds more: in ``ours`` once, else two or three times for each clip.

The S3 server keeps its connections, as S3 does (see ``benchmarks.batch_s3_server``). Linux only. CPU seconds can rise
by tens of percent when others use the machine: they share its caches.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from benchmarks.batch_cpu import CpuMeter, executor_workers
from benchmarks.batch_s3_server import CALLS, keep_connections
from benchmarks.report import about, add_json_option, print_table, write_json
from tools.stack.process import PartFailedError, wait_until
from tools.stack.whole import LOCAL_KEY, WholeStack

BUCKET = "batch-benchmark"
DAGS = Path(__file__).parent / "batch_dags"
CLIP = Path(__file__).parents[1] / "dags_examples" / "media" / "clip.mp4"
TIMES_LESS = 60
CLIPS_PER_PROCESS = 100


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--clips", type=int, nargs="+", default=[200, 1000], metavar="N", help="of the batches (default 200 1000)")
    add("--mapped-clips", type=int, default=16, metavar="N", help="clips of the mapped operator; 0: none (default 16)")
    add("--today-clips", type=int, default=16, metavar="N", help="clips of today's way; 0: none (default 16)")
    add("--keep", type=Path, metavar="FOLDER", help="keep the logs and the state of all parts there")
    add_json_option(parser)
    given = parser.parse_args(arguments)
    if min(given.clips) < 1 or min(given.mapped_clips, given.today_clips) < 0:
        parser.error("--clips must be 1 or more, --mapped-clips and --today-clips 0 or more")
    if max(given.mapped_clips, given.today_clips) > 1024:
        parser.error("Airflow maps a task 1024 times at most ([core] max_map_length)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped

    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="batch-benchmark-") as temporary:
        folder = (given.keep or Path(temporary)).resolve()
        with _Bench(folder, mapped=given.mapped_clips, today=given.today_clips) as bench:
            batches = [bench.ours(clips) for clips in sorted(given.clips)]
            figures = {"ours": batches[-1]}
            if given.mapped_clips:
                figures["mapped"] = bench.each("mapped", given.mapped_clips)
            if given.today_clips:
                figures["today"] = bench.each("today", given.today_clips)
    load = [round(value, 2) for value in (*load_before, *os.getloadavg())]
    _print([*(("ours", batch) for batch in batches[:-1]), *figures.items()])
    print(f"\nLoad of the machine (1, 5 and 15 min): {load[:3]} before, {load[3:]} after")
    problems = _problems(figures)
    for problem in problems:
        print(problem, file=sys.stderr)
    if given.json is not None:
        head = {
            **about("batch"),
            "command": _command(given),  # with the defaults spelled out
            "load_before": load[:3],
            "load_after": load[3:],
            "passed": not problems,
        }
        write_json(given.json, {**head, **figures, "batches": batches})
    return 1 if problems else 0


def _command(given: argparse.Namespace) -> str:
    clips = " ".join(map(str, given.clips))
    return (
        f"python -m benchmarks.batch --clips {clips} --mapped-clips {given.mapped_clips} --today-clips "
        f"{given.today_clips}"
    )


class _Bench:
    """Airflow, the endpoint and S3, and the three ways through them; a context manager.

    :param folder: state and logs.
    :param mapped: clips of the mapped operator.
    :param today: clips of today's way.
    """

    def __init__(self, folder: Path, *, mapped: int, today: int) -> None:
        self._each = {"mapped": _keys("mapped", mapped), "today": _keys("today", today)}
        self._settings = folder / "settings.json"
        arguments = ("--engine", "echo", "--echo-seconds", "0", "--admin", "--log-level", "warning")
        env = {"BENCHMARK_BATCH": str(self._settings)}
        self._stack = WholeStack(folder, dags_folder=DAGS, bucket=BUCKET, endpoint_arguments=arguments, airflow_env=env)
        keep_connections(self._stack.s3)

    def __enter__(self) -> _Bench:
        try:
            self._start()
        except BaseException:
            self._stack.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.stop()

    def _start(self) -> None:
        stack = self._stack
        stack.start_s3()
        stack.start_endpoint()
        self._warm_up()
        # The Dags read it while they are parsed.
        public_url = f"{stack.s3.endpoint_url}/{BUCKET}"
        self._settings.write_text(json.dumps({"bucket": BUCKET, "public_url": public_url, **self._each}))
        stack.start_airflow(prefix="landed")
        stack.airflow.set_connection(
            "video_endpoint", conn_type="http", host=f"{stack.endpoint.url}/api/v1", password=LOCAL_KEY
        )
        stack.airflow.set_connection(
            "aws_of_today",
            conn_type="aws",
            login=stack.s3.access_key,
            password=stack.s3.secret_key,
            extra={
                "region_name": stack.s3.region,
                "verify": str(stack.s3.ca_path),
                "endpoint_url": stack.s3.endpoint_url,
            },
        )

    # -- the three ways -------------------------------------------------------------------------------------------

    def ours(self, clips: int) -> dict[str, Any]:
        """One batch; its figures."""
        name = f"ours-{clips}"
        conf = {"source": f"s3://{BUCKET}/in/{name}/", "destination": f"s3://{BUCKET}/out/{name}/"}
        return self._measure("ours", _keys(name, clips), f"out/{name}/", conf)

    def each(self, dag_id: str, clips: int) -> dict[str, Any]:
        """A task, or three, for each clip."""
        return self._measure(dag_id, self._each[dag_id], f"out/{dag_id}/", {})

    def _measure(self, dag_id: str, keys: Sequence[str], out: str, conf: Mapping[str, Any]) -> dict[str, Any]:
        airflow = self._stack.airflow
        print(f"{dag_id}: {len(keys)} clips", file=sys.stderr, flush=True)
        self._put_clips(keys)
        airflow.wait_for_dag(dag_id)
        self._call("POST", "admin/reset")
        parts = {name: part.pid for name, part in airflow.parts.items()}
        servers = {"endpoint": self._stack.endpoint.process.pid, "s3": self._stack.s3.process.pid}
        calls = self._s3_calls()
        with CpuMeter(executor_workers(parts["scheduler"]), parts | servers) as meter:
            run_id = airflow.trigger(dag_id, conf)
            wait_until(
                lambda: airflow.run_state(dag_id, run_id) in {"success", "failed"},
                list(airflow.parts.values()),
                what=f"the Dag {dag_id}",
                timeout=60 + 60.0 * len(keys),
                interval=2.0,  # each look costs the API server some CPU
            )
        calls = self._s3_calls() - calls
        self._require_success(dag_id, run_id)
        landed = self._landed(out)
        if landed != len(keys):
            raise RuntimeError(f"{dag_id}: {landed} of {len(keys)} results are in S3")
        jobs = int(self._call("GET", "admin/bills")["accepted"])
        run = airflow.call("GET", f"dags/{dag_id}/dagRuns/{run_id}")
        count = len(keys)
        return {
            "clips": count,
            "wall_s": round(_moment(run["end_date"]) - _moment(run["queued_at"]), 1),
            "cpu_s_per_clip": round(meter.tasks_s / count, 4),
            "s3_calls_per_clip": round(calls.total() / count, 2),
            "s3_calls": dict(sorted(calls.items())),
            "processes_per_clip": round(meter.processes / count, 4),
            "duplicates": jobs - count,
            "processes": meter.processes,
            "supervision_s_per_clip": round(meter.supervisors_s / count, 4),
            "airflow_cpu_s_per_clip": round(sum(meter.others_s[name] for name in parts) / count, 4),
            "cpu_s": {"tasks": round(meter.tasks_s, 2), **{k: round(v, 2) for k, v in meter.others_s.items()}},
        }

    def _warm_up(self) -> None:
        """One job, held until it is done: what is known from then on is how long jobs take."""
        asked = {
            "key": LOCAL_KEY,
            "init_video": "https://example.com/clip.mp4",
            "prompt": "warm up",
            "model_id": "echo",
        }
        answer = self._call("POST", "api/v1/enterprise/video/video2video", asked)
        assert answer["status"] == "success", answer

    def _s3_calls(self) -> Counter[str]:
        s3 = self._stack.s3
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{s3.endpoint_url}{CALLS}", verify=str(s3.ca_path), timeout=60)
            answer.raise_for_status()
            return Counter(answer.json())

    # -- details --------------------------------------------------------------------------------------------------

    def _put_clips(self, keys: Sequence[str]) -> None:
        clip = CLIP.read_bytes()
        with closing(self._stack.s3.client()) as s3, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: s3.put_object(Bucket=BUCKET, Key=key, Body=clip), keys))

    def _landed(self, prefix: str) -> int:
        with closing(self._stack.s3.client()) as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
            return sum(item["Key"].endswith(".mp4") for page in pages for item in page.get("Contents", []))

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, f"{self._stack.endpoint.url}/{path}", json=body, timeout=60)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            return found

    def _require_success(self, dag_id: str, run_id: str) -> None:
        airflow = self._stack.airflow
        if airflow.run_state(dag_id, run_id) == "success":
            return
        failed = [task for task in airflow.tasks(dag_id, run_id) if task["state"] == "failed"]
        log = airflow.task_log(dag_id, run_id, failed[0]["task_id"])[-4000:] if failed else ""
        raise PartFailedError(f"the Dag {dag_id}", f"failed; a task's log ends with:\n{log}")


def _keys(name: str, clips: int) -> list[str]:
    return [f"in/{name}/clip-{number:05d}.mp4" for number in range(clips)]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _print(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    print_table(
        "Many clips through Airflow; CPU seconds and task processes per clip",
        ["way", "clips", "wall s", "CPU s", "S3 calls", "supervision", "Airflow", "processes", "duplicates"],
        [
            [
                name,
                f"{found['clips']}",
                float(found["wall_s"]),
                f"{found['cpu_s_per_clip']:.3f}",
                f"{found['s3_calls_per_clip']:.2f}",
                f"{found['supervision_s_per_clip']:.3f}",
                f"{found['airflow_cpu_s_per_clip']:.3f}",
                f"{found['processes_per_clip']:.3f}",
                f"{found['duplicates']}",
            ]
            for name, found in rows
        ],
    )
    for name, found in rows:
        calls = ", ".join(f"{count} {method}" for method, count in found["s3_calls"].items())
        print(f"{name}, {found['clips']} clips: S3 calls {calls}")


def _problems(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is not as it should be."""
    problems = [
        f"{name}: {found['duplicates']} jobs more than clips" for name, found in figures.items() if found["duplicates"]
    ]
    ours = figures["ours"]
    if ours["processes"] > max(1, ours["clips"] / CLIPS_PER_PROCESS):
        problems.append(f"ours: {ours['processes']} task processes for {ours['clips']} clips")
    if "today" in figures and ours["clips"] >= 1000:
        times = figures["today"]["cpu_s_per_clip"] / ours["cpu_s_per_clip"]
        print(f"\ntoday takes {times:.0f} times the CPU of ours per clip")
        if times < TIMES_LESS:
            problems.append(f"ours: {times:.0f} times less CPU per clip than today; {TIMES_LESS} are asked for")
    return problems


if __name__ == "__main__":
    sys.exit(main())
