"""The endpoint's command line, and the settings and engines that it asks for."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import get_args

from airflow_provider_modelslab.endpoint.engine import Engine
from airflow_provider_modelslab.endpoint.faults.plan import FaultPlan
from airflow_provider_modelslab.endpoint.settings import AnswerStyle, Settings, UnknownAttributes
from airflow_provider_modelslab.local.media.aspect import KEEP_ASPECT

__all__ = [
    "ADMIN_KEY_VARIABLE",
    "ALIASES_VARIABLE",
    "KEY_VARIABLE",
    "build_parser",
    "engines_of",
    "parse_bytes",
    "settings_of",
]

KEY_VARIABLE = "MODELSLAB_ENDPOINT_API_KEY"
ADMIN_KEY_VARIABLE = "MODELSLAB_ENDPOINT_ADMIN_KEY"
ALIASES_VARIABLE = "MODELSLAB_ENDPOINT_ALIASES"

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kMGT])(i?)B?)?", re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_modelslab.endpoint",
        description="Serve the ModelsLab Enterprise video-to-video endpoint from this machine.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on. If other machines can reach it, set a key")
    add("--port", type=int, default=8188, help="port to listen on; 0 lets the system choose")
    add("--state-dir", type=Path, required=True, help="where the queue, S3 details and results are kept")
    add("--public-url", help="base of the links in responses. Default: the address that the caller used")
    add(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name by which callers may reach this endpoint. Can be repeated. *.example.com allows all names "
        "below example.com. Always allowed: IP addresses, localhost, --host, the host of --public-url. If other "
        "machines can reach the endpoint, names without a dot are allowed too",
    )
    add(
        "--alias",
        action="append",
        default=[],
        type=_alias,
        metavar="NAME=MODEL",
        help="let requests ask for MODEL as NAME, for example dark-sushi-mix=demo. Can be repeated. Responses and logs "
        f"name MODEL. ${ALIASES_VARIABLE} takes several, separated by commas",
    )
    add(
        "--answers",
        choices=get_args(AnswerStyle),
        default="legacy",
        help="how errors are sent: legacy with HTTP 200, documented with HTTP error codes",
    )
    add("--hold-s", type=float, default=10.0, help="seconds that a submit waits for its result")
    add("--retention-s", type=float, default=86400.0, help="seconds that results and ids are kept")
    add("--publish-delay-s", type=float, default=0.0, help="seconds that a finished file still returns HTTP 404")
    add("--max-queue", type=int, default=10_000, help="the maximum number of unfinished jobs of one API key")
    add("--max-total-queue", type=int, default=50_000, help="the maximum number of unfinished jobs of all API keys")
    add(
        "--unknown-attributes",
        choices=get_args(UnknownAttributes),
        default="misspelt",
        help="which unknown attributes to refuse: misspelt ones, all, or none. The others are ignored, as at the "
        "vendor, and named in the response",
    )
    add(
        "--api-key",
        action="append",
        default=[],
        help="an API key to accept. Can be repeated. Other users of the machine can see this flag; they cannot see "
        f"${KEY_VARIABLE}. Without any key, the endpoint accepts every key, but only from this machine",
    )
    add(
        "--admin-key",
        help="the operator's key. With it, clear_queue and restart_server act on the jobs of all keys. /admin needs it "
        f"as a Bearer token. ${ADMIN_KEY_VARIABLE} hides it from others. Default: the API key, if it is the only one",
    )
    add("--engine", choices=("local", "echo"), default="local", help="what makes the clips. echo runs no model")
    add("--echo-seconds", type=float, default=0.0, help="seconds that a job of the echo engine takes")
    add("--echo-fetch", action="store_true", help="let the echo engine read init_video and paint over it")
    add("--workers", type=int, default=1, help="jobs that the echo engine does at a time. For GPUs, use --device")
    _add_models(parser)
    add(
        "--allow-private-addresses",
        action="store_true",
        help="allow hosts of this machine and its private network in init_video, webhook and the endpoint_url of "
        "update_s3",
    )
    add(
        "--faults",
        metavar="FILE_OR_JSON",
        help='faults to inject: {"seed": 7, "rates": {"reset_after": 0.1}}',
    )
    add("--allow-request-faults", action="store_true", help="let requests choose faults with the attribute x_faults")
    add(
        "--admin",
        action="store_true",
        help="count accepted jobs, and serve /admin/bills and /admin/reset. If other machines can reach the endpoint, "
        "set --admin-key",
    )
    add("--ready-file", type=Path, help='file that gets {"url": ...} when the endpoint is ready')
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="how much to log")
    return parser


def settings_of(given: argparse.Namespace) -> Settings:
    """The endpoint's settings.

    :raises ValueError: naming the one that cannot work.
    """
    keys = [*given.api_key, os.environ.get(KEY_VARIABLE, "").strip()]
    return Settings(
        state_dir=given.state_dir.resolve(),
        host=given.host,
        allowed_hosts=tuple(given.allowed_host),
        public_url=given.public_url,
        answers=given.answers,
        hold_s=given.hold_s,
        retention_s=given.retention_s,
        publish_delay_s=given.publish_delay_s,
        api_keys=tuple(key for key in keys if key),
        admin_key=(given.admin_key or os.environ.get(ADMIN_KEY_VARIABLE, "")).strip() or None,
        allow_private_addresses=given.allow_private_addresses,
        preload=tuple(given.preload),
        aliases=_aliases_in(os.environ.get(ALIASES_VARIABLE, "")) | dict(given.alias),
        max_total_queue=given.max_total_queue,
        unknown_attributes=given.unknown_attributes,
        max_queue=given.max_queue,
        faults=FaultPlan.read(given.faults) if given.faults else None,
        allow_request_faults=given.allow_request_faults,
        admin=given.admin,
    )


def engines_of(given: argparse.Namespace, settings: Settings) -> list[Engine]:
    """One engine for each worker: for each device, or ``--workers`` of the echo.

    :raises ValueError: naming what cannot be.
    """
    # Imported here, so that --help and mistakes in the settings answer before Pillow or torch are on their way.
    from airflow_provider_modelslab.local.media.fetch import FetchLimits

    limits = FetchLimits(allow_private_addresses=given.allow_private_addresses, allow_local_files=False)
    if given.workers < 1:
        raise ValueError(f"workers must be at least 1; got {given.workers}")
    if given.engine == "echo":
        from airflow_provider_modelslab.endpoint.echo import EchoEngine, FetchingEchoEngine

        if given.echo_fetch:
            return [FetchingEchoEngine(limits=limits, seconds=given.echo_seconds) for _ in range(given.workers)]
        return [EchoEngine(seconds=given.echo_seconds) for _ in range(given.workers)]
    if given.workers > 1:
        raise ValueError(
            "workers is only for the echo engine; the local engine has one worker for each GPU in --device"
        )
    from airflow_provider_modelslab.local.engine import LocalEngine
    from airflow_provider_modelslab.local.runtime.device_list import split_devices
    from airflow_provider_modelslab.local.runtime.optimizations import Optimizations

    speed = Optimizations(
        compile=given.compile,
        tiny_vae=given.tiny_vae,
        guidance_until=given.guidance_until,
        reuse_deep=given.reuse_deep,
    )
    return [
        LocalEngine(
            model_dir=given.model_dir,
            cache_dir=settings.state_dir / "cache",
            device=device,
            dtype=given.dtype,
            limits=limits,
            catalog_file=given.catalog_file,
            offline=not given.allow_downloads,
            allow_pickle=given.allow_pickle,
            speed=speed,
            keep_aspect=given.keep_aspect,
            memory_budget=given.memory_budget,
        )
        for device in split_devices(given.device)
    ]


def _alias(text: str) -> tuple[str, str]:
    """``NAME=MODEL``.

    :raises argparse.ArgumentTypeError: for anything else.
    """
    name, separator, model = (part.strip() for part in text.partition("="))
    if not (name and separator and model):
        raise argparse.ArgumentTypeError(f"must be NAME=MODEL, such as dark-sushi-mix=demo; got {text!r}")
    return name, model


def _aliases_in(text: str) -> dict[str, str]:
    try:
        return dict(_alias(part) for part in text.split(",") if part.strip())
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"${ALIASES_VARIABLE} {error}") from None


def parse_bytes(text: str) -> int:
    """``60GB`` (10^9), ``60GiB`` (2^30), ``500MB``; a number alone is GiB.

    :raises argparse.ArgumentTypeError: for anything else, and for less than a byte.
    """
    found = _SIZE.fullmatch(text.strip())
    number, unit, binary = found.groups() if found else ("0", None, None)
    size = int(float(number) * (1024 if binary or not unit else 1000) ** _POWERS[(unit or "g").lower()])
    if size < 1:
        raise argparse.ArgumentTypeError(f"must be a size such as 60GB, 60GiB or 60 (GiB); got {text!r}")
    return size


def _add_models(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models", "for the local engine")
    add = group.add_argument
    add("--model-dir", type=Path, help="directory with models")
    add("--catalog-file", type=Path, help="your names for models and parts. Default: catalog.json in --model-dir")
    hub = group.add_mutually_exclusive_group()
    # A caller names the model, and should not fill this machine's disk unless its owner says so.
    hub.add_argument(
        "--allow-downloads", action="store_true", help="let a request's model_id download a repository from the Hub"
    )
    hub.add_argument(
        "--offline",
        action="store_false",
        dest="allow_downloads",
        default=argparse.SUPPRESS,
        help="fetch nothing from the Hub. This is the default",
    )
    add("--allow-pickle", action="store_true", help="also read .bin, .ckpt and .pt weights. Only from trusted sources")
    add(
        "--device",
        default="auto",
        help="cpu, cuda:1, or a list such as cuda:0,cuda:1 (one worker for each). cuda means all GPUs. auto means all "
        "GPUs, or the cpu if there is none",
    )
    add("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    add(
        "--memory-budget",
        type=parse_bytes,
        metavar="SIZE",
        help="memory of each device for loaded models: 60GB, or 60 (GiB). The model used least recently is unloaded "
        "first. Default: most of the free memory of a GPU, or half of the memory without a GPU",
    )
    add(
        "--preload",
        action="append",
        default=[],
        metavar="MODEL",
        help="load MODEL at the start, before its first job. Can be repeated",
    )
    add("--compile", action="store_true", help="compile models. Each new size takes minutes once, then it is faster")
    add(
        "--keep-aspect",
        choices=KEEP_ASPECT,
        default="stretch",
        help="what to do with a clip of another aspect ratio than width and height: stretch it, as ModelsLab does, "
        "crop it, or fit it in with one side shorter",
    )
    add("--tiny-vae", metavar="FOLDER_OR_ID", help="approximate: an AutoencoderTiny instead of the models' VAE")
    add(
        "--guidance-until",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="changes results: the share of the steps, 0 to 1, that run with guidance",
    )
    add(
        "--reuse-deep",
        type=int,
        default=1,
        metavar="STEPS",
        help="approximate: run the deep layers of the UNet in every n-th step only",
    )
