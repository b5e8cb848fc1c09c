"""Hostile clips: thousands of malicious files and hosts, and hundreds of valid clips, are read within limits.

    python -m benchmarks.hostile --seed 11 --json benchmarks/results/hostile-11.json

Inputs are made from the seed: valid clips of every codec and container that can be written here, damaged ones that
players still play, boxes that lie, cuts, mutations, splices, frames said to be of another codec, playlists and
references in disguise, names that are addresses, links into the own network, hosts that drip and flood, and bombs of
memory and time. Each goes through ``fetch_clip`` and ``read_frames``, the only way in which this package reads clips.

The figures: ``inputs``; ``read`` and ``clear``, which ended in frames or in an error of this package that says what is
wrong; ``unclear``, any other end; ``signals``, inputs that crashed a decoder; ``over_memory``, more than 1 GiB in one
process; ``over_time``, more than 20 s; ``files`` and ``connections`` that should not have been opened;
``valid`` and ``valid_read``, the clips that have to be read, and ``damaged`` and ``damaged_read`` those of them that
are damaged. The status is 1 if anything is above 0 that should not be, or a valid clip was not read.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import chdir
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import ErrorCode, ModelsLabError
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.fetch import FetchLimits, fetch_clip
from benchmarks.hostile_clips.disguise import Canaries
from benchmarks.hostile_clips.host import HostileHost
from benchmarks.hostile_clips.inputs import HostileInput, families_of, make_input
from benchmarks.hostile_clips.valid import base
from benchmarks.hostile_clips.watch import Seen, Watch
from benchmarks.report import about, add_json_option, print_table, write_json

if TYPE_CHECKING:
    from PIL.Image import Image

_FRAMES, _SIZE = 8, (96, 64)
_MOST_MEMORY, _LONGEST_S = 1 << 30, 20.0
_SHADE = 30  # how far a picture of a lossy codec may be from what was painted
_AHEAD = 12  # inputs made before they are read
_CLEAR = {ErrorCode.VALIDATION, ErrorCode.CLIP_UNREADABLE, ErrorCode.JOB_FAILED}
_OPEN = FetchLimits(
    connect_timeout=2, read_timeout=2, total_timeout=4, max_bytes=64 << 20, allow_private_addresses=True
)
_SHUT = FetchLimits(connect_timeout=2, read_timeout=2, total_timeout=4, allow_local_files=False)

_MUST_BE_0 = ("unclear", "signals", "over_memory", "over_time", "files", "connections")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description="Clips and hosts that mean harm.")
    parser.add_argument("--inputs", type=int, default=3000, help="how many; by default 3000")
    parser.add_argument("--seed", type=int, default=11, help="of everything that is drawn")
    add_json_option(parser)
    given = parser.parse_args(arguments)
    figures = run(given.seed, given.inputs)
    shown = [name for name, value in figures.items() if isinstance(value, int | float)]
    print_table("Hostile clips", ["figure", "value"], [[name, float(figures[name])] for name in shown])
    for name in ("by_family", "by_code", "worth_a_look"):
        print(f"\n{name}:", *(f"\n  {entry}" for entry in _lines(figures[name])))
    write_json(given.json, {**about("hostile", arguments), **figures})
    return 0 if passed(figures) else 1


def passed(figures: dict[str, Any]) -> bool:
    """Whether a run's figures are as they should be."""
    return not any(figures[name] for name in _MUST_BE_0) and figures["valid"] == figures["valid_read"] > 0


def run(seed: int, count: int) -> dict[str, Any]:
    """Read so many inputs, and the figures."""
    tally = _Tally()
    with tempfile.TemporaryDirectory(prefix="modelslab-hostile-") as name:
        folder = Path(name)
        with (
            Watch(folder, base(0, "mp4").data) as watch,
            HostileHost(watch.canaries.file) as host,
        ):
            for item in _made(seed, count, folder, watch.canaries):
                started = time.monotonic()
                frames, error = _read(item, host)
                tally.add(item, frames, error, time.monotonic() - started, watch.seen())
                shutil.rmtree(folder / str(item.number))
    return {"seed": seed, **tally.figures()}


def _made(seed: int, count: int, folder: Path, canaries: Canaries) -> Iterator[HostileInput]:
    """The inputs, made in another process: encoders are no part of what is watched here."""
    turns: Counter[str] = Counter()
    todo: deque[tuple[int, str, int]] = deque()
    for number, family in enumerate(families_of(seed, count)):
        todo.append((number, family, turns[family]))
        turns[family] += 1
    while todo:
        try:
            yield from _made_by_one_process(seed, todo, folder, canaries)
        except BrokenProcessPool:
            print(
                f"An encoder crashed near input {todo[0][0]}; the inputs from there on are made anew", file=sys.stderr
            )


