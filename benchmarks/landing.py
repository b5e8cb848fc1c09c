"""Landing compared: how much memory a large result takes on its way into S3, and how fast it goes.

    python -m benchmarks.landing --mib 512

Each method copies the same file from an HTTP server into S3, in a fresh process, whose resident memory is compared with
what it was after the imports:

- ``ours``: :func:`airflow_provider_modelslab.storage.landing.land` as it is: 4 parts in flight, SHA-256, container
  check and MD5 per part;
- ``upload_fileobj``: the body of ``requests`` given to boto3's ``upload_fileobj`` as it is: 10 parts in flight, nothing
  checked;
- ``http_to_s3``: the Amazon provider's own ``HttpToS3Operator``.

Checks and hashes cost speed, and a loopback without TLS shows it most.

The S3 side is a small server that reads and discards. It is not moto: moto keeps every object in memory on the same
machine and hashes it, so that one would measure moto. It speaks plain http: the client's cost of TLS is the same for
all. Source and sink run in processes of their own. Linux only: memory is read from ``/proc``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import add_json_option, print_table, write_json

MIB = 1024 * 1024
BUCKET = "discarded"
ALLOWED_RSS_MIB = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512, help="size of the file in MiB (default 512)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each method; the median is shown (default 3)")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--latency-ms", type=int, default=0, help="the sink answers each PUT this late (default 0)")
    add_json_option(parser)
    parser.add_argument("--method", choices=list(METHODS), help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--sink", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        print(json.dumps(METHODS[arguments.method](arguments.source, arguments.sink)))
        return 0

    figures: dict[str, dict[str, float | str]] = {}
    with ExitStack() as stack:
        source = stack.enter_context(_server("benchmarks.landing_servers", "source", str(arguments.mib * MIB)))
        sink = stack.enter_context(_server("benchmarks.landing_servers", "sink", str(arguments.latency_ms)))
        for method in arguments.methods:
            runs = [_measure(method, source, sink) for _ in range(arguments.runs)]
            figures[method] = {
                "mib_per_s": round(arguments.mib / statistics.median(run["seconds"] for run in runs), 1),
                "rss_mib": round(statistics.median(run["rss_mib"] for run in runs), 1),
            }
    print_table(
        f"HTTP to S3, {arguments.mib} MiB, PUTs answered after {arguments.latency_ms} ms, median of {arguments.runs}",
        ["method", "MiB/s", "memory MiB"],
        [[method, values["mib_per_s"], values["rss_mib"]] for method, values in figures.items()],
    )
    write_json(arguments.json, figures)
    ours = float(figures.get("ours", {}).get("rss_mib", 0))
    if ours > ALLOWED_RSS_MIB:
        print(f"\nours took {ours} MiB; {ALLOWED_RSS_MIB} MiB are allowed", file=sys.stderr)
        return 1
    return 0


def _ours(source: str, sink: str) -> dict[str, float]:
    import boto3

    from airflow_provider_modelslab.storage.landing import land
    from airflow_provider_modelslab.storage.profile import S3Profile
    from airflow_provider_modelslab.storage.uri import S3Uri

    config = S3Profile(endpoint_url=sink).client_config()
    s3 = boto3.session.Session("a", "b", region_name="us-east-1").client("s3", endpoint_url=sink, config=config)
    return _watched(lambda: land([source], S3Uri(BUCKET, _key()), s3, expected_type="mp4"))


def _upload_fileobj(source: str, sink: str) -> dict[str, float]:
    import boto3
    import requests

    from airflow_provider_modelslab.storage.profile import S3Profile

    config = S3Profile(endpoint_url=sink).client_config()
    s3 = boto3.session.Session("a", "b", region_name="us-east-1").client("s3", endpoint_url=sink, config=config)

    def copy() -> None:
        with requests.get(source, stream=True, timeout=60) as response:
            response.raise_for_status()
            body: Any = response.raw
            s3.upload_fileobj(body, BUCKET, _key())

    return _watched(copy)


def _http_to_s3(source: str, sink: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as home:
        base, _, endpoint = source.rpartition("/")
        os.environ["AIRFLOW_HOME"] = home
        os.environ["AIRFLOW_CONN_SOURCE"] = json.dumps({"conn_type": "http", "host": base})
        os.environ["AIRFLOW_CONN_SINK"] = json.dumps(
            {
                "conn_type": "aws",
                "login": "a",
                "password": "b",
                "extra": {
                    "region_name": "us-east-1",
                    "endpoint_url": sink,
                    "config_kwargs": {
                        "s3": {"addressing_style": "path"},
                        "request_checksum_calculation": "when_required",
                    },
                },
            }
        )
        from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator

        operator = HttpToS3Operator(
            task_id="copy",
            endpoint=endpoint,
            http_conn_id="source",
            aws_conn_id="sink",
            s3_bucket=BUCKET,
            s3_key=_key(),
        )
        _ = operator.s3_hook.conn  # made before the clock starts, as for the others
        return _watched(lambda: operator.execute({}))


METHODS: dict[str, Callable[[str, str], dict[str, float]]] = {
    "ours": _ours,
    "upload_fileobj": _upload_fileobj,
    "http_to_s3": _http_to_s3,
}


def _key() -> str:
    return f"{os.getpid()}.mp4"


def _watched(work: Callable[[], object]) -> dict[str, float]:
    """Seconds, and how far resident memory rose above what it was before."""
    before = _status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "rss_mib": _status_mib("VmHWM") - before}


def _status_mib(field: str) -> float:
    text = Path("/proc/self/status").read_text()
    match = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024


def _measure(method: str, source: str, sink: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.landing", "--method", method, "--source", source, "--sink", sink]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{method} failed:\n{done.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


@contextmanager
def _server(module: str, *arguments: str) -> Iterator[str]:
    """A server of its own process; it writes its address on the first line."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
