"""The endpoint with engines of the tests, in a process: ``STATE_DIR GATE_FILE READY_FILE [WORKERS | reading]``.

Without the last one engine without stages, whose jobs wait for the gate. With ``WORKERS`` so many engines in stages,
whose clips wait for the gate before they are written. With ``reading`` one that reads its clips, once the gate is open.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from airflow_provider_modelslab.endpoint.engine import Engine
from airflow_provider_modelslab.endpoint.http.app import create_app
from airflow_provider_modelslab.endpoint.http.server import EndpointServer
from airflow_provider_modelslab.endpoint.settings import Settings
from tests.support.endpoint_engine import FileGate, ScriptedEngine, StagedEngine
from tests.support.reading_engine import GatedReadingEngine


def _main(state_dir: Path, gate_file: Path, ready_file: Path, kind: str) -> None:
    def ready(url: str) -> None:
        unfinished = ready_file.with_suffix(".part")
        unfinished.write_text(url)
        unfinished.replace(ready_file)

    gate = FileGate(gate_file)
    engines: list[Engine]
    if kind == "reading":
        engines = [GatedReadingEngine(gate)]
    else:
        engines = [StagedEngine(writing=gate, device=f"worker {number}") for number in range(int(kind or 0))]
    settings = Settings(state_dir=state_dir, allow_private_addresses=True, admin=True)
    app = create_app(settings, engines or ScriptedEngine(gate=gate))
    signal.signal(signal.SIGTERM, lambda *_: None)
    EndpointServer(app, on_ready=ready).run()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] if sys.argv[4:] else "")
