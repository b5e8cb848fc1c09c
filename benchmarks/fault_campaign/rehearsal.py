"""A run of each kind in the process that the others are forked from: what is filled then need not be filled in each."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from asgiref.sync import SyncToAsync

from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from benchmarks.fault_campaign import attempt
from benchmarks.fault_campaign.listen import order_s3_requests
from benchmarks.fault_campaign.plan import RunPlan
from benchmarks.fault_campaign.run import Try

__all__ = ["rehearse"]

_PLANS = (
    RunPlan("rehearsal", from_s3=True),
    RunPlan("rehearsal-deferred", deferrable=True),
    RunPlan("rehearsal", "batch", deferrable=True),
    RunPlan("rehearsal", "command"),
)
_THREAD_S = 10.0


class _Nobody:
    """Hears nothing."""

    def passed(self, phase: str, **more: Any) -> None:
        pass


def rehearse() -> None:
    """Land one result of each kind, and leave neither threads nor connections behind.

    Processes that are forked from here share the S3 client that the hook makes; it has no connection by then.

    :raises RuntimeError: when one does not land.
    """
    new_client = ModelsLabHook.new_s3_client

    @cache
    def client_of(conn_id: str) -> Any:
        client = new_client(ModelsLabHook(conn_id))
        order_s3_requests(client)
        return client

    ModelsLabHook.new_s3_client = lambda hook, **_: client_of(hook.modelslab_conn_id)  # type: ignore[method-assign]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for plan in _PLANS:
        _run(Try(plan))
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.pop("_AIRFLOW_PROCESS_CONTEXT", None)  # a command says so, and tasks are none
    SyncToAsync.single_thread_executor.shutdown()  # of all of Airflow's triggers; its thread would not be in a child
    SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(_THREAD_S)
    client_of(ModelsLabHook.default_conn_name)._endpoint.http_session.close()


def _run(task: Try) -> None:
    probe: Any = _Nobody()
    outcome = attempt.execute(task, probe)
    while outcome["end"] == "deferred":
        event = attempt.trigger(outcome["trigger"], probe)["event"]
        outcome = attempt.resume(task, outcome, event, probe)
    if outcome["end"] != "success":
        raise RuntimeError(f"The rehearsal of {task.plan} failed: {outcome}")
