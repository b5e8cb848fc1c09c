"""The endpoint with scripted engines as a process of its own: ``STATE_DIR GATE_FILE READY_FILE [WORKERS]``.

Without ``WORKERS`` one engine without stages, whose jobs wait for the gate. With it so many engines in stages, whose
clips wait for the gate before they are written.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from airflow_provider_modelslab.endpoint.http.app import create_app
from airflow_provider_modelslab.endpoint.http.server import EndpointServer
from airflow_provider_modelslab.endpoint.settings import Settings
from tests.support.endpoint_engine import FileGate, ScriptedEngine, StagedEngine


def _main(state_dir: Path, gate_file: Path, ready_file: Path, workers: int) -> None:
    def ready(url: str) -> None:
        unfinished = ready_file.with_suffix(".part")
        unfinished.write_text(url)
        unfinished.replace(ready_file)

    gate = FileGate(gate_file)
    staged = [StagedEngine(writing=gate, device=f"worker {number}") for number in range(workers)]
    settings = Settings(state_dir=state_dir, allow_private_addresses=True, admin=True)
    app = create_app(settings, staged or ScriptedEngine(gate=gate))
    signal.signal(signal.SIGTERM, lambda *_: None)
    EndpointServer(app, on_ready=ready).run()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]) if sys.argv[4:] else 0)
