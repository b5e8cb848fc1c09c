"""``show``: what the endpoint says of a job, once or until it ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.response import Failed, Finished
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.cli.running import FAILED, RUNNING, command, print_record, program, tell
from airflow_provider_modelslab.cli.watching import watch
from airflow_provider_modelslab.storage.manifest import Job

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_modelslab.api.response import Answer

__all__ = ["show"]


@command
def show(args: Namespace) -> int | None:
    """Print the job's state; the exit code tells it too."""
    hook = open_hook(args.conn_id)
    answer: Answer = hook.fetch(args.job_id)
    if args.watch and not isinstance(answer, Finished | Failed):
        now = time.time()
        job = Job(args.job_id, args.conn_id, submitted_at=now, eta=answer.eta)
        answer = watch(hook, job, deadline=now + args.timeout)
    print_record(_record(args.job_id, answer), args.output)
    if isinstance(answer, Finished):
        tell(
            "The links are the endpoint's own; anyone who has one can read the result, for 24 hours. Keep it with: "
            f"{program(args)} land {args.job_id} --to s3://..."
        )
        return None
    return FAILED if isinstance(answer, Failed) else RUNNING


def _record(job_id: str, answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Finished):
        return {
            "job_id": job_id,
            "state": "finished",
            "links": list(answer.links),
            "generation_time_s": answer.generation_time,
        }
    if isinstance(answer, Failed):
        return {"job_id": job_id, "state": "failed", "reason": answer.reason.value, "message": answer.message}
    return {
        "job_id": job_id,
        "state": "running",
        "status": answer.status,
        "eta_s": answer.eta,
        "message": answer.message or None,
    }