def _made_by_one_process(
    seed: int, todo: deque[tuple[int, str, int]], folder: Path, canaries: Canaries
) -> Iterator[HostileInput]:
    """What is yielded is no longer to do."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_be_quiet) as maker:
        waiting: deque[Future[HostileInput]] = deque()
        following = iter(list(todo))
        while todo:
            for number, family, turn in islice(following, _AHEAD + 1 - len(waiting)):
                shutil.rmtree(folder / str(number), ignore_errors=True)
                waiting.append(maker.submit(make_input, seed, number, family, turn, folder, canaries))
            made = waiting.popleft().result()
            todo.popleft()
            yield made


def _be_quiet() -> None:
    """Encoders write what they do to the standard error."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)


def _read(item: HostileInput, host: HostileHost) -> tuple[list[Image] | None, Exception | None]:
    """As :class:`airflow_provider_modelslab.local.engine.LocalEngine` reads the clip of a request."""
    limits, source, place = _OPEN, item.link or str(item.file), Path.cwd()
    if item.link is not None:
        limits = _SHUT
    elif item.behaviour is not None and item.file is not None:
        source = host.serve(item.number, item.behaviour, item.file.read_bytes())
    elif item.family == "name" and item.file is not None:
        source, place = item.file.name, item.file.parent
    try:
        with chdir(place), tempfile.TemporaryDirectory(prefix="modelslab-") as folder:
            return read_frames(fetch_clip(source, Path(folder), limits=limits), _FRAMES, size=_SIZE)[0], None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is judged
        return None, error


class _Tally:
    """Adds up what happened."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._families: dict[str, Counter[str]] = {}
        self._codes: Counter[str] = Counter()
        self._looks: list[str] = []
        self._memory, self._seconds = 0, 0.0

    def add(
        self, item: HostileInput, frames: list[Image] | None, error: Exception | None, seconds: float, seen: Seen
    ) -> None:
        """Judge one input."""
        read = frames is not None and _are_right(item, frames)
        clear = isinstance(error, ModelsLabError) and error.code in _CLEAR and _says_enough(error.message)
        found = {
            "read": read,
            "clear": clear,
            "unclear": not read and not clear,
            "signals": bool(seen.signals),
            "over_memory": seen.memory > _MOST_MEMORY,
            "over_time": seconds > _LONGEST_S,
            "files": bool(seen.files),
            "connections": bool(seen.connections),
            "valid": item.readable,
            "valid_read": item.readable and read,
            "damaged": item.family == "damaged",
            "damaged_read": item.family == "damaged" and read,
            "stopped_by_processor_time": seen.stopped,
        }
        self._counts.update({name: int(is_so) for name, is_so in found.items()} | {"inputs": 1})
        self._families.setdefault(item.family, Counter())["read" if read else "clear" if clear else "unclear"] += 1
        if isinstance(error, ModelsLabError):
            self._codes[error.code.value] += 1
        self._memory, self._seconds = max(self._memory, seen.memory), max(self._seconds, seconds)
        wrong = [name for name in _MUST_BE_0 if found[name]] + ["valid, not read"] * (item.readable and not read)
        if wrong:
            what = repr(error) if error is not None else "its frames are not right" if not read else "read"
            more = [*seen.files, *seen.connections, *seen.signals]
            self._looks.append(
                f"{item.number} {', '.join(wrong)}: {item.label}: {what[:400]} {more} {seconds:.1f} s "
                f"{seen.memory >> 20} MiB"
            )

    def figures(self) -> dict[str, Any]:
        """All of them."""
        order = (
            *("inputs", "read", "clear", *_MUST_BE_0, "valid", "valid_read", "damaged", "damaged_read"),
            "stopped_by_processor_time",
        )
        return {
            **{name: self._counts[name] for name in order},
            "peak_memory_mib": self._memory >> 20,
            "longest_s": round(self._seconds, 1),
            "by_family": {name: dict(counts) for name, counts in sorted(self._families.items())},
            "by_code": dict(self._codes),
            "worth_a_look": self._looks,
        }


def _are_right(item: HostileInput, frames: list[Image]) -> bool:
    if len(frames) != _FRAMES or any(frame.size != _SIZE or frame.mode != "RGB" for frame in frames):
        return False
    if item.shade is None:
        return True
    shades = frames[0].convert("L").histogram()
    mean = sum(shade * pixels for shade, pixels in enumerate(shades)) / sum(shades)
    return abs(mean - item.shade) < _SHADE


def _says_enough(message: str) -> bool:
    """A sentence about the clip, without the names of Python's exceptions and of temporary folders."""
    return (
        "init_video" in message
        and 20 < len(message) < 800
        and not any(word in message for word in ("Traceback", "Errno"))
    )


def _lines(entries: Any) -> list[str]:
    return [f"{name}: {value}" for name, value in entries.items()] if isinstance(entries, dict) else list(entries)


if __name__ == "__main__":
    sys.exit(main())
