"""The ratios that CI checks: this provider compared with other ways. CI fails when a change makes one clearly worse.

    python -m benchmarks.gate
    python -m benchmarks.gate --rounds 5 --keep

Each round runs small editions of the other benchmarks. Both sides of a ratio come from the same run on the same
machine, so it means the same on a laptop and on a CI runner, which seconds do not. The median of the rounds is compared
with the one in ``benchmarks/results/gate.json``. The exit code is 1 when one is worse by more than it may be: 1.5 times
for what depends on the machine's mood, 1.03 times for counts. ``--keep`` writes the file anew.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import about, print_table

__all__ = ["RATIOS", "Ratio", "compare", "main", "ratios_of"]

KEPT = Path(__file__).parent / "results" / "gate.json"

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "parse": ("--rounds", "2", "--only", "dags_examples", "Airflow alone"),
    "batch_plan": ("--only", "listing", "plan", "rerun"),
    "landing": ("--mib", "64", "--runs", "1", "--methods", "ours", "upload_fileobj"),
    "batch": ("--clips", "100", "--mapped-clips", "0", "--today-clips", "8"),
}
"""The arguments of each benchmark. What it calls a failure by itself does not count here: it was made for more."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure that is guarded. Less is better.

    :param name: for the table and the file.
    :param benchmark: whose result it is read from.
    :param read: the figure in that result.
    :param allowed: how many times the kept one it may be.
    """

    name: str
    benchmark: str
    read: Callable[[Mapping[str, Any]], float]
    allowed: float = 1.5


def _dearest_dag(figures: Mapping[str, Any]) -> float:
    taken: Mapping[str, float] = figures["least_ms_over_sdk"]
    return max(ms for name, ms in taken.items() if name.startswith("dags_examples")) / taken["a Dag of Airflow alone"]


RATIOS = (
    Ratio("parse: dearest example Dag to a Dag of Airflow alone", "parse", _dearest_dag),
    Ratio(
        "batch_plan: CPU of a plan to that of its listing",
        "batch_plan",
        lambda figures: float(figures["plan"]["cpu_s"] / figures["listing"]["cpu_s"]),
    ),
    Ratio(
        "batch_plan: CPU of a rerun to that of a listing",
        "batch_plan",
        lambda figures: float(figures["rerun"]["cpu_s"] / figures["listing"]["cpu_s"]),
    ),
    Ratio(
        "landing: CPU of a small result to upload_fileobj",
        "landing",
        lambda figures: float(
            figures["many"]["ours"]["cpu_ms_per_result"] / figures["many"]["upload_fileobj"]["cpu_ms_per_result"]
        ),
    ),
    Ratio(
        "landing: time of a large result to upload_fileobj",
        "landing",
        lambda figures: float(figures["upload_fileobj"]["mib_per_s"] / figures["ours"]["mib_per_s"]),
    ),
    Ratio(
        "batch: CPU of a clip to today's way",
        "batch",
        lambda figures: float(figures["ours"]["cpu_s_per_clip"] / figures["today"]["cpu_s_per_clip"]),
    ),
    Ratio(
        "batch: S3 calls of a clip", "batch", lambda figures: float(figures["ours"]["s3_calls_per_clip"]), allowed=1.03
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=int, default=1, metavar="N", help="runs of each benchmark; the median counts (default 1)")
    add("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS), help="benchmarks (default all)")
    add("--keep", action="store_true", help=f"write {KEPT.relative_to(KEPT.parents[2])} anew instead of comparing")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("--rounds must be 1 or more")

    now = ratios_of({name: [_run(name) for _ in range(given.rounds)] for name in given.only})
    file = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept: dict[str, float] = file.get("ratios", {})
    worse = compare(kept, now)
    print_table(
        "Ratios, less is better",
        ["ratio", "kept", "now", "change"],
        [
            [name, *(f"{value:.3f}" for value in (kept[name], found)), f"{found / kept[name] - 1:+.0%}"]
            if name in kept
            else [name, "-", f"{found:.3f}", "new"]
            for name, found in now.items()
        ],
    )
    if given.keep:
        KEPT.write_text(json.dumps({**about("gate", arguments), "ratios": {**kept, **now}}, indent=2) + "\n")
        return 0
    for text in worse:
        print(text, file=sys.stderr)
    return 1 if worse else 0


def ratios_of(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """The medians of the ratios that can be read from results.

    :param results: of each benchmark, one for each round.
    """
    return {
        ratio.name: round(statistics.median(ratio.read(figures) for figures in results[ratio.benchmark]), 4)
        for ratio in RATIOS
        if results.get(ratio.benchmark)
    }


def compare(kept: Mapping[str, float], now: Mapping[str, float]) -> list[str]:
    """What is worse by more than it may be, as sentences; a ratio that was not kept is none of them."""
    return [
        f"{ratio.name}: {now[ratio.name]:.3f}, kept is {kept[ratio.name]:.3f}; {ratio.allowed:g} times that is allowed"
        for ratio in RATIOS
        if ratio.name in kept and now.get(ratio.name, 0.0) > kept[ratio.name] * ratio.allowed
    ]


def _run(benchmark: str) -> Mapping[str, Any]:
    """The result of one run.

    :raises RuntimeError: when it wrote none.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-gate-") as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", f"benchmarks.{benchmark}", *COMMANDS[benchmark], "--json", str(result)]
        print(f"{benchmark} {' '.join(COMMANDS[benchmark])}", file=sys.stderr, flush=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not result.exists():
            raise RuntimeError(f"{benchmark} wrote no result:\n{done.stderr[-4000:]}")
        figures: Mapping[str, Any] = json.loads(result.read_text())
        return figures


if __name__ == "__main__":
    sys.exit(main())
