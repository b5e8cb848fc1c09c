"""``submit --clip-mode whole``: a clip of any length, as many jobs whose results are joined."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.cli import progress
from airflow_provider_modelslab.cli.common import confirm, echo_line
from airflow_provider_modelslab.cli.destinations import refuse_to_overwrite
from airflow_provider_modelslab.jobs.ledgers import ledgers_of
from airflow_provider_modelslab.jobs.timing import poll_policy
from airflow_provider_modelslab.jobs.whole_clip.clip import WholeClip
from airflow_provider_modelslab.jobs.whole_clip.run import SegmentRun
from airflow_provider_modelslab.jobs.whole_clip.settings import WholeClipSettings
from airflow_provider_modelslab.operators.rendered import clip_version_of

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.budget.spending import Spending
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.paid_job import PaidJob
    from airflow_provider_modelslab.ledger.attempt import AttemptId
    from airflow_provider_modelslab.ledger.model import LedgerPolicy
    from airflow_provider_modelslab.ledger.service import Ledger
    from airflow_provider_modelslab.storage.inputs import PreparedInput
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["submit_whole", "whole_settings"]


def submit_whole(
    args: Namespace,
    request: Video2VideoRequest,
    hook: ModelsLabHook,
    target: S3Uri,
    ledger: Ledger,
    policy: LedgerPolicy,
    attempt: AttemptId,
    spending: Spending,
) -> dict[str, Any]:
    """Cut the clip, ask, run the jobs of its segments, and join and land their results.

    :return: the manifest.
    :raises InvalidRequestError: for options that do not go together with a whole clip, and for a clip that cannot be
        cut, see :meth:`WholeClip.open`.
    """
    wrong = {"--no-wait": not args.wait, "--adopt": args.adopt is not None, "--resubmit N": bool(args.resubmit)}
    for flag in (flag for flag, is_given in wrong.items() if is_given):
        raise InvalidRequestError.of(flag, "cannot be used with --clip-mode whole, which has many jobs")
    if args.max_in_flight < 1:
        raise InvalidRequestError.of("--max-in-flight", f"must be 1 or more; got {args.max_in_flight}")
    settings = whole_settings(args)
    assert settings is not None  # noqa: S101 - a whole clip is wanted
    clip = WholeClip(
        request=request,
        settings=settings,
        hook=hook,
        ledger=ledger,
        ledgers=ledgers_of(hook, target),
        destination=target,
        policy=policy,
        attempt=attempt,
        caller=_SegmentCaller(),
        spending=spending,
        timeout=args.timeout,
        clip_version=clip_version_of(args.clip_version),
    )
    stored = clip.find()
    if stored is not None:
        echo_line("The whole clip is already there; nothing is paid for. To pay for a new one, add --again")
        return dict(stored.manifest)
    if not args.overwrite and not args.again:
        refuse_to_overwrite(hook, target)
    opened = clip.open()
    echo_line(f"{opened.line()}, at {hook.base_url}, connection {args.conn_id}. The result lands at {target}")
    if opened.jobs:
        confirm(f"Submit and pay for {opened.jobs} jobs?", yes=args.yes, undone="Nothing was submitted")
    run = SegmentRun(clip, opened, args.max_in_flight, poll_policy(*progress.INTERVALS))
    try:
        asyncio.run(run.run())
    except KeyboardInterrupt:
        echo_line("The running jobs are paid for. To continue with them at no cost, run the same command again")
        raise
    echo_line("All segments are done. Joining them")
    manifest = clip.land(opened.segments, run.outcomes.manifests)
    echo_line(f"Landed {manifest['uri']}: {manifest['frames']} frames, {manifest['bytes']} bytes")
    return manifest


def whole_settings(args: Namespace) -> WholeClipSettings | None:
    """How whole clips are made; ``None`` for samples.

    :raises InvalidRequestError: for a value that is not allowed.
    """
    if args.clip_mode == "sample":
        return None
    return WholeClipSettings.of(args.overlap, args.audio, args.max_segments)


@dataclass(frozen=True)
class _SegmentCaller:
    """The person at the command line, who was asked once for all jobs."""

    def submission_name(self, number: int, destination: S3Uri | None) -> str:
        """The track_id."""
        place = f"{destination.bucket}/{destination.key}" if destination else ""
        return f"cli/{place}/submission{number}"

    def resolution(self, name: str) -> str | None:
        """``--resubmit any`` is part of the policy."""
        return None

    def advice(self, name: str) -> str:
        """Which option to add."""
        return (
            "If ModelsLab has no job with this track_id, run the same command with --resubmit any. It submits all such "
            "segments again, and may pay twice"
        )

    def confirm(self, job: PaidJob, clip: PreparedInput | None) -> None:
        """The question was asked before."""

    def before_claim(self, track_id: str) -> None:
        """Ctrl-C ends the run between two jobs."""
