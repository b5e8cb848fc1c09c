from __future__ import annotations

import sys
from pathlib import Path

from airflow_provider_modelslab.testing.process import ServerProcess, wait_until

SERVER = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: print("told to end", flush=True))
print("ready", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
"""


def test_a_server_is_told_to_end_once(tmp_path: Path) -> None:
    """A second SIGTERM makes Airflow's triggerer end at once, and its job stays "running" in the database."""
    may_end = tmp_path / "may-end"
    server = ServerProcess("a server", [sys.executable, "-c", SERVER, str(may_end)], log=tmp_path / "log")

    def wait_for(text: str, times: int) -> None:
        wait_until(lambda: server.log.read_text().count(text) == times, [server], what=text, interval=0.01)

    for times in (1, 2):  # it can be started again after its end
        server.start()
        wait_for("ready", times)
        server.terminate()
        wait_for("told to end", times)
        server.terminate()
        may_end.touch()
        server.stop(grace=60)
        may_end.unlink()
        assert server.log.read_text().count("told to end") == times
