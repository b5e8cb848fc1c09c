"""Runs of Dags on a real Airflow, from the trigger to what they put into S3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests

from tests.support.s3 import content_of
from tools.stack.whole import WholeStack

__all__ = ["bills", "content", "require_success", "run", "start"]


def run(stack: WholeStack, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
    """Trigger a Dag and wait for its end, which has to be a success; the run's id."""
    return require_success(stack, dag_id, start(stack, dag_id, conf))


def start(stack: WholeStack, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
    """Trigger a Dag as soon as Airflow knows it; the run's id."""
    stack.airflow.wait_for_dag(dag_id)
    return stack.airflow.trigger(dag_id, conf)


def require_success(stack: WholeStack, dag_id: str, run_id: str) -> str:
    """Wait for the end of a run, which has to be a success; the run's id."""
    state = stack.airflow.finish(dag_id, run_id)
    told = {task["task_id"]: task["state"] for task in stack.airflow.tasks(dag_id, run_id)}
    logs = "\n".join(stack.airflow.task_log(dag_id, run_id, task)[-4000:] for task in told if told[task] != "success")
    assert state == "success", f"{told}\n{logs}"
    return run_id


def content(stack: WholeStack, uri: str) -> bytes:
    """What an object in the stack's S3 holds."""
    return content_of(stack.s3.client(), uri)


def bills(stack: WholeStack, run_id: str | None = None) -> list[dict[str, Any]]:
    """One for each job that the stack's endpoint accepted, and so billed; it has to be started with ``--admin``.

    :param run_id: only those of this Dag run.
    """
    with requests.Session() as session:
        session.trust_env = False
        jobs = session.get(f"{stack.endpoint.url}/admin/bills", timeout=60).json()["jobs"]
    return [job for job in jobs if run_id is None or f"/{run_id}/" in job["track_id"]]
