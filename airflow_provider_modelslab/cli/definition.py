"""The commands and their arguments. Every ``airflow`` command loads this, so all the rest is imported when one runs."""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import lazy_object_proxy  # type: ignore[import-untyped]  # Airflow's own way to make the text of a help late
from airflow.cli.cli_config import (
    ARG_OUTPUT,
    ARG_VERBOSE,
    ARG_YES,
    ActionCommand,
    Arg,
    GroupCommand,
    lazy_load_command,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.cli.cli_config import CLICommand

__all__ = ["FLAGS", "get_modelslab_cli_commands"]

FLAGS = (
    "model_id",
    "prompt",
    "negative_prompt",
    "seed",
    "height",
    "width",
    "num_frames",
    "num_inference_steps",
    "guidance_scale",
    "clip_skip",
    "strength",
    "output_type",
    "fps",
    "lora_models",
    "lora_strength",
    "motion_loras",
    "motion_lora_strength",
    "domain_lora_scale",
    "adapter_lora",
    "motion_module",
    "upscale_height",
    "upscale_width",
    "upscale_strength",
    "upscale_guidance_scale",
    "upscale_num_inference_steps",
    "use_improved_sampling",
    "base64",
    "instant_response",
    "temp",
    "webhook",
    "track_id",
    "extra_parameters",
)
"""The request's attributes that are flags of ``submit``: all but the clip, which is an argument."""

_SWITCHES = {"use_improved_sampling", "base64", "instant_response", "temp"}


def _flag(name: str) -> Arg:
    """``--num-frames`` for ``num_frames``; its value is checked by the request, whose message says what is allowed."""
    kwargs: dict[str, Any] = {"help": lazy_object_proxy.Proxy(_description_of(name)), "default": None}
    if name in _SWITCHES:
        kwargs["action"] = argparse.BooleanOptionalAction
    elif name == "extra_parameters":
        kwargs |= {"type": _json_object, "metavar": "JSON"}
    return Arg((f"--{name.replace('_', '-')}",), **kwargs)


def _description_of(name: str) -> Callable[[], str]:
    def description() -> str:
        from airflow_provider_modelslab.api.request import Video2VideoRequest

        text = Video2VideoRequest.model_fields[name].description or name
        limit = Video2VideoRequest.vendor_limits.get(name)
        return (text if limit is None else f"{text} At ModelsLab at most {limit}.").replace("%", "%%")

    return description


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value


def _moment(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a time such as 2026-11-29T10:00Z; got {text!r}") from None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _age(text: str) -> float:
    """Seconds, at least 8 days: a link to a staged clip lives for up to 7, and a result at the endpoint for one."""
    found = re.fullmatch(r"(\d{1,6})([dw])", text)
    days = int(found[1]) * (7 if found[2] == "w" else 1) if found else 0
    if days < 8:
        raise argparse.ArgumentTypeError(f"must be at least 8d, for example 90d or 13w; got {text!r}")
    return days * 86400.0


def _seconds(text: str) -> float:
    from airflow_provider_modelslab.api.errors import InvalidRequestError
    from airflow_provider_modelslab.api.quantities import seconds_of

    try:
        return seconds_of(text, "", above=0)
    except InvalidRequestError as error:
        raise argparse.ArgumentTypeError("; ".join(error.fields[""])) from None


def _adopted(text: str) -> tuple[int, str]:
    number, _, job_id = (part.strip() for part in text.partition("="))
    if not number.isdecimal() or not job_id:
        raise argparse.ArgumentTypeError(
            f"must be the number of a submission and a job id, as in 1=123456; got {text!r}"
        )
    return int(number), job_id


def _submission_or_any(text: str) -> int:
    """A submission's number, from 1; 0 for any."""
    if text.strip().lower() == "any":
        return 0
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be the number of a submission, or any; got {text!r}")
    return int(text)


_CONN_ID = Arg(("--conn-id",), default="modelslab_default", help="The Airflow connection (default: modelslab_default)")
_JOB_ID = Arg(("job_id",), metavar="JOB_ID", help="The endpoint's id of the job")
_TO = Arg(
    ("--to",),
    metavar="URI",
    help="Where the result lands: s3://bucket/out.mp4, s3://bucket/prefix/, or a key below the connection's bucket",
)


_OUTPUT = Arg(
    ("--to",),
    metavar="URI",
    help="The prefix for the results: s3://bucket/prefix/ (default: the prefix of the connection)",
)


def _timeout(stop: str) -> Arg:
    text = f"{stop}, with exit code 3; the job keeps running and is billed. Seconds, or 90s, 15m, 1h (default: 3600)"
    return Arg(("--timeout",), type=_seconds, default=3600.0, metavar="TIME", help=text)


_TIMEOUT = _timeout("Stop waiting this long after the submission")
_WATCHING = _timeout("Stop watching after this time")
_BUDGET = Arg(
    ("--budget",),
    metavar="NAME",
    help="Count the job in this budget, defined in the connection's extra or the Variable modelslab_budgets",
)
_OVERWRITE = Arg(("--overwrite",), action="store_true", help="Replace an object that already exists at the destination")


def _command(name: str, description: str, *args: Arg, run: str | None = None) -> ActionCommand:
    """A command.

    :param run: module and function in this package; by default both have the command's name.
    """
    func = lazy_load_command(f"airflow_provider_modelslab.cli.{run or f'{name}.{name}'}")
    return ActionCommand(name=name, help=description, func=func, args=(*args, ARG_OUTPUT, ARG_VERBOSE))


def get_modelslab_cli_commands() -> list[CLICommand]:
    """The group ``modelslab``; named in the provider's metadata under ``cli``, which Airflow 3.2 and later read."""
    return [
        GroupCommand(
            name="modelslab",
            help="ModelsLab video-to-video: check a connection, submit a clip, look at jobs and ledgers",
            subcommands=(_CHECK, _PLAN, _SUBMIT, _SHOW, _LAND, _LEDGER, _CLEAN, _SERVER),
        )
    ]


_CHECK = _command(
    "check",
    "Check a connection: key, video server, S3 bucket. Costs nothing",
    _CONN_ID,
    Arg(("--write",), action="store_true", help="Also write a small object to the bucket, and delete it again"),
)
_WHOLE = (
    Arg(
        ("--clip-mode",),
        choices=("sample", "whole"),
        default="sample",
        help="sample: one job, for frames spread over the clip (default). whole: the whole clip with its sound, in "
        "segments of --num-frames frames, one job each; needs the extra [media]",
    ),
    Arg(("--overlap",), metavar="N", help="Whole clips: frames shared by neighbouring segments (default: 4)"),
    Arg(
        ("--audio",), choices=("keep", "drop", "require"), help="Whole clips: what to do with the sound (default: keep)"
    ),
    Arg(("--max-segments",), metavar="N", help="Whole clips: refuse clips that need more segments (default: 60)"),
)
_PLAN = _command(
    "plan",
    "Show what a batch would find, submit and cost. It submits nothing and costs nothing",
    Arg(("source",), metavar="SOURCE", help="The clips: s3://bucket/prefix/, or a manifest file"),
    _CONN_ID,
    _OUTPUT,
    Arg(("--pattern",), metavar="GLOB", help="Use only objects that match: *.mp4, cam1/** (default: all videos)"),
    Arg(("--limit",), metavar="N", help="Use only the first N clips (default: all)"),
    Arg(("--sample",), metavar="N", help="Use only N clips, spread evenly over all clips"),
    Arg(("--sample-seed",), metavar="TEXT", help="Choose the sample at random; the same text gives the same sample"),
    Arg(
        ("--key-template",),
        metavar="TEXT",
        help="Template for the names of the results, as in the Dag (default: the names of the clips)",
    ),
    Arg(
        ("--reuse",),
        choices=("always", "run", "never"),
        default="always",
        help="As in the Dag. With run and never, results of other runs do not count as stored (default: always)",
    ),
    Arg(("--request",), metavar="FILE", help="A JSON object with attributes; - reads stdin. Flags override it"),
    Arg(
        ("--timeout",),
        type=_seconds,
        default=3600.0,
        metavar="TIME",
        help="Generation time to assume if prices are per second and have no max_seconds (default: 3600)",
    ),
    Arg(
        ("--on-empty",),
        choices=("fail", "succeed"),
        default="fail",
        help="What to do if there are no clips: fail with exit code 1 (default), or print the estimate",
    ),
    *_WHOLE,
    Arg(("--json",), action="store_true", help="The same as --output json"),
    *map(_flag, FLAGS),
)
_SUBMIT = _command(
    "submit",
    "Submit one clip, watch it and land the result in S3. Costs money, so it asks first",
    Arg(("clip",), nargs="?", metavar="CLIP", help="The clip: an http(s) link, s3://bucket/key, or a local file"),
    _CONN_ID,
    _TO,
    Arg(("--request",), metavar="FILE", help="A JSON object with attributes; - reads stdin. Flags override it"),
    Arg(
        ("--wait",),
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Wait for the job and land its result (default), or only submit",
    ),
    _TIMEOUT,
    Arg(
        ("--clip-version",),
        metavar="TEXT",
        help="Identify the clip by this text, not by its link, ETag or content: the same text means the same clip",
    ),
    _BUDGET,
    Arg(
        ("--again",),
        action="store_true",
        help="Pay for a new result, even if the same request already has a result there",
    ),
    _OVERWRITE,
    Arg(
        ("--adopt",),
        type=_adopted,
        metavar="N=JOB_ID",
        help="Submission N has an unknown outcome, and you found its job: wait for this job. Pays for nothing",
    ),
    Arg(
        ("--resubmit",),
        type=_submission_or_any,
        metavar="N",
        help="Submission N has an unknown outcome, and it has no job: submit again, which pays for a new job. 'any' "
        "does this for every such submission without a check, which may pay twice",
    ),
    *_WHOLE,
    Arg(
        ("--max-in-flight",),
        type=int,
        default=10,
        metavar="N",
        help="Whole clips: the most jobs at a time (default: 10)",
    ),
    ARG_YES,
    *map(_flag, FLAGS),
)
_SHOW = _command(
    "show",
    "Show a job. Costs nothing. Exit codes: 0 done, 3 running, 1 failed or lost, 4 the endpoint cannot be reached",
    _JOB_ID,
    _CONN_ID,
    Arg(("--watch",), action="store_true", help="Wait until the job ends"),
    _WATCHING,
)
_LAND = _command(
    "land",
    "Copy the result of a finished job to S3. Costs nothing. Possible for 24 hours, while its links are valid",
    _JOB_ID,
    _CONN_ID,
    _TO,
    _OVERWRITE,
)
_ROOT = Arg(
    ("--root",),
    metavar="URI",
    help="Where ledgers are kept (default: _modelslab/ledger below the connection's bucket and prefix)",
)
_DRY_RUN = Arg(("--dry-run",), action="store_true", help="Only list what would be done; change nothing")
_LEDGER_SHOW = _command(
    "show",
    "Show a ledger: what was paid for, the outcome, and what the next attempt would do. Costs nothing",
    Arg(
        ("place",),
        nargs="?",
        metavar="URI",
        help="The result of a batch or of submit, s3://bucket/out.mp4, or the folder of its ledger",
    ),
    Arg(("--dag-id",), help="The Dag of a task instance, instead of a URI"),
    Arg(("--run-id",), help="Its run"),
    Arg(("--task-id",), help="Its task"),
    Arg(("--map-index",), type=int, default=-1, help="Its map index"),
    Arg(("--loop-index",), type=int, help="Its iteration, from 0, if the task is in a loop"),
    _ROOT,
    _CONN_ID,
    run="ledger.show",
)
_LEDGER_RESOLVE = _command(
    "resolve",
    "Decide about submissions of unknown outcome. It lists them and asks first, because a new submit costs money",
    Arg(("place",), nargs="?", metavar="URI", help="One result, or the folder of its ledger, instead of --since"),
    Arg(("--unknown",), action="store_true", required=True, help="Select submissions of unknown outcome (required)"),
    Arg(
        ("--since",),
        type=_moment,
        metavar="TIME",
        help="Only submissions claimed at this time or later: 2026-11-29T10:00Z; UTC if no zone is given",
    ),
    Arg(("--until",), type=_moment, metavar="TIME", help="Only submissions claimed at this time or earlier"),
    Arg(("--dag-id",), help="Only submissions claimed by tasks of this Dag"),
    Arg(
        ("--as",),
        dest="decision",
        required=True,
        metavar="DECISION",
        help="resubmit: the next attempt submits again and pays for a new job. JOB_ID: the next attempt waits for this "
        "job and pays for nothing; only for a single submission",
    ),
    _DRY_RUN,
    _ROOT,
    _CONN_ID,
    ARG_YES,
    run="resolve.resolve",
)
_LEDGER = GroupCommand(
    name="ledger",
    help="Show ledgers, and decide about submissions of unknown outcome",
    subcommands=(_LEDGER_SHOW, _LEDGER_RESOLVE),
)
_CLEAN = _command(
    "clean",
    "Remove old objects of this package below the connection's bucket and prefix. It shows what later runs would pay "
    "for, and asks first. It keeps the ledgers of running jobs, of unknown outcomes and of results that still exist",
    Arg(
        ("--older-than",),
        type=_age,
        required=True,
        metavar="AGE",
        help="The age, in days or weeks: 90d, 13w; at least 8d",
    ),
    _DRY_RUN,
    _ROOT,
    _CONN_ID,
    ARG_YES,
)
_SERVER = _command(
    "server",
    "Show the state of the video server, restart it, or clear its cache or queue. It asks first, as jobs may be lost",
    Arg(("action",), nargs="?", choices=("status", "restart", "clear-cache", "clear-queue"), default="status"),
    _CONN_ID,
    ARG_YES,
)
