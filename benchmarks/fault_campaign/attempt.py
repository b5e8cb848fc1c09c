"""What the processes do: a worker's, a triggerer's and a command's part, with the package's own operators."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import re
import signal
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from airflow.cli.cli_parser import get_parser
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.serde import deserialize, serialize
from airflow.serialization.decoders import smart_decode_trigger_kwargs

from airflow_provider_modelslab.api.errors import ModelsLabError, SubmissionUnknownError
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from benchmarks.fault_campaign.probe import Probe
from benchmarks.fault_campaign.run import BUCKET, BUDGET, DAG_ID, PREFIX, RETRIES, Outcome, Try

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

__all__ = ["execute", "failed", "resume", "trigger"]

_ATTRIBUTES = {"model_id": "dark-sushi-mix", "num_frames": 2, "width": 64, "height": 64}
_TIMES = {"timeout": 10.0, "poll_interval": 0.1, "max_poll_interval": 0.4, "check_input": False, "retries": RETRIES}
_LINK = "https://example.com/clip.mp4"


def execute(task: Try, probe: Probe) -> Outcome:
    """The worker's part: templates, then ``execute``; or a whole command."""
    if task.plan.kind == "command":
        return _command(task, probe)
    operator, context = _operator(task), _context(task)
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

    return {"end": "event", "event": asyncio.run(first())}


def resume(task: Try, deferral: Mapping[str, Any], event: Mapping[str, Any], probe: Probe) -> Outcome:
    """The worker's part after the trigger."""
    operator, context = _operator(task), _context(task)
    operator.render_template_fields(context)
    kwargs = {**_load(deferral["next_kwargs"]), "event": dict(event)}
    return _work(operator, probe, lambda: operator.resume_execution(deferral["method"], kwargs, context))


def failed(error: BaseException) -> Outcome:
    """How a process ended that raised."""
    cause = error.__cause__ if isinstance(error, AirflowFailException) else error
    return {
        "end": "failed",
        "final": isinstance(error, AirflowFailException),
        "error": type(cause).__name__,
        "expected": isinstance(cause, ModelsLabError | InterruptedError | KeyboardInterrupt),
        "unknown_submission": cause.submission if isinstance(cause, SubmissionUnknownError) else None,
        "text": str(error),
    }


def _operator(task: Try) -> BaseOperator:
    """The task, made anew in each process as each parse of a Dag does it."""
    plan = task.plan
    given: dict[str, Any] = {
        **_ATTRIBUTES,
        **_TIMES,
        "prompt": f"{{{{ run_id }}}} of the campaign, {plan.name}",
        "deferrable": plan.deferrable,
        "on_unknown_submission": plan.unknown,
        "budget": BUDGET if plan.has_budget else None,
    }
    if plan.kind == "single":
        source = f"s3://{BUCKET}/inputs/clip.mp4" if plan.from_s3 else _LINK
        return ModelsLabVideo2VideoOperator(task_id="single", init_video=source, **given)
    return ModelsLabVideo2VideoBatchOperator(
        task_id="batch",
        source=f"s3://{BUCKET}/batch/",
        destination=f"s3://{BUCKET}/{PREFIX}/batches/{plan.name}/",
        max_in_flight=2,
        defer_after=0.05,
        max_failed=0,
        **given,
    )


def _context(task: Try) -> Context:
    """As much of Airflow's context as there is without a scheduler; no ``task_state_store``: S3 alone remembers."""
    run = SimpleNamespace(run_id=task.plan.name, conf=dict(task.conf))
    ti = SimpleNamespace(
        dag_id=DAG_ID,
        task_id=task.plan.kind,
        run_id=run.run_id,
        map_index=-1,
        try_number=task.number,
        max_tries=task.max_tries,
        dag_run=run,
        xcom_push=lambda key, value: None,
    )
    return cast("Context", {"ti": ti, "task_instance": ti, "dag_run": run, "run_id": run.run_id, "params": {}})


def _work(operator: BaseOperator, probe: Probe, call: Callable[[], Any]) -> Outcome:
    signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())  # as Airflow's task runner does
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
    return {"end": "success", "returned": value}


def _command(task: Try, probe: Probe) -> Outcome:
    """``airflow modelslab submit``; Ctrl-C is SIGINT."""
    plan, (result,) = task.plan, task.results
    signal.signal(signal.SIGINT, signal.default_int_handler)
    attributes = {**_ATTRIBUTES, "prompt": f"{plan.name} of the campaign", "timeout": _TIMES["timeout"]}
    flags = [word for name, value in attributes.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    always = ("--resubmit", "any", "--overwrite") if plan.unknown == "resubmit" else ()
    words = ["modelslab", "submit", f"s3://{BUCKET}/inputs/clip.mp4", "--to", f"s3://{BUCKET}/{result.key}"]
    words += ["--budget", BUDGET] if plan.has_budget else []
    args = get_parser().parse_args([*words, "--yes", "--output", "json", *flags, *always, *task.options])
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            args.func(args)
    except SystemExit as end:
        text = err.getvalue()
        print(text)
        is_unknown = "--adopt" in text and "--resubmit" in text
        number = re.search(r"/submission(\d+)", text[text.rfind("error:") :]) if is_unknown else None
        unknown = int(number[1]) if number else None
        return {
            "end": "failed", "final": is_unknown, "error": f"exit code {end.code}", "expected": end.code in {1, 3, 130},
            "unknown_submission": unknown, "text": text,
        }  # fmt: skip
    probe.passed("returning")
    return {"end": "success", "returned": json.loads(out.getvalue())}


def _dump(value: Any) -> str:
    return json.dumps(serialize(value), allow_nan=False)


def _load(text: str) -> dict[str, Any]:
    return cast("dict[str, Any]", deserialize(json.loads(text)))
