"""The Kubernetes API server whose pods are processes, as KubernetesExecutor needs it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # no stubs; Airflow itself depends on it
import pytest
from aiohttp import StreamReader
from aiohttp.test_utils import TestClient, TestServer

from tools.stack.pods import Pods, app_of, labels_match
from tools.stack.process import wait_until

PODS = "/api/v1/namespaces/here/pods"
TOKEN = {"Authorization": "Bearer token"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(app_of(Pods(tmp_path), "token")), headers=TOKEN) as client:
        yield client


def pod(name: str, *args: str, **labels: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "base", "args": list(args)}]}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


async def event(stream: StreamReader) -> tuple[str, str, str]:
    found = json.loads(await stream.readline())
    return found["type"], found["object"]["metadata"]["name"], found["object"]["status"]["phase"]


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("", True),
        ("a=1,b=2", True),
        ("a=1,b=3", False),
        ("a==1,c!=1", True),
        ("a!=1", False),
        ("a,!c", True),
        ("c", False),
        ("a in (0,1),b notin (1, 3)", True),
        ("a notin (1)", False),
    ],
)
def test_label_selectors(selector: str, chosen: bool) -> None:
    assert labels_match(selector, {"a": "1", "b": "2"}) == chosen


async def test_a_pod_lives_as_long_as_its_process(api: TestClient[Any, Any]) -> None:
    await api.post(PODS, json=pod("before", "true"))
    watch = await api.get(f"{PODS}?watch=True&labelSelector=owner%3D1")
    await api.post(PODS, json=pod("other", "true", owner="2"))
    await api.post(PODS, json=pod("ends", "true", owner="1"))
    await api.post(PODS, json=pod("fails", "false", owner="1"))
    seen = [await event(watch.content) for _ in range(6)]
    assert [told for told in seen if told[1] == "ends"] == [
        ("ADDED", "ends", "Pending"),
        ("MODIFIED", "ends", "Running"),
        ("MODIFIED", "ends", "Succeeded"),
    ]
    assert [told for told in seen if told[1] == "fails"][-1] == ("MODIFIED", "fails", "Failed")
    # A pod that gets other labels leaves one watch, and comes into another.
    version = (await (await api.get(PODS)).json())["metadata"]["resourceVersion"]
    other = await api.get(f"{PODS}?watch=True&labelSelector=owner%3D2&resourceVersion={version}")
    await api.patch(f"{PODS}/ends", json={"metadata": {"labels": {"owner": "2"}}})
    assert await event(watch.content) == ("DELETED", "ends", "Succeeded")
    assert await event(other.content) == ("ADDED", "ends", "Succeeded")
    await api.delete(f"{PODS}/ends")
    assert (await api.get(f"{PODS}/ends")).status == 404
    failed = await (await api.get(f"{PODS}?fieldSelector=status.phase!%3DSucceeded")).json()
    assert [item["metadata"]["name"] for item in failed["items"]] == ["fails"]


async def test_a_pod_that_is_deleted_ends_with_all_its_processes(api: TestClient[Any, Any]) -> None:
    # The shell waits for a process in a group of its own, as a task's supervisor does, and does not hear SIGTERM.
    script = "trap '' TERM; set -m; sleep 1000 & echo $!; wait"
    made = await (await api.post(PODS, json=pod("stays", "sh", "-c", script))).json()
    watch = await api.get(f"{PODS}?watch=True&resourceVersion={made['metadata']['resourceVersion']}")
    shell = psutil.Process(int(made["status"]["containerStatuses"][0]["containerID"].removeprefix("process://")))
    wait_until(lambda: bool(shell.children()), [], what="the process below", interval=0.01)
    (below,) = shell.children()
    await api.delete(f"{PODS}/stays", json={"gracePeriodSeconds": 0})
    assert await event(watch.content) == ("MODIFIED", "stays", "Running")  # it is to be deleted
    assert await event(watch.content) == ("MODIFIED", "stays", "Failed")
    assert await event(watch.content) == ("DELETED", "stays", "Failed")
    psutil.wait_procs([below], timeout=60)
    assert not below.is_running()


async def test_nobody_starts_processes_without_the_token(api: TestClient[Any, Any]) -> None:
    refused = await api.post(PODS, json=pod("x", "true"), headers={"Authorization": "Bearer guessed"})
    assert refused.status == 401
