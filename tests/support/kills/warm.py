"""A process that has loaded Airflow and forks one child for each order: workers and others that start at once.

Orders are JSON lines on stdin; on stdout it says which child has ended, and how. When stdin ends, it kills its children
and ends too. Nothing but :mod:`.processes` talks to it.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import logging
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.cli.cli_parser import get_parser
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.serde import deserialize, serialize
from airflow.serialization.decoders import smart_decode_trigger_kwargs

from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from tests.support import tasks
from tests.support.kills.moments import Probe, Strike

__all__: list[str] = []

_LOOK_S = 0.02
_OPERATORS: dict[str, type[BaseOperator]] = {
    "single": ModelsLabVideo2VideoOperator,
    "batch": ModelsLabVideo2VideoBatchOperator,
}
_NEEDED = (
    "aiohttp",
    "boto3.s3.transfer",
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow_provider_modelslab.batch.planning.plan",
    "airflow_provider_modelslab.batch.sources.discovery",
    "airflow_provider_modelslab.client.async_client",
    "airflow_provider_modelslab.client.polling.registry",
    "airflow_provider_modelslab.client.client",
    "airflow_provider_modelslab.jobs.task_ledger",
    "airflow_provider_modelslab.storage.checks",
    "airflow_provider_modelslab.storage.landing",
    "airflow_provider_modelslab.triggers.batch",
    "airflow_provider_modelslab.triggers.video2video",
)


def _main() -> None:
    children: dict[int, int] = {}
    heard = b""
    while True:
        ready, _, _ = select.select([0], [], [], _LOOK_S if children else None)
        if ready:
            data = os.read(0, 1 << 20)
            if not data:
                break
            *lines, heard = (heard + data).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    _be_a_child(order)
                children[pid] = order["number"]
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                told = {"number": children.pop(pid), "status": os.waitstatus_to_exitcode(status)}
                os.write(1, json.dumps(told).encode() + b"\n")
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _be_a_child(order: Mapping[str, Any]) -> None:
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(order["log"], os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.write(1, f"-- {order['name']}\n".encode())
        os.environ.update(order["environment"])
        strike = Strike(*order["strike"]) if order["strike"] else None
        probe = Probe(Path(order["journal"]), order["name"], strike, surely=order["surely"])
        while time.time() < order["start_at"]:
            time.sleep(0.001)
        outcome = _outcome(order, probe)
        probe.ending()
        unfinished = Path(f"{order['outcome']}.part")
        unfinished.write_text(json.dumps({**outcome, "s3_calls": dict(probe.s3_calls)}, allow_nan=False))
        unfinished.replace(order["outcome"])
    except BaseException:  # noqa: BLE001 - it ends this process, and who reads its log sees why
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(0)


def _outcome(order: Mapping[str, Any], probe: Probe) -> dict[str, Any]:
    roles: dict[str, Callable[[Mapping[str, Any], Probe], dict[str, Any]]]
    roles = {"execute": _execute, "trigger": _trigger, "resume": _resume, "command": _command}
    try:
        return roles[order["role"]](order, probe)
    except TaskDeferred as deferred:
        path, kwargs = deferred.trigger.serialize()
        return {
            "end": "deferred",
            "path": path,
            "trigger": json.dumps(serialize(kwargs), allow_nan=False),
            "method": deferred.method_name,
            "kwargs": json.dumps(serialize(deferred.kwargs), allow_nan=False),
        }
    except Exception as error:  # noqa: BLE001 - as the task runner does
        traceback.print_exc()
        code = getattr(error, "code", None) or getattr(error.__cause__, "code", None)
        return {"end": "failed", "error": type(error).__name__, "code": code, "text": str(error)}


def _execute(order: Mapping[str, Any], probe: Probe) -> dict[str, Any]:
    probe.attach()
    return {"end": "success", "result": tasks.execute(_operator(order), _context(order))}


def _trigger(order: Mapping[str, Any], probe: Probe) -> dict[str, Any]:
    trigger = tasks.in_the_triggerer(_deferred(order["deferral"]))
    probe.passed("watching")
    return {"end": "event", "event": tasks.event_of(trigger)}


def _resume(order: Mapping[str, Any], probe: Probe) -> dict[str, Any]:
    probe.attach()
    deferred = _deferred(order["deferral"])
    return {"end": "success", "result": tasks.resume(_operator(order), deferred, order["event"], _context(order))}


def _command(order: Mapping[str, Any], probe: Probe) -> dict[str, Any]:
    """``airflow modelslab ...``"""
    args = get_parser().parse_args(["modelslab", *order["words"], "--output", "json"])
    probe.attach()
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            args.func(args)
    except SystemExit as end:
        return {"end": "failed", "exit_code": end.code, "text": err.getvalue()}
    return {"end": "success", "result": json.loads(out.getvalue())}


def _operator(order: Mapping[str, Any]) -> BaseOperator:
    """The task, made anew in each process as each parse of a Dag does it."""
    return _OPERATORS[order["operator"]](task_id=order["operator"], **order["task"])


def _context(order: Mapping[str, Any]) -> Any:
    run = SimpleNamespace(conf=order["conf"])
    ti = tasks.TaskInstance(
        task_id=order["operator"],
        run_id=order["run_id"],
        try_number=order["try_number"],
        max_tries=order["max_tries"],
        dag_run=run,
    )
    return tasks.context_of(ti)


def _deferred(told: Mapping[str, Any]) -> TaskDeferred:
    """What the worker sent, as it comes out of Airflow's database."""
    stored = SimpleNamespace(serialize=lambda: (told["path"], deserialize(json.loads(told["trigger"]))))
    kwargs: Any = deserialize(json.loads(told["kwargs"]))
    return TaskDeferred(trigger=stored, method_name=told["method"], kwargs=kwargs)


def _load_what_children_need() -> None:
    """So that they need not load it each; nothing is sent anywhere."""
    for name in _NEEDED:
        importlib.import_module(name)
    get_parser()
    smart_decode_trigger_kwargs(tasks.through_serde({"number": 1.0})["number"])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    gc.freeze()  # so that a child's first collection does not copy all of it


if __name__ == "__main__":
    _load_what_children_need()
    _main()
