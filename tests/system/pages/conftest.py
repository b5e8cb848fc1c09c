"""One real Airflow and one Chromium for everything that people see: forms, links, pages, commands, assets.

The endpoint answers with the echo engine, since what is looked at here is not the video.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import chromium, new_page
from tests.support.guarded import GuardedServer
from tools.stack.whole import WholeStack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DAGS = Path(__file__).parent / "dags"
BUCKET = "pages-tests"


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    """Everything started with the Dags of ``dags/``, and stopped after the last test."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DAGS, folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    whole = WholeStack(
        folder,
        dags_folder=folder / "dags",
        bucket=BUCKET,
        # No job is done before its submit is answered, so that tasks defer themselves.
        endpoint_arguments=("--engine", "echo", "--echo-seconds", "0.5", "--admin", "--allow-request-faults"),
        airflow_env={"AIRFLOW__MODELSLAB__WEBHOOK_CONN_IDS": "modelslab_push"},  # of test_webhook.py
    )
    with whole:
        whole.start(prefix="landed")
        yield whole


@pytest.fixture(scope="module")
def guarded(site: WholeStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedServer]:
    """An API server at which people have to log in."""
    server = GuardedServer(site.airflow, tmp_path_factory.mktemp("guarded"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser; a test opens a page of its own.

    Closed with the last test of this folder: while it is open, an event loop counts as running in this thread.
    """
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Browser, site: WholeStack) -> Iterator[Page]:
    """A page of a browser that is logged in to Airflow's UI; light, 1280 by 800 pixels.

    It does not trust the S3 server's certificate, as the browsers of people do not.
    """
    opened = new_page(
        browser,
        base_url=site.airflow.url,
        viewport={"width": 1280, "height": 800},
        color_scheme="light",
    )
    opened.goto("/")
    yield opened
    opened.context.close()
