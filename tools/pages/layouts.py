"""Which figures of which result are shown, under which words. A result without a layout is shown as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["LAYOUTS", "Layout"]

Rows = Iterable[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Layout:
    """One table.

    :param what: the head of the first column.
    :param rows: the labels, and where the figures of each are.
    :param columns: a head, and the key of a figure; ``a.b`` is ``b`` in ``a``.
    """

    what: str
    rows: Callable[[Any], Rows]
    columns: tuple[tuple[str, str], ...]


def _named(names: Mapping[str, str]) -> Callable[[Any], Rows]:
    return lambda data: [(label, data[key]) for key, label in names.items() if key in data]


def _parsed(data: Any) -> Rows:
    """The file has a mapping for each figure; here each program has its figures."""
    names = ("ms_over_sdk", "least_ms_over_sdk", "modules", "heavy")
    for program in data["ms_over_sdk"]:
        label = f"`{program}`" if "." in program or "_" in program else program
        yield label, {name: data[name][program] for name in names}


def _budgets(data: Any) -> Rows:
    for store, kinds in data["stores"].items():
        yield f"{store}, batches", kinds["batches"]
        yield f"{store}, tasks of one clip", kinds["single"]


def _ratios(data: Any) -> Rows:
    for name, ratio in data["ratios"].items():
        yield name, {"ratio": ratio}


def _seams(data: Any) -> Rows:
    """The file has a mapping for each figure; here each way to join has its figures."""
    for way in data["seam_ratio"]:
        yield way, {name: data[name][way] for name in ("seam_ratio", "sharpness", "flicker")}


def _whole_clips(data: Any) -> Rows:
    yield "segments through the served endpoint", data
    yield "context windows, local engine", data["local"]


def _waiting(data: Any) -> Rows:
    names = {"http": "HTTP provider's `HttpEventTrigger`", "thread": "a thread for each poll"}
    for one in data:
        jobs = f"{one['jobs']:,} jobs, "
        yield f"{jobs}this provider", one
        yield from ((f"{jobs}{label}", one[key]) for key, label in names.items() if key in one)
        if "batch" in one:
            yield f"{jobs}one trigger for all of them", one["batch"]


_LANDINGS = {
    "ours": "this provider, everything verified",
    "upload_fileobj": "`requests` and `upload_fileobj`, nothing verified",
    "http_to_s3": "Amazon provider's `HttpToS3Operator`",
    "obstore": "obstore, nothing verified",
}

LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "batch": (
        Layout(
            "way",
            _named(
                {
                    "ours": "`ModelsLabVideo2VideoBatchOperator`",
                    "mapped": "`ModelsLabVideo2VideoOperator`, mapped",
                    "today": "`HttpOperator`, `HttpSensor` and `S3Hook`, mapped",
                }
            ),
            (
                ("clips", "clips"),
                ("CPU s per clip", "cpu_s_per_clip"),
                ("S3 calls per clip", "s3_calls_per_clip"),
                ("task processes per clip", "processes_per_clip"),
                ("CPU s per clip, all of Airflow", "airflow_cpu_s_per_clip"),
                ("wall s", "wall_s"),
                ("paid twice", "duplicates"),
            ),
        ),
    ),
    "batch_plan": (
        Layout(
            "what a prefix takes",
            _named(
                {
                    "listing": "only listed",
                    "plan": "listed, checked and named",
                    "plan, own prompts": "the same from a manifest in which each clip has a prompt",
                    "first run": "planned, and the ledgers listed",
                    "airflow modelslab plan": "the command `airflow modelslab plan`, with its imports",
                    "rerun": "planned, and all results found",
                }
            ),
            (
                ("clips", "clips"),
                ("s", "seconds"),
                ("CPU s", "cpu_s"),
                ("memory at its peak, MiB", "peak_mib"),
                ("requests to S3", "requests"),
            ),
        ),
    ),
    "budget": (
        Layout(
            "store, tasks",
            _budgets,
            (
                ("processes", "processes"),
                ("reservations", "reservations"),
                ("granted", "granted"),
                ("refused", "refused"),
                ("overspent", "overspent"),
                ("reservations per s", "per_s"),
                ("S3 calls per granted job", "calls_per_grant"),
            ),
        ),
    ),
    "faults": (
        Layout(
            "seed",
            lambda data: [(str(data["seed"]), data)],
            (
                ("faults", "faults"),
                ("of these, kills and freezes", "kills"),
                ("fewest in a phase", "least_hit_phase.hits"),
                ("processes", "processes"),
                ("results", "clips"),
                ("landed", "landed"),
                ("lost", "lost"),
                ("paid twice", "duplicates"),
                ("s", "seconds"),
                ("CPU s", "cpu_seconds"),
            ),
        ),
    ),
    "gallery": (
        Layout(
            "page",
            lambda data: data["pages"].items(),
            (
                ("shown, s", "shown_s"),
                ("requests", "calls"),
                ("kB moved", "moved_kb"),
                ("elements", "elements"),
                ("videos", "videos"),
                ("data, ms", "json_ms"),
                ("data, kB", "json_kb"),
            ),
        ),
    ),
    "hostile": (
        Layout(
            "seed",
            lambda data: [(str(data["seed"]), data)],
            (
                ("inputs", "inputs"),
                ("valid", "valid"),
                ("valid and read", "valid_read"),
                ("clear errors", "clear"),
                ("unclear errors", "unclear"),
                ("crashes", "signals"),
                ("over 1 GiB", "over_memory"),
                ("over 20 s", "over_time"),
                ("files opened", "files"),
                ("connections", "connections"),
                ("peak memory, MiB", "peak_memory_mib"),
                ("longest, s", "longest_s"),
            ),
        ),
    ),
    "gate": (Layout("this provider to the other way; less is better", _ratios, (("ratio", "ratio"),)),),
    "landing": (
        Layout(
            "a large result",
            _named(_LANDINGS),
            (("MiB per s", "mib_per_s"), ("memory above the baseline, MiB", "rss_mib")),
        ),
        Layout(
            "many small results",
            lambda data: _named(_LANDINGS)(data["many"]),
            (
                ("results per s", "results_per_s"),
                ("CPU ms each", "cpu_ms_per_result"),
                ("memory above the baseline, MiB", "rss_mib"),
            ),
        ),
    ),
    "parse": (
        Layout(
            "loaded",
            _parsed,
            (
                ("CPU ms over `airflow.sdk`", "ms_over_sdk"),
                ("minimum", "least_ms_over_sdk"),
                ("modules", "modules"),
                ("heavy packages", "heavy"),
            ),
        ),
    ),
    "local-cpu": (
        Layout(
            "loading",
            lambda data: _named({"ours": "this package", "stock": "diffusers"})(data["load"]),
            (
                ("s", "seconds"),
                ("first reading of every weight, s", "touch_s"),
                ("memory above the baseline, MiB", "extra_mib"),
            ),
        ),
        Layout(
            "a clip with the tiny model",
            lambda data: _named({"ours": "this package, file to file", "bare pipeline": "diffusers' bare pipeline"})(
                data["overhead"]
            ),
            (("s", "seconds"),),
        ),
        Layout(
            "gif of a clip that is",
            lambda data: data["gif"].items(),
            (
                ("ours, ms", "ours_ms"),
                ("diffusers, ms", "stock_ms"),
                ("times as fast", "speedup"),
                ("ours, dB", "ours_db"),
                ("diffusers, dB", "stock_db"),
            ),
        ),
    ),
    "waiting": (
        Layout(
            "way",
            _waiting,
            (
                ("polls on schedule (share)", "on_schedule"),
                ("polls per s", "looks_per_s"),
                ("CPU ms per poll", "cpu_ms_per_poll"),
                ("kB per job", "kb_per_job"),
                ("longest block, ms", "longest_block_ms"),
                ("without garbage collection, ms", "longest_block_without_gc_ms"),
                ("CPU part of it, ms", "longest_block_cpu_ms"),
                ("open files", "open_files"),
            ),
        ),
    ),
    "whole_clip": (
        Layout(
            "way",
            _seams,
            (
                ("seam ratio", "seam_ratio"),
                ("sharpness at the seams", "sharpness"),
                ("flicker, source is 1", "flicker"),
            ),
        ),
        Layout(
            "clip of 20 s, 600 frames of 192x128",
            _whole_clips,
            (
                ("jobs", "jobs"),
                ("s", "wall_s"),
                ("CPU s of the process", "cpu_s"),
                ("memory at its peak, MiB", "peak_mib"),
                ("sound late by, ms", "audio_offset_ms"),
            ),
        ),
    ),
    "whole_clip-memory": (
        Layout(
            "frames of 96x64",
            lambda data: ((f"{row['frames']:,}", row) for row in data["memory"]),
            (
                ("memory at its peak, MiB", "peak_mib"),
                ("of one window, MiB", "one_window_mib"),
                ("s", "wall_s"),
            ),
        ),
    ),
}
