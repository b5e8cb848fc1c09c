"""``python -m airflow_provider_modelslab.endpoint``: serve the endpoint with the local engine, or an echo."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from airflow_provider_modelslab.endpoint.arguments import KEY_VARIABLE, build_parser, engines_of, settings_of
from airflow_provider_modelslab.endpoint.engine import device_of
from airflow_provider_modelslab.endpoint.http.app import create_app
from airflow_provider_modelslab.endpoint.http.server import EndpointServer

__all__ = ["KEY_VARIABLE", "main"]

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    _set_up_logging(given.log_level)
    try:
        settings = settings_of(given)
        if not given.allow_downloads:
            # Read when huggingface_hub is imported. Without it transformers asks the Hub about tokenizers of folders.
            os.environ["HF_HUB_OFFLINE"] = "1"
        engines = engines_of(given, settings)
    except ValueError as error:
        parser.error(str(error))

    if "*" in settings.allowed_hosts:
        log.warning("With --allowed-host '*', any web page that is open in a browser can call this endpoint")
    log.info("Workers: %s", ", ".join(map(device_of, engines)))
    if settings.misbehaves:
        log.warning("This endpoint simulates faults (--faults, --allow-request-faults)")

    def ready(url: str) -> None:
        print(f"The endpoint listens on {url}", flush=True)
        if given.ready_file is not None:
            _write_whole(given.ready_file, json.dumps({"url": url}))

    server = EndpointServer(create_app(settings, engines), port=given.port, on_ready=ready, log_level=given.log_level)
    # uvicorn stops on SIGTERM in good order and then raises it again; with this the process ends with status 0.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    return 0


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
