"""The processes: one forked child for each execution, trigger and resumption, as Airflow's workers have them."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.serde import deserialize, serialize
from airflow.serialization.decoders import smart_decode_trigger_kwargs

from airflow_provider_modelslab.api.errors import ModelsLabError, SubmissionUnknownError
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from benchmarks.fault_campaign.journal import Journal, Who
from benchmarks.fault_campaign.plan import Adversity, ClipPlan
from benchmarks.fault_campaign.probe import Probe

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["DAG_ID", "RETRIES", "TASK_ID", "Outcome", "Try", "execute", "fork", "rehearse", "resume", "trigger"]

DAG_ID, TASK_ID = "campaign", "restyle"
RETRIES = 3
TIMEOUT_S = 12.0

Outcome = dict[str, Any]
"""How a process ended, as plain JSON: ``{"end": "success" | "deferred" | "failed" | "event", ...}``."""


@dataclass(frozen=True, slots=True)
class Try:
    """A try of a clip's task.

    :param unknown: the operator's ``on_unknown_submission``.
    :param conf: the run's.
    """

    plan: ClipPlan
    unknown: Any
    number: int
    max_tries: int
    conf: Mapping[str, Any] = field(default_factory=dict)

    def operator(self) -> ModelsLabVideo2VideoOperator:
        """The task, made anew in each process as each parse of a Dag does it."""
        return ModelsLabVideo2VideoOperator(
            task_id=TASK_ID,
            model_id="dark-sushi-mix",
            prompt=f"{{{{ run_id }}}} of the campaign, {self.plan.name}",
            init_video="s3://clips/inputs/clip.mp4" if self.plan.from_s3 else "https://example.com/clip.mp4",
            check_input=False,
            num_frames=2,
            width=64,
            height=64,
            timeout=TIMEOUT_S,
            poll_interval=0.3,
            max_poll_interval=2.0,
            retries=RETRIES,
            deferrable=self.plan.deferrable,
            on_unknown_submission=self.unknown,
        )

    def context(self) -> Context:
        """As much of Airflow's context as there is without a scheduler; no ``task_state_store``: S3 alone remembers."""
        run = SimpleNamespace(run_id=self.plan.name, conf=dict(self.conf))
        ti = SimpleNamespace(
            dag_id=DAG_ID,
            task_id=TASK_ID,
            run_id=run.run_id,
            map_index=-1,
            try_number=self.number,
            max_tries=self.max_tries,
            dag_run=run,
        )
        return cast("Context", {"ti": ti, "task_instance": ti, "dag_run": run, "run_id": run.run_id, "params": {}})


def rehearse(task: Try) -> None:
    """Load in this process what its children would each load anew; nothing is sent anywhere."""
    task.operator().render_template_fields(task.context())
    smart_decode_trigger_kwargs(_load(_dump({"number": 1.0}))["number"])


def execute(task: Try, probe: Probe) -> Outcome:
    """The worker's part: templates, then ``execute``."""
    probe.attach(task.plan.submit_faults)
    operator, context = task.operator(), task.context()
    operator.render_template_fields(context)
    return _work(operator, probe, lambda: operator.execute(context))


def trigger(made: Mapping[str, Any], probe: Probe) -> Outcome:
    """The triggerer's part: the trigger made of what the worker sent, run to its one event."""
    kwargs = {name: smart_decode_trigger_kwargs(value) for name, value in _load(made["kwargs"]).items()}
    module, _, name = str(made["path"]).rpartition(".")
    waiting = getattr(import_module(module), name)(**kwargs)

    async def first() -> Any:
        async for event in waiting.run():
            return event.payload
        raise RuntimeError("the trigger ended without an event")

    probe.passed("waiting")
    return {"end": "event", "event": asyncio.run(first())}


def resume(task: Try, deferral: Mapping[str, Any], event: Mapping[str, Any], probe: Probe) -> Outcome:
    """The worker's part after the trigger."""
    probe.attach(task.plan.submit_faults)
    operator, context = task.operator(), task.context()
    operator.render_template_fields(context)
    kwargs = {**_load(deferral["next_kwargs"]), "event": dict(event)}
    return _work(operator, probe, lambda: operator.resume_execution(deferral["method"], kwargs, context))


def _work(operator: ModelsLabVideo2VideoOperator, probe: Probe, call: Callable[[], Any]) -> Outcome:
    scope = contextvars.copy_context()
    scope.run(ExecutorSafeguard.tracker.set, operator)  # without it, calls of execute are refused
    try:
        value = scope.run(call)
    except TaskDeferred as deferred:
        path, kwargs = deferred.trigger.serialize()
        outcome = {
            "end": "deferred",
            "trigger": {"path": path, "kwargs": _dump(kwargs)},
            "method": deferred.method_name,
            "next_kwargs": _dump(deferred.kwargs or {}),
        }
        probe.passed("deferring")
        return outcome
    probe.passed("returning")
    return {"end": "success", "manifest": value, "calls": probe.calls}


def fork(
    body: Callable[[Probe], Outcome],
    *,
    journal: Journal,
    who: Who,
    adversity: Adversity | None,
    log: Path,
    start_at: float = 0.0,
) -> tuple[int, int]:
    """Start a process; returns its id and the file descriptor from which it is heard.

    :param start_at: seconds since the epoch at which the work begins, so that two can begin at once.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(reading)
        output = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        print(f"-- {who}", flush=True)
        probe = Probe(journal, writing, who, adversity)
        while time.time() < start_at:
            time.sleep(0.001)
        probe.passed("start")
        try:
            outcome = body(probe)
        except BaseException as error:  # noqa: BLE001 - it ends this process, and the runner decides as Airflow does
            traceback.print_exc()
            outcome = _failed(error)
        probe.tell(outcome=outcome)
    finally:
        os._exit(0)


def _failed(error: BaseException) -> Outcome:
    cause = error.__cause__ if isinstance(error, AirflowFailException) else error
    return {
        "end": "failed",
        "final": isinstance(error, AirflowFailException),
        "error": type(cause).__name__,
        "expected": isinstance(cause, ModelsLabError),
        "unknown_submission": cause.submission if isinstance(cause, SubmissionUnknownError) else None,
        "text": str(error)[:600],
    }


def _dump(value: Any) -> str:
    return json.dumps(serialize(value), allow_nan=False)


def _load(text: str) -> dict[str, Any]:
    return cast("dict[str, Any]", deserialize(json.loads(text)))
