"""``land``: a finished job's result, copied to S3 and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import JobNotFinishedError
from airflow_provider_modelslab.cli.common import RUNNING, command, echo_line, print_record, program
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.cli.destinations import destination_of, refuse_to_overwrite
from airflow_provider_modelslab.jobs.paid_job import land_found_job
from airflow_provider_modelslab.operators.arguments import link_suffix
from airflow_provider_modelslab.storage.checks import require_writable
from airflow_provider_modelslab.storage.result_manifest import Job

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["land"]


@command
def land(args: Namespace) -> int | None:
    """Land the result and print the manifest. Where ``submit`` began it, its ledger learns that it has landed."""
    hook = open_hook(args.conn_id)
    try:
        finished = hook.fetch_finished(args.job_id)
    except JobNotFinishedError:
        echo_line(
            f"Job {args.job_id} is not done yet. Wait for it, at no cost, with: {program(args)} "
            f"show {args.job_id} --watch"
        )
        return RUNNING
    target = destination_of(hook, args.to, args.job_id, link_suffix(finished.links))
    require_writable(hook.get_s3_client(), target)
    if not args.overwrite:
        refuse_to_overwrite(hook, target)
    manifest = land_found_job(hook, Job(args.job_id, hook.modelslab_conn_id), finished, target)
    echo_line(f"Landed {manifest['uri']}: {manifest['bytes']} bytes, sha256 {manifest['sha256']}")
    print_record(manifest, args.output)
    return None
