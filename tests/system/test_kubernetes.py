"""Beyond one machine: KubernetesExecutor, against an API server whose pods are processes, and a pod that is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import QUICK
from tests.system.executors import PATIENCE, run_gpu_pool, started
from tests.system.paid_once import LANDED, Clip, EchoEndpoint, connected_echo
from tools.stack.kubernetes import IMAGE, KubernetesStack, missing

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(2400),  # several real waits, of which each may take minutes on a busy machine
    pytest.mark.skipif(
        os.environ.get("MODELSLAB_TEST_KUBERNETES") != "1",
        reason="needs MODELSLAB_TEST_KUBERNETES=1, see `make kubernetes`",
    ),
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}; see `make kubernetes`"),
]


@pytest.fixture(scope="module")
def stack(dags_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesStack]:
    folder = tmp_path_factory.mktemp("kubernetes")
    with started(
        KubernetesStack(folder, dags_folder=dags_folder, bucket="pod-tests", airflow_env=QUICK | PATIENCE)
    ) as made:
        yield made


@pytest.fixture(scope="module")
def echo(stack: KubernetesStack) -> Iterator[EchoEndpoint]:
    with connected_echo(stack) as endpoint:
        yield endpoint


def tries(stack: KubernetesStack, clip: Clip) -> list[str]:
    """The try for which each pod of a run was made."""
    return [pod["metadata"]["annotations"]["try_number"] for pod in stack.kubernetes.made(clip.run_id)]


def test_the_pod_of_the_local_task_asks_for_a_gpu_and_all_land(stack: KubernetesStack) -> None:
    pods: dict[str, list[dict[str, Any]]] = {"own_gpu": [], "endpoint": []}
    for pod in stack.kubernetes.made(run_gpu_pool(stack)):
        pods[pod["metadata"]["annotations"]["task_id"]].append(pod)
    (on_gpu,) = pods["own_gpu"]
    # Once to submit and once to land: in between it was in the triggerer, and had no pod.
    assert len(pods["endpoint"]) == 2
    for pod in (on_gpu, *pods["endpoint"]):
        (container,) = pod["spec"]["containers"]
        assert (container["name"], container["image"]) == ("base", ":".join(IMAGE))
        # The example's pod_override adds to the template, and replaces nothing else of it.
        env = {item["name"]: item["value"] for item in container["env"]}
        assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == f"{stack.airflow.url}/execution/"
        assert container.get("resources") == ({"limits": {"nvidia.com/gpu": "1"}} if pod is on_gpu else None)


def test_what_a_killed_pod_had_is_landed_by_another_and_was_paid_for_once(
    stack: KubernetesStack, echo: EchoEndpoint
) -> None:
    stack.airflow.wait_for_dag("paid_once")
    # One waits for its job in the triggerer, one is landing: all bytes are there, and nothing is in S3 yet.
    waits = Clip.start(stack, echo, "waits", held=True)
    lands = Clip.start(stack, echo, "lands", die_at="while landing", how="wait")
    waits.wait_for_log("Waiting for job")
    lands.wait_for_marker()
    waits.wait_for("deferred")
    assert tries(stack, waits) == ["1"]
    before = tries(stack, lands)  # two where the job was not done when it was submitted

    stack.kubernetes.kill(stack.kubernetes.running(lands.run_id)[-1])
    lands.require_landed(*LANDED)
    echo.release()
    waits.require_landed(*LANDED)

    assert "Continuing with job" in lands.log
    assert tries(stack, lands) == [*before, "2"]
    assert tries(stack, waits) == ["1", "1"]
    assert len(echo.bills()) == 2
