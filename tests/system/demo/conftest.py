"""``make demo KEEP=1`` as a user has it, in a folder of its own, and a plain Chromium.

The pictures of the docs, from a demo that was started with ``make demo KEEP=1`` and is left running:

    MODELSLAB_RUNNING_DEMO=.state/demo MODELSLAB_SCREENSHOTS=docs/images pytest tests/system/demo
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import chromium, new_page
from tools.demo import DAG_ID
from tools.stack.airflow_api import AirflowApi
from tools.stack.process import PartFailedError, ServerProcess, wait_until
from tools.stack.s3 import S3Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[3]
START_TIMEOUT = 1500.0


class KeptDemo:
    """The demo's process.

    :param state: its folder; a second demo on the same folder goes on with what the first one left.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.log = state.with_suffix(".log")
        self._process: ServerProcess | None = None

    def start(self) -> None:
        """Start it, and wait until its Dag has run and everything is kept running."""
        self.log.unlink(missing_ok=True)
        command = [sys.executable, "-u", "-m", "tools.demo", "--keep", "--state", str(self.state)]
        self._process = ServerProcess("the demo", command, log=self.log, cwd=ROOT)
        self._process.start()
        wait_until(
            lambda: "In a shell:" in self.text, [self._process], what="the demo", timeout=START_TIMEOUT, interval=1
        )

    def stop(self) -> None:
        """As Ctrl-C."""
        if self._process is not None:
            self._process.stop(grace=90)

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def ports(self) -> dict[str, int]:
        """Of its parts."""
        found: dict[str, int] = json.loads((self.state / "ports.json").read_text())
        return found

    @property
    def airflow(self) -> AirflowApi:
        """Its Airflow."""
        return AirflowApi(f"http://127.0.0.1:{self.ports['airflow']}", log=self.state / "airflow" / "api-server.log")

    @property
    def s3(self) -> Any:
        """A client of its S3 server."""
        return S3Server(self.state / "s3", port=self.ports["s3"]).client()

    def runs(self) -> list[str]:
        """The ids of the runs of its Dag, oldest first."""
        found = self.airflow.call("GET", f"dags/{DAG_ID}/dagRuns?order_by=run_after")["dag_runs"]
        return [str(run["dag_run_id"]) for run in found]

    def wait_for_task(self, dag_id: str, run_id: str, task_id: str, *states: str) -> None:
        """Wait until a task is in one of the states."""
        airflow, parts = self.airflow, [self._process] if self._process else []
        try:
            wait_until(
                lambda: airflow.task(dag_id, run_id, task_id)["state"] in states,
                parts,
                what=f"{' or '.join(states)} of {task_id}",
                timeout=START_TIMEOUT,
                interval=1,
            )
        except PartFailedError as error:
            logs = (self.state / "airflow" / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}").rglob("*.log")
            raise PartFailedError(task_id, "\n".join(file.read_text()[-3000:] for file in logs)) from error


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptDemo]:
    """The demo after its first run; that of ``MODELSLAB_RUNNING_DEMO``, its folder, where it is set."""
    if running := os.environ.get("MODELSLAB_RUNNING_DEMO"):
        yield KeptDemo(Path(running).resolve())
        return
    found = KeptDemo(tmp_path_factory.mktemp("kept") / "demo")
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A Chromium that trusts no certificate of ours."""
    with chromium() as found:
        yield found


@pytest.fixture(params=["light"])
def page(browser: Browser, demo: KeptDemo, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of Airflow's UI, 1280 by 900 pixels, that must not ask anybody but Airflow."""
    opened = new_page(browser, base_url=demo.airflow.url, viewport={"width": 1280, "height": 900})
    opened.add_init_script(f"localStorage.setItem('theme', '{request.param}')")
    elsewhere: list[str] = []
    base = demo.airflow.url
    opened.on(
        "request",
        lambda asked: None if asked.url.startswith((base, "data:", f"blob:{base}")) else elsewhere.append(asked.url),
    )
    opened.goto("/")
    yield opened
    opened.context.close()
    assert [url for url in elsewhere if "127.0.0.1" in url] == []
