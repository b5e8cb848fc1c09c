"""One Airflow of the version at hand for all tests of this folder, and the runs that they look at.

The endpoint answers with the echo engine: what is tested is Airflow's part, not the video.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_versions import AIRFLOW
from tests.support.dag_runs import start
from tests.support.samples import small_mp4
from tests.system.paid_once import CONN_ID
from tools.stack.whole import LOCAL_KEY, WholeStack

SYSTEM = Path(__file__).resolve().parents[1]
EXAMPLES = SYSTEM.parents[1] / "dags_examples"
BUCKET = "compat-tests"
KILLED = ("after id", "while landing", "before XCom")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip them where ``tools/compat/run.sh`` does not run them."""
    if os.environ.get("MODELSLAB_TEST_COMPAT") == "1":
        return
    reason = "tools/compat/run.sh runs it on other versions of Airflow; test_examples.py does on this one"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    """S3, the endpoint and Airflow."""
    folder = tmp_path_factory.mktemp("compat")
    dags = folder / "dags"
    shutil.copytree(EXAMPLES / "media", dags / "media")
    sources = [EXAMPLES / f"modelslab_{name}.py" for name in ("video2video", "video2video_sensor", "batch", "loop")]
    sources.append(SYSTEM / "dags" / "mortal.py")
    if AIRFLOW >= (3, 3):
        sources.append(Path(__file__).parent / "dags" / "rate_limited.py")
    for source in sources:
        shutil.copy(source, dags)
    # No job is done before its submit is answered, so that tasks defer themselves.
    echo = ("--engine", "echo", "--echo-seconds", "0.5", "--admin", "--allow-request-faults")
    whole = WholeStack(folder, dags_folder=dags, bucket=BUCKET, endpoint_arguments=echo)
    with whole:
        whole.start(prefix="landed")
        extra = {"bucket": BUCKET, "prefix": "landed", "region": whole.s3.region, "endpoint_url": whole.s3.endpoint_url}
        whole.airflow.set_connection(
            CONN_ID, conn_type="modelslab", password=LOCAL_KEY, host=whole.endpoint.url, extra=extra
        )
        yield whole


@pytest.fixture(scope="package")
def runs(stack: WholeStack) -> dict[str, str]:
    """The ids of the Dags' runs, all started at once: most of a run's time is the start of its processes."""
    for number in range(3):
        stack.s3.client().put_object(Bucket=BUCKET, Key=f"in/clip{number}.mp4", Body=small_mp4())
    markers = stack.folder / "markers"
    markers.mkdir()
    dies = [{"at": point, "how": "kill", "marker": str(markers / point)} for point in KILLED]
    wanted: dict[str, dict[str, Any]] = {
        "modelslab_video2video": {"seed": 11},
        "modelslab_video2video_sensor": {},
        "modelslab_batch": {"source": f"s3://{BUCKET}/in/", "destination": "batch/"},
        "paid_once": {"die": {"at": "after id", "how": "kill", "marker": str(markers / "single")}},
    }
    if AIRFLOW >= (3, 3):
        wanted["rate_limited"] = {}
    if AIRFLOW >= (3, 4):
        # No result is as large as that, so the loop ends at its limit, with a failed gate.
        wanted |= {"modelslab_loop": {"min_bytes": 10**9}, "paid_once_loop": {"die": dies}}
    return {dag_id: start(stack, dag_id, conf) for dag_id, conf in wanted.items()}
