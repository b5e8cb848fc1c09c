"""``land``: a finished job's result, copied to S3 and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import JobNotFinishedError
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.cli.places import destination_of, ledgers_of, read_entries, refuse_to_overwrite
from airflow_provider_modelslab.cli.running import RUNNING, command, print_record, program, tell
from airflow_provider_modelslab.operators.arguments import link_suffix
from airflow_provider_modelslab.storage.checks import require_bucket
from airflow_provider_modelslab.storage.ledger import Entry, entry_name
from airflow_provider_modelslab.storage.manifest import Job

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["land"]


@command
def land(args: Namespace) -> int | None:
    """Land the result and print the manifest. Where ``submit`` began it, its ledger learns that it has landed."""
    hook = open_hook(args.conn_id)
    try:
        finished = hook.fetch_finished(args.job_id)
    except JobNotFinishedError:
        tell(f"Job {args.job_id} is not done yet. Wait for it with: {program(args)} show {args.job_id} --watch")
        return RUNNING
    target = destination_of(hook, args.to, args.job_id, link_suffix(finished.links))
    require_bucket(hook.get_s3_client(), target.bucket)
    take, job = _known(hook, target, args.job_id)
    if not args.overwrite:
        refuse_to_overwrite(hook, target)
    manifest = hook.land(job, finished, target, expected_type=job.request.get("output_type"))
    if take is not None:
        ledgers_of(hook, target).open(target).landed(take, manifest)
    tell(f"Landed {manifest['uri']}: {manifest['bytes']} bytes, sha256 {manifest['sha256']}")
    print_record(manifest, args.output)
    return None


def _known(hook: ModelsLabHook, target: S3Uri, job_id: str) -> tuple[int | None, Job]:
    """The take of the destination's ledger that paid for the job, and the job as it was submitted."""
    entries = read_entries(hook, ledgers_of(hook, target).folder(target))
    for name, entry in entries.items():
        take, _, kind = name.partition("-")
        if kind == Entry.JOB and entry.get("job_id") == job_id:
            landed = entry_name(int(take), Entry.LANDED) in entries
            return (None if landed else int(take)), Job.from_dict(entry)
    return None, Job(job_id, hook.modelslab_conn_id)
