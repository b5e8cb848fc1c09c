"""The endpoint with the scripted engine as a process of its own: ``STATE_DIR GATE_FILE READY_FILE``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from airflow_provider_modelslab.endpoint.app import create_app
from airflow_provider_modelslab.endpoint.server import EndpointServer
from airflow_provider_modelslab.endpoint.settings import Settings
from tests.support.endpoint_engine import FileGate, ScriptedEngine


def _main(state_dir: Path, gate_file: Path, ready_file: Path) -> None:
    def ready(url: str) -> None:
        unfinished = ready_file.with_suffix(".part")
        unfinished.write_text(url)
        unfinished.replace(ready_file)

    app = create_app(Settings(state_dir=state_dir), ScriptedEngine(gate=FileGate(gate_file)))
    signal.signal(signal.SIGTERM, lambda *_: None)
    EndpointServer(app, on_ready=ready).run()


if __name__ == "__main__":
    _main(*map(Path, sys.argv[1:]))
