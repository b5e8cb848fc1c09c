"""One real Airflow for all system tests: scheduler, triggerer, Dag processor, API server, LocalExecutor."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.stack.whole import WholeStack

EXAMPLES = Path(__file__).resolve().parents[2] / "dags_examples"
BLOCKING_DAG = "modelslab_video2video_blocking"


@pytest.fixture(scope="session")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples as they are, and the main one once more with the wait on the worker."""
    folder = tmp_path_factory.mktemp("airflow") / "dags"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    example = (EXAMPLES / "modelslab_video2video.py").read_text()
    for old, new in (('"modelslab_video2video"', f'"{BLOCKING_DAG}"'), ("deferrable=True", "deferrable=False")):
        assert example.count(old) == 1
        example = example.replace(old, new)
    (folder / "blocking.py").write_text(example)
    return folder


@pytest.fixture(scope="session")
def stack(dags_folder: Path) -> Iterator[WholeStack]:
    """Everything started, and stopped after the last test."""
    whole = WholeStack(dags_folder.parent, dags_folder=dags_folder, bucket="system-tests")
    try:
        whole.start_s3()
        whole.start_endpoint()
        whole.start_airflow(prefix="landed", public_url=f"{whole.s3.endpoint_url}/system-tests")
        yield whole
    finally:
        whole.stop()
