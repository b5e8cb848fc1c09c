"""Who holds a claim, told from real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.ledger import attempt
from airflow_provider_modelslab.ledger.attempt import describe_process, is_provably_dead

_CHILD = """
import json, sys
from airflow_provider_modelslab.ledger.attempt import describe_process
print(json.dumps(describe_process()), flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs a process table in /proc")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that says who it is, and runs until its input ends."""
    process = subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()


def said_by(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    described: dict[str, Any] = json.loads(process.stdout.readline())
    return described


def test_this_process_is_not_dead() -> None:
    assert not is_provably_dead(json.loads(json.dumps(describe_process())))


def test_a_process_has_another_token_each_time() -> None:
    first, second = describe_process(), describe_process()
    assert first.pop("token") != second.pop("token")
    assert first == second
    assert first["pid"] == os.getpid()


def test_a_running_process_is_not_dead(child: subprocess.Popen[str]) -> None:
    assert not is_provably_dead(said_by(child))


def test_a_killed_process_is_dead_as_a_zombie_already(child: subprocess.Popen[str]) -> None:
    described = said_by(child)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not collected
    state = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert state == "Z"
    assert is_provably_dead(described)
    child.wait()
    assert not Path(f"/proc/{child.pid}").exists()
    assert is_provably_dead(described)


def test_another_process_with_the_same_id_is_not_the_one(child: subprocess.Popen[str]) -> None:
    described = said_by(child)
    assert is_provably_dead({**described, "started": described["started"] - 1})


@pytest.mark.parametrize("name", ["host", "boot_id", "pid_namespace"])
def test_nothing_is_known_of_another_place(name: str) -> None:
    gone = {**describe_process(), "pid": 2**22 + 1}  # above any process id of Linux
    assert is_provably_dead(gone)
    assert not is_provably_dead({**gone, name: "elsewhere"})
    assert not is_provably_dead({key: value for key, value in gone.items() if key != name})


@pytest.mark.parametrize("change", [{"pid": None}, {"pid": 0}, {"pid": -1}, {"pid": "7"}, {"started": None}])
def test_nothing_is_known_without_id_and_start(change: dict[str, Any]) -> None:
    assert not is_provably_dead({**describe_process(), **change})


def test_nothing_is_known_of_nobody() -> None:
    assert not is_provably_dead({})


def test_a_process_that_proc_hides_is_not_dead(child: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    described = said_by(child)
    read = attempt._read
    monkeypatch.setattr(attempt, "_read", lambda path: "" if path.name == "stat" else read(path))
    assert not is_provably_dead(described)  # hidepid of Linux, or no file handle left
    child.kill()
    child.wait()
    assert is_provably_dead(described)


def test_nothing_is_known_without_a_process_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "_read", lambda path: "")
    assert not is_provably_dead({**describe_process(), "pid": 2**22 + 1, "started": 1})
