"""``airflow modelslab ...`` as real processes, with connections in Airflow's database and a terminal to look at."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from tests.support.endpoint import Caller
from tests.support.gated_endpoint import GatedEndpoint
from tests.support.samples import small_mp4
from tools.stack.whole import WholeStack

pytestmark = [pytest.mark.system, pytest.mark.slow]

KEY = "key-of-the-gated-endpoint"
AIRFLOW = ("-m", "airflow", "modelslab")
MODULE = ("-m", "airflow_provider_modelslab.cli")


@pytest.fixture(scope="module")
def endpoint(site: WholeStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedEndpoint]:
    """An endpoint whose jobs end when a test says so, and the connection ``modelslab_gated`` to it."""
    served = GatedEndpoint(tmp_path_factory.mktemp("gated-cli"))
    try:
        served.start()
        extra = {
            "bucket": site.bucket,
            "prefix": "by-hand",
            "region": site.s3.region,
            "endpoint_url": site.s3.endpoint_url,
        }
        site.airflow.set_connection(
            "modelslab_gated", conn_type="modelslab", password=KEY, host=served.url, extra=extra
        )
        yield served
    finally:
        served.stop()


def accepted(endpoint: GatedEndpoint) -> int:
    """How many jobs were paid for."""
    return int(Caller(endpoint.url, KEY).bills()["accepted"])


@pytest.fixture(scope="module")
def clip(site: WholeStack) -> str:
    site.s3.client().put_object(Bucket=site.bucket, Key="clips/in.mp4", Body=small_mp4())
    return f"s3://{site.bucket}/clips/in.mp4"


def line(clip: str, to: str, *words: str) -> list[str]:
    request = ["--model-id", "dark-sushi-mix", "--prompt", "a fox", "--conn-id", "modelslab_gated"]
    return ["submit", clip, *request, "--to", to, "--output", "json", *words]


def finished(site: WholeStack, *words: str, program: tuple[str, ...] = AIRFLOW) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *program, *words], env=site.airflow.env, capture_output=True, text=True)
    assert KEY not in done.stdout + done.stderr
    return done


def started(site: WholeStack, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *AIRFLOW, *words],
        env=site.airflow.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(stream: IO[str] | None, text: str) -> str:
    """The lines of a process up to one that holds a text; pytest's time-out is the limit."""
    assert stream is not None
    seen = ""
    for row in stream:
        seen += row
        if text in row:
            return seen
    raise AssertionError(f"{text!r} never came; there was:\n{seen}")


def test_a_job_is_paid_for_once_through_a_kill_and_an_interrupt(
    site: WholeStack, endpoint: GatedEndpoint, clip: str
) -> None:
    to = f"s3://{site.bucket}/by-hand/killed.mp4"
    before = accepted(endpoint)
    endpoint.shut()
    with started(site, *line(clip, to, "--yes")) as first:
        read_until(first.stderr, "Submitted as job ")
        first.kill()
    with started(site, *line(clip, to, "--yes")) as second:
        read_until(second.stderr, "which is already paid for")
        second.send_signal(signal.SIGINT)
        _, rest = second.communicate()
        assert second.returncode == 130
    assert "keeps running without this command, and is billed" in rest
    assert "Traceback" not in rest
    with started(site, *line(clip, to, "--yes")) as third:
        # Where there is no terminal the wait is told in lines.
        told = read_until(third.stderr, " since the submission")
        assert re.search(r"^Job \S+: submitted, \d:\d\d since the submission", told, re.MULTILINE)
        endpoint.open()
        printed, rest = third.communicate()
        assert third.returncode == 0, told + rest
    assert KEY not in printed + told + rest
    assert json.loads(printed)["uri"] == to
    assert accepted(endpoint) == before + 1
    shown = finished(site, "ledger", "show", to, "--conn-id", "modelslab_gated", "--output", "json")
    entries = [row["entry"] for row in json.loads(shown.stdout)[0]["entries"]]
    assert entries == ["claim", "job", "landed", "attached", "attached"]  # the last two commands waited for the job too


def test_on_a_terminal_it_asks_and_shows_a_bar(site: WholeStack, endpoint: GatedEndpoint, clip: str) -> None:
    to = f"s3://{site.bucket}/by-hand/watched.mp4"
    before = accepted(endpoint)
    endpoint.shut()
    ours, theirs = pty.openpty()
    command = [sys.executable, *AIRFLOW, *line(clip, to)]
    environment = {**site.airflow.env, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, env=environment, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE) as process:
        os.close(theirs)
        screen = _until(ours, lambda seen: "Submit it? [y/N]" in seen)
        assert accepted(endpoint) == before
        os.write(ours, b"y\n")
        # It moves for as long as the job runs.
        screen += _until(ours, lambda seen: len(set(re.findall(r"(\d:\d\d) since the submission", seen))) >= 3)
        endpoint.open()
        screen += _until(ours, None)
        assert process.stdout is not None
        manifest = json.loads(process.stdout.read())
    os.close(ours)
    assert process.returncode == 0
    assert manifest["uri"] == to
    assert f"from   {clip}" in screen
    assert "━" in screen
    assert accepted(endpoint) == before + 1


def _until(terminal: int, done: Callable[[str], bool] | None) -> str:
    """What is on the screen until it is as it should be, or until the process has ended."""
    read = b""
    while True:
        seen = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", read).decode(errors="replace")
        if done is not None and done(seen):
            return seen
        try:
            found = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that nobody has the other end any more
            found = b""
        if not found:
            assert done is None, f"it never came; there was: {seen}"
            return seen
        read += found


@pytest.mark.parametrize("program", [AIRFLOW, MODULE])
def test_a_connection_in_the_database_is_checked(site: WholeStack, program: tuple[str, ...]) -> None:
    done = finished(site, "check", "--write", "--output", "json", program=program)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["check"]: row["result"] for row in json.loads(done.stdout)}
    assert found["video server"] == found["s3:PutObject"] == found["conditional puts"] == "ok"


def test_a_missing_connection_is_one_line(site: WholeStack) -> None:
    done = finished(site, "check", "--conn-id", "nobody")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().splitlines()[-1].startswith("error: The conn_id `nobody` isn't defined")
    assert "Traceback" not in done.stderr


def test_airflow_lists_the_commands(site: WholeStack) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "--help"], env=site.airflow.env, capture_output=True, text=True
    )
    assert re.search(r"^\s+modelslab\s+ModelsLab video-to-video", done.stdout, re.MULTILINE)
