"""Landing compared: memory and speed of copying to S3, for one large result and for many small results.

    python -m benchmarks.landing --json benchmarks/results/landing.json

Each method copies the same file from an HTTP server into S3, in a fresh process, whose resident memory is compared with
what it was after the imports:

- ``ours``: :func:`airflow_provider_modelslab.storage.landing.land` as it is: 4 parts in flight, container check, and
  SHA-256 of the whole and of each part, which the store repeats;
- ``upload_fileobj``: the body of ``requests`` given to boto3's ``upload_fileobj`` as it is: 10 parts in flight, nothing
  checked;
- ``http_to_s3``: the Amazon provider's own ``HttpToS3Operator``.

Checks and hashes cost speed, and a loopback without TLS shows it most. A second table is about many small results that
land side by side in threads; see ``benchmarks.landing_many``.

The S3 side is a small server that reads and discards. It is not moto: moto keeps every object in memory on the same
machine and hashes it, so that one would measure moto. It speaks plain http: the client's cost of TLS is the same for
all. Source and sink run in processes of their own. Linux only: memory is read from ``/proc``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks import landing_many
from benchmarks.landing_process import BUCKET, measured, s3_client, serving, watched
from benchmarks.report import about, add_json_option, print_table, write_json

MIB = 1024 * 1024
ALLOWED_RSS_MIB = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    methods = list(dict.fromkeys([*METHODS, *landing_many.METHODS]))
    add("--mib", type=int, default=512, help="size of the large file in MiB; 0: no table of it (default 512)")
    add("--runs", type=int, default=3, help="runs of each method; the median is shown (default 3)")
    add("--methods", nargs="+", choices=methods, default=methods)
    add("--latency-ms", type=int, default=0, help="the sink answers each PUT this late (default 0)")
    add("--results", type=int, default=100, help="how many small results; 0: no table of them (default 100)")
    add("--result-mib", type=int, default=3, help="size of each small result in MiB (default 3)")
    add("--threads", type=int, default=16, help="small results that land at once (default 16, as in a batch)")
    add_json_option(parser)
    add("--method", choices=list(METHODS), help=argparse.SUPPRESS)
    add("--source", help=argparse.SUPPRESS)
    add("--sink", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.method:
        print(json.dumps(METHODS[given.method](given.source, given.sink)))
        return 0

    figures: dict[str, Any] = {}
    with serving("benchmarks.landing_servers", "sink", str(given.latency_ms)) as sink:
        if given.mib:
            figures |= _large(given, sink)
        if given.mib and given.results:
            print()
        if given.results:
            figures["many"] = _many(given, sink)
    write_json(given.json, {**about("landing"), **figures})
    ours = float(figures.get("ours", {}).get("rss_mib", 0))
    if ours > ALLOWED_RSS_MIB:
        print(f"\nours took {ours} MiB; {ALLOWED_RSS_MIB} MiB are allowed", file=sys.stderr)
        return 1
    return 0


def _large(given: argparse.Namespace, sink: str) -> dict[str, dict[str, float]]:
    figures = {}
    with serving("benchmarks.landing_servers", "source", str(given.mib * MIB)) as source:
        for method in (name for name in METHODS if name in given.methods):
            arguments = ("--method", method, "--source", source, "--sink", sink)
            runs = [measured("benchmarks.landing", *arguments) for _ in range(given.runs)]
            figures[method] = {
                "mib_per_s": round(given.mib / statistics.median(run["seconds"] for run in runs), 1),
                "cpu_s": round(statistics.median(run["cpu_s"] for run in runs), 2),
                "rss_mib": round(statistics.median(run["rss_mib"] for run in runs), 1),
            }
    print_table(
        f"HTTP to S3, {given.mib} MiB, PUTs answered after {given.latency_ms} ms, median of {given.runs}",
        ["method", "MiB/s", "CPU s", "memory MiB"],
        [[method, *values.values()] for method, values in figures.items()],
    )
    return figures


def _many(given: argparse.Namespace, sink: str) -> dict[str, dict[str, float]]:
    methods = [name for name in landing_many.METHODS if name in given.methods]
    left_out = [why for method in methods if (why := landing_many.missing(method))]
    figures = {}
    count = str(given.results)
    with serving("benchmarks.landing_servers", "source", str(given.result_mib * MIB)) as source:
        for method in (name for name in methods if not landing_many.missing(name)):
            many = ("--results", count, "--threads", str(given.threads))
            arguments = ("--method", method, "--source", source, "--sink", sink, *many)
            runs = [measured("benchmarks.landing_many", *arguments) for _ in range(given.runs)]
            figures[method] = {
                "results_per_s": round(given.results / statistics.median(run["seconds"] for run in runs), 1),
                "cpu_ms_per_result": round(1000 * statistics.median(run["cpu_s"] for run in runs) / given.results, 1),
                "rss_mib": round(statistics.median(run["rss_mib"] for run in runs), 1),
            }
    print_table(
        f"HTTP to S3, {count} results of {given.result_mib} MiB, {given.threads} at once, PUTs answered after "
        f"{given.latency_ms} ms, median of {given.runs}",
        ["method", "results/s", "CPU ms each", "memory MiB"],
        [[method, *values.values()] for method, values in figures.items()],
    )
    for why in left_out:
        print(why)
    return figures


def _ours(source: str, sink: str) -> dict[str, float]:
    from airflow_provider_modelslab.storage.landing import land
    from airflow_provider_modelslab.storage.uri import S3Uri

    s3 = s3_client(sink)
    return watched(lambda: land([source], S3Uri(BUCKET, _key()), s3, expected_type="mp4"))


def _upload_fileobj(source: str, sink: str) -> dict[str, float]:
    import requests

    s3 = s3_client(sink)

    def copy() -> None:
        with requests.get(source, stream=True, timeout=60) as response:
            response.raise_for_status()
            body: Any = response.raw
            s3.upload_fileobj(body, BUCKET, _key())

    return watched(copy)


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
        return watched(lambda: operator.execute({}))


METHODS: dict[str, Callable[[str, str], dict[str, float]]] = {
    "ours": _ours,
    "upload_fileobj": _upload_fileobj,
    "http_to_s3": _http_to_s3,
}


def _key() -> str:
    return f"{os.getpid()}.mp4"


if __name__ == "__main__":
    sys.exit(main())
