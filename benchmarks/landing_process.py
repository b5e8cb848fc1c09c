"""What both landing benchmarks need: servers and measurements in processes of their own, S3 clients for the sink."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["BUCKET", "measured", "s3_client", "serving", "watched"]

BUCKET = "discarded"


def s3_client(sink: str) -> S3Client:
    """A client as the package makes it for S3-compatible stores."""
    import boto3

    from airflow_provider_modelslab.storage.boto_session import send_small_bodies_at_once
    from airflow_provider_modelslab.storage.s3_profile import S3Profile

    config = S3Profile(endpoint_url=sink).client_config()
    s3 = boto3.session.Session("a", "b", region_name="us-east-1").client("s3", endpoint_url=sink, config=config)
    send_small_bodies_at_once(s3)
    return s3


def watched(work: Callable[[], object]) -> dict[str, float]:
    """Seconds, CPU seconds of this process, and how far resident memory rose above what it was before (MiB)."""
    before = _status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present
    cpu, started = _cpu(), time.perf_counter()
    work()
    seconds, cpu = time.perf_counter() - started, _cpu() - cpu
    return {"seconds": seconds, "cpu_s": cpu, "rss_mib": _status_mib("VmHWM") - before}


def measured(module: str, *arguments: str) -> dict[str, float]:
    """Run ``python -m module`` in a fresh process and take the figures that it prints on its last line.

    :raises RuntimeError: with its output, when it fails.
    """
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


@contextmanager
def serving(module: str, *arguments: str) -> Iterator[str]:
    """A server of its own process; it writes its address on the first line."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _status_mib(field: str) -> float:
    text = Path("/proc/self/status").read_text()
    match = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024
