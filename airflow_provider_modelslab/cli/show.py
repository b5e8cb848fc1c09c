"""``show``: what the endpoint says of a job, once or until it ends."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import JobFailedError, JobLostError, JobTimeoutError
from airflow_provider_modelslab.api.response import Failed, Finished, Processing
from airflow_provider_modelslab.cli.common import FAILED, RUNNING, UNKNOWN, command, echo_line, print_record, program
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.cli.progress import watch
from airflow_provider_modelslab.storage.result_manifest import Job

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_modelslab.api.response import Answer
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

__all__ = ["show"]


@partial(command, on_error=UNKNOWN)
def show(args: Namespace) -> int | None:
    """Print the job's state; the exit code tells it too."""
    hook = open_hook(args.conn_id)
    answer: Answer = hook.fetch(args.job_id)
    if args.watch and isinstance(answer, Processing):
        answer = _watched(hook, args, answer)
    if isinstance(answer, Failed):
        error = answer.to_error(args.job_id)
        if not isinstance(error, JobFailedError | JobLostError):
            raise error  # the question was refused, and the job may well run
    print_record(_record(args.job_id, answer), args.output)
    if isinstance(answer, Finished):
        echo_line(
            "The links lead to the endpoint and are valid for 24 hours; anyone who has a link can read the result. To "
            f"keep the result, at no cost: {program(args)} land {args.job_id} --to s3://..."
        )
        return None
    return FAILED if isinstance(answer, Failed) else RUNNING


def _watched(hook: ModelsLabHook, args: Namespace, answer: Processing) -> Answer:
    """How the job ended; or what was last heard of it, when the time is up."""
    heard = [answer]
    job = Job(args.job_id, args.conn_id, eta=answer.eta)
    try:
        return watch(hook, job, deadline=time.time() + args.timeout, on_running=heard.append)
    except JobTimeoutError:
        echo_line(f"Stopped watching after {args.timeout:g} s. Job {args.job_id} keeps running, and is billed")
        return heard[-1]
    except (JobFailedError, JobLostError) as error:
        return Failed(error.code, error.message)


def _record(job_id: str, answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Finished):
        return {
            "job_id": job_id,
            "state": "finished",
            "links": list(answer.links),
            "generation_time_s": answer.generation_time,
        }
    if isinstance(answer, Failed):
        return {"job_id": job_id, "state": "failed", "code": answer.code.value, "message": answer.message}
    return {
        "job_id": job_id,
        "state": "running",
        "status": answer.status,
        "eta_s": answer.eta,
        "message": answer.message or None,
    }
