"""What importing the provider costs: every Airflow process does it, before it knows whether a Dag needs it.

    python -m benchmarks.import_time

Each program runs in fresh interpreters, turn by turn, so that a busy moment hits all of them; medians are shown. The
import of the package itself is to stay under 20 ms, else the exit code is 1. The modules that a Dag imports are shown
beside what Airflow's own SDK costs without them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from benchmarks.report import add_json_option, print_table, write_json

ALLOWED_MS = 20.0

PROGRAMS = {
    "interpreter": "pass",
    "package": "import airflow_provider_modelslab; airflow_provider_modelslab.get_provider_info()",
    "airflow_sdk": "import airflow.sdk, airflow.triggers.base",
    "operator": "import airflow_provider_modelslab.operators.video2video",
    "sensor": "import airflow_provider_modelslab.sensors.video2video",
}
OVER = {"interpreter": None, "package": "interpreter", "airflow_sdk": "interpreter"}
"""What each is compared with; the rest with Airflow's SDK, which a Dag imports in any case."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="interpreters started for each program (default 9)")
    add_json_option(parser)
    arguments = parser.parse_args()

    for program in PROGRAMS.values():
        _milliseconds(program)  # writes the bytecode
    samples: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(arguments.runs):
        for name, program in PROGRAMS.items():
            samples[name].append(_milliseconds(program))
    medians = {name: statistics.median(taken) for name, taken in samples.items()}
    figures: dict[str, dict[str, float | str]] = {}
    for name, median in medians.items():
        base = OVER.get(name, "airflow_sdk")
        figures[name] = {"ms": median, "added_ms": median - medians[base] if base else 0.0, "over": base or ""}
    rows: list[list[float | str]] = [
        [name, float(f["ms"]), float(f["added_ms"]), str(f["over"])] for name, f in figures.items()
    ]
    print_table("Time from the start of an interpreter to its end", ["import", "ms", "added ms", "over"], rows)
    write_json(arguments.json, figures)
    return 0 if float(figures["package"]["added_ms"]) < ALLOWED_MS else 1


def _milliseconds(program: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    sys.exit(main())
