"""``tools/stack/run_module.py`` in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.stack.process import python_module


def run(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the code as the module ``served``, with ``folder`` as the working directory."""
    (folder / "served.py").write_text(code)
    command = [*python_module("served", quick=True), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_it_runs_as_with_m(tmp_path: Path) -> None:
    code = "import sys; print(__name__, sys.argv[1:], sys.path[0], 'airflow' in sys.modules, __file__, sep='|')"
    mine, plain = run(tmp_path, code, "--port", "1"), [sys.executable, "-m", "served", "--port", "1"]
    assert mine.stdout == subprocess.run(plain, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert mine.stdout.startswith("__main__|['--port', '1']|")


def test_modules_beside_it_hide_no_others(tmp_path: Path) -> None:
    (tmp_path / "airflow.py").write_text("print('the one that was meant')")
    assert run(tmp_path, "import airflow").stdout == "the one that was meant\n"


@pytest.mark.parametrize(
    ("code", "status", "stderr"),
    [
        ("", 0, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(0)", 0, ""),
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('a message')", 1, "a message"),
        ("raise KeyError('a bug')", 1, "KeyError: 'a bug'"),
    ],
)
def test_it_ends_with_the_status_of_the_module(tmp_path: Path, code: str, status: int, stderr: str) -> None:
    ended = run(tmp_path, code)
    assert ended.returncode == status
    assert stderr in ended.stderr if stderr else ended.stderr == ""


def test_threads_and_exit_handlers_come_first(tmp_path: Path) -> None:
    code = """
import atexit, threading
go = threading.Event()
atexit.register(lambda: print("handler"))
threading.Thread(target=lambda: (go.wait(), print("thread"))).start()
print("main")
go.set()
"""
    ended = run(tmp_path, code)
    assert (ended.stdout.split()[-1], sorted(ended.stdout.split())) == ("handler", ["handler", "main", "thread"])


def test_nothing_is_taken_apart_after_that(tmp_path: Path) -> None:
    code = "class Kept:\n    def __del__(self): print('taken apart')\nkept = Kept()\nprint('served')"
    assert run(tmp_path, code).stdout == "served\n"
