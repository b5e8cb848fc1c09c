"""``python -m airflow_provider_modelslab.endpoint``: serve the endpoint with the local engine, or an echo."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from airflow_provider_modelslab.endpoint.app import create_app
from airflow_provider_modelslab.endpoint.engine import Engine
from airflow_provider_modelslab.endpoint.faults import FaultPlan
from airflow_provider_modelslab.endpoint.server import EndpointServer
from airflow_provider_modelslab.endpoint.settings import AnswerStyle, Settings

__all__ = ["main"]

log = logging.getLogger(__name__)

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
KEY_VARIABLE = "MODELSLAB_ENDPOINT_API_KEY"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    _set_up_logging(given.log_level)
    try:
        settings = _settings(given)
        engine = _engine(given, settings)
    except ValueError as error:
        parser.error(str(error))

    if given.host not in _LOOPBACK:
        if not settings.api_keys:
            log.warning("Whoever can reach %s may use the endpoint with any key; set $%s", given.host, KEY_VARIABLE)
        if settings.admin:
            log.warning("Whoever can reach %s may read and reset the bills: --admin asks for no key", given.host)
    if settings.misbehaves:
        log.warning("This endpoint goes wrong on purpose (--faults, --allow-request-faults)")

    def ready(url: str) -> None:
        print(f"The endpoint listens on {url}", flush=True)
        if given.ready_file is not None:
            _write_whole(given.ready_file, json.dumps({"url": url}))

    server = EndpointServer(
        create_app(settings, engine), host=given.host, port=given.port, on_ready=ready, log_level=given.log_level
    )
    # uvicorn stops on SIGTERM in good order and then raises it again; with this the process ends with status 0.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_modelslab.endpoint",
        description="Serve the ModelsLab Enterprise video-to-video endpoint from this machine.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=8188, help="port to listen on; 0 lets the system choose")
    add("--state-dir", type=Path, required=True, help="where the queue, S3 details and results are kept")
    add("--public-url", help="base of the links in answers; without it the address that each caller used")
    add("--answers", choices=get_args(AnswerStyle), default="legacy", help="which of the vendor's styles of answers")
    add("--hold-s", type=float, default=10.0, help="seconds that a submit is held for its result")
    add("--retention-s", type=float, default=86400.0, help="seconds that results and ids are kept")
    add("--publish-delay-s", type=float, default=0.0, help="seconds that a finished file still answers 404")
    add("--max-queue", type=int, help="unfinished jobs that one key may have; without it any number")
    add(
        "--api-key",
        action="append",
        default=[],
        help=f"a key to accept, may be repeated; others on the machine can see it, ${KEY_VARIABLE} hides it; "
        "without any key every key is accepted",
    )
    add("--engine", choices=("local", "echo"), default="local", help="what makes the clips; echo generates nothing")
    add("--echo-seconds", type=float, default=0.0, help="seconds that a job of the echo engine takes")
    add("--echo-fetch", action="store_true", help="let the echo engine read init_video and paint over it")
    add("--model-dir", type=Path, help="directory with models")
    add("--allow-downloads", action="store_true", help="let a request's model_id fetch a repository from the Hub")
    add("--device", default="auto", help="device to work on: auto, cuda, cuda:1, cpu")
    add(
        "--allow-private-addresses",
        action="store_true",
        help="let init_video name hosts of this machine and its private network",
    )
    add(
        "--faults",
        metavar="FILE_OR_JSON",
        help='what goes wrong on purpose: {"seed": 7, "rates": {"reset_after": 0.1}}',
    )
    add("--allow-request-faults", action="store_true", help="let requests ask for faults with the attribute x_faults")
    add(
        "--admin",
        action="store_true",
        help="count accepted jobs and serve /admin/bills and /admin/reset, without a key",
    )
    add("--ready-file", type=Path, help='file to write {"url": ...} to when calls can be made')
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="how much to log")
    return parser


def _settings(given: argparse.Namespace) -> Settings:
    keys = [*given.api_key, os.environ.get(KEY_VARIABLE, "").strip()]
    return Settings(
        state_dir=given.state_dir.resolve(),
        public_url=given.public_url,
        answers=given.answers,
        hold_s=given.hold_s,
        retention_s=given.retention_s,
        publish_delay_s=given.publish_delay_s,
        api_keys=tuple(key for key in keys if key),
        max_queue=given.max_queue,
        faults=FaultPlan.read(given.faults) if given.faults else None,
        allow_request_faults=given.allow_request_faults,
        admin=given.admin,
    )


def _engine(given: argparse.Namespace, settings: Settings) -> Engine:
    # Imported here, so that --help and mistakes in the arguments answer before Pillow or torch are on their way.
    from airflow_provider_modelslab.local.fetch import FetchLimits

    limits = FetchLimits(allow_private_addresses=given.allow_private_addresses, allow_local_files=False)
    if given.engine == "echo":
        from airflow_provider_modelslab.endpoint.echo import EchoEngine

        return EchoEngine(seconds=given.echo_seconds, limits=limits if given.echo_fetch else None)
    from airflow_provider_modelslab.local.engine import LocalEngine

    cache_dir = settings.state_dir / "cache"
    return LocalEngine(
        model_dir=given.model_dir,
        cache_dir=cache_dir,
        device=given.device,
        limits=limits,
        offline=not given.allow_downloads,  # a caller names the model, and should not fill this machine's disk
    )


def _set_up_logging(level: str) -> None:
    # Other packages stay at INFO: at DEBUG urllib3 and botocore write signed links and headers.
    chosen = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(chosen, logging.INFO), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("airflow_provider_modelslab").setLevel(chosen)


def _write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
