"""``plan``: what a batch would find, submit and cost. It submits nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.batch.planning.estimate import estimate
from airflow_provider_modelslab.batch.planning.naming import KeyTemplate
from airflow_provider_modelslab.batch.planning.plan import make_plan
from airflow_provider_modelslab.batch.planning.selection import Selection
from airflow_provider_modelslab.batch.results.tracker import BatchTracker
from airflow_provider_modelslab.batch.running.limits import FailureLimit
from airflow_provider_modelslab.batch.sources.discovery import find_clips
from airflow_provider_modelslab.batch.sources.empty import explain_empty
from airflow_provider_modelslab.cli.common import command, echo_line, print_record
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.cli.request import attributes_of
from airflow_provider_modelslab.cli.whole_clip import whole_settings
from airflow_provider_modelslab.jobs.budgets import price_of_jobs, prices_of
from airflow_provider_modelslab.jobs.stretch import stretched_clips
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import LedgerPolicy
from airflow_provider_modelslab.operators.arguments import resolve_output

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_modelslab.api.request import Video2VideoRequest

__all__ = ["plan"]


@command
def plan(args: Namespace) -> None:
    """Find and check the clips as a batch does, look them up, and print what would be done."""
    hook = open_hook(args.conn_id)
    output = resolve_output(args.to, hook.s3_profile)
    if output is None:
        raise StorageConfigurationError(
            f"--to: is needed, such as s3://bucket/prefix/, because the connection {args.conn_id!r} names no bucket"
        )
    whole = whole_settings(args)

    def check(request: Video2VideoRequest) -> None:
        hook.check_request(request)
        if whole is not None:
            whole.check_request(request)

    selection = Selection.of(args.limit, args.sample, args.sample_seed)
    clips = find_clips(args.source, hook.get_s3_client, pattern=args.pattern, output=output)
    if not clips.clips:
        why = explain_empty(clips, hook.get_s3_client)
        if args.on_empty == "fail":
            raise InvalidRequestError.of("SOURCE", f"has no clips. {why}")
        echo_line(f"warning: there are no clips. {why}")
    batch = make_plan(
        clips,
        attributes_of(args),
        output=output,
        conn_id=hook.modelslab_conn_id,
        s3_factory=hook.get_s3_client,
        check=check,
        identify_request=whole.identify if whole else None,
        template=KeyTemplate(args.key_template) if args.key_template else None,
        selection=selection,
    )
    root = hook.s3_profile.ledger_root(output)
    assert root is not None  # noqa: S101 - there is an output
    tracker = BatchTracker(hook.get_s3_client(), root, batch, name="plan", limit=FailureLimit())
    todo = tracker.begin(reuse=args.reuse)
    found = estimate(
        tracker,
        todo,
        price_of_jobs(prices_of(hook), batch, whole, timeout=args.timeout),
        policy=LedgerPolicy(args.reuse),
        attempt=AttemptId(),
        reads=len(todo),
        most_jobs=whole.max_segments if whole else 1,
    )
    if (note := stretched_clips(batch, todo, hook)) is not None:
        echo_line(f"warning: {note}")
    echo_line(f"Found {clips.describe()}. {found.line()}. Nothing was submitted")
    print_record(found.to_dict(), "json" if args.json else args.output)
