"""The local engine compared with stock diffusers: loading, overhead, gifs, and a GPU if there is one.

    python -m benchmarks.local --json local.json

- ``load``: the sizes of Stable Diffusion 1.5 with AnimateDiff v2 (random bfloat16 weights, 2.9 GB, written to a
  temporary folder and deleted), each method in a fresh process whose resident memory is compared with what it was after
  the imports. The files are in the page cache for both. ``touched`` counts the first reading of every weight in.
- ``overhead``: a clip by the engine (file in, file out) over a bare call of diffusers' pipeline, both with the tiny
  model.
- ``gif``: ``write_gif`` beside ``export_to_gif``, time and PSNR, on three kinds of clips; the worst of each counts.
- on a GPU: the default request, warm, from file to file. Stock diffusers reads and writes with imageio and
  imageio-ffmpeg; where they are not installed it is given PyAV.
- ``--table``: on a GPU also the page's example, 1024x576, 25 frames of 768x768, AnimateLCM, Lightning and upscaling,
  each beside stock diffusers, and what compiling and the approximations add. To be kept as one file for a card:
  ``python -m benchmarks.local --skip load overhead gif --table --json benchmarks/results/local-gpu.json``.
- ``--approximations``: what the fields of ``Optimizations`` that change the result lose (PSNR against the exact result)
and
  save, for the tiny model and the demo model.
- ``--dry-run`` runs the GPU part on the CPU in small, to see that nothing is broken; its seconds mean nothing.

The main figures stand at the top of the JSON: ``load_speedup``, ``load_extra_mib``, ``overhead_ratio``,
``gif_speedup``, ``gif_psnr_gain_db``, and on a GPU ``warm_speedup``, ``warm_s``, ``stock_s``, ``matmul_share``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.encode import write_gif, write_mp4
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from benchmarks import local_methods as methods
from benchmarks.local_weights import write_small_size
from benchmarks.report import about, add_json_option, print_table, write_json

Row = dict[str, float]

_REQUEST = ("ours_s", "stock_s", "speedup", "tflop", "matmul_share", "peak_gib", "stock_peak_gib")
_APPROXIMATION = ("psnr_db", "flop_ratio", "time_ratio")
_VARIANT = ("ours_s", "exact_s", "first_s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="The local engine beside stock diffusers.")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, of which the shortest counts")
    parser.add_argument("--skip", nargs="*", default=[], choices=("load", "overhead", "gif", "gpu"))
    parser.add_argument("--table", action="store_true", help="all requests on the GPU, not the default one alone")
    parser.add_argument("--approximations", action="store_true", help="what they lose and save")
    parser.add_argument("--dry-run", action="store_true", help="try the GPU part out on the CPU")
    parser.add_argument("--folder", type=Path, help="keep the weights here instead of in a temporary folder")
    parser.add_argument("--load", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    add_json_option(parser)
    given = parser.parse_args(arguments)
    if given.load:
        print(json.dumps(_load(given.load[0], Path(given.load[1]))))
        return 0
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="modelslab-benchmark-") as temporary:
        folder = given.folder or Path(temporary)
        if "overhead" not in given.skip:
            figures |= _overhead(folder, given.rounds)
        if "gif" not in given.skip:
            figures |= _gif(folder, given.rounds)
        if given.approximations:
            figures |= _approximations(folder, given.rounds)
        gpu = (given.dry_run or _has_gpu()) and "gpu" not in given.skip
        weights = folder / "small" if given.dry_run else folder
        if given.dry_run:
            write_small_size(weights)
        elif ("load" not in given.skip or gpu) and not (weights / "motion_modules").is_dir():
            _in_a_process("from pathlib import Path; from benchmarks.local_weights import write_real_size; "
                          f"write_real_size(Path({str(weights)!r}))")  # fmt: skip
        if "load" not in given.skip:
            figures |= _loading(weights, given.rounds)
        if gpu:
            figures |= _gpu(weights, given)
    flat = [[name, value] for name, value in figures.items() if not isinstance(value, dict)]
    texts = [[name, value if isinstance(value, str) else f"{value:.3f}"] for name, value in flat]
    print_table("\nLocal engine beside stock diffusers", ["figure", "value"], texts)
    write_json(given.json, {**about("local", arguments), **figures})
    return 0


def _gpu(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.local_gpu import measure_gpu

    figures = measure_gpu(folder, given.rounds, table=given.table, dry_run=given.dry_run)
    for title, columns in (("requests", _REQUEST), ("variants", _VARIANT)):
        if title in figures:
            rows = [[name, *(f"{row[column]:.3f}" for column in columns)] for name, row in figures[title].items()]
            print_table(f"\n{title.capitalize()} on {figures['card']}", [title, *columns], rows)
    return figures


def _approximations(folder: Path, rounds: int) -> dict[str, Any]:
    from benchmarks.local_approximations import measure_approximations

    source, clip = folder / "source.mp4", methods.clips(16, 128)["disc"]
    write_mp4(clip, source, 8)
    known = LocalEngine(cache_dir=folder / "cache", offline=True).catalog.available()
    models = [model for model in ("tiny", "demo") if model in known]
    made = {model: measure_approximations(folder, source, clip, model, rounds) for model in models}
    for model, rows in made.items():
        values = [[name, *(f"{row[column]:.2f}" for column in _APPROXIMATION)] for name, row in rows.items()]
        print_table(f"\nApproximations, model {model}", ["setting", *_APPROXIMATION], values)
    return {"approximations": made}


def _loading(folder: Path, rounds: int) -> dict[str, Any]:
    rows: dict[str, Row] = {}
    for method in ("ours", "stock"):
        runs = [_in_a_process("", "--load", method, str(folder)) for _ in range(rounds if method == "ours" else 1)]
        rows[method] = min(runs, key=lambda run: run["seconds"])
    print_table(
        "Loading at real size, in bfloat16",
        ["method", "seconds", "touched s", "extra MiB"],
        [[name, row["seconds"], row["seconds"] + row["touch_s"], row["extra_mib"]] for name, row in rows.items()],
    )
    ours, stock = rows["ours"], rows["stock"]
    return {
        "load_speedup": stock["seconds"] / ours["seconds"],
        "load_extra_mib": ours["extra_mib"],
        "load_touched_speedup": (stock["seconds"] + stock["touch_s"]) / (ours["seconds"] + ours["touch_s"]),
        "load": rows,
    }


def _load(method: str, folder: Path) -> Row:
    """In a process of its own: what one method takes."""
    import peft  # noqa: F401  # what diffusers would import on the way: the clock is to measure loading alone
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

    diffusers = load_diffusers()
    _ = diffusers.AnimateDiffVideoToVideoPipeline, diffusers.MotionAdapter, diffusers.DDIMScheduler
    load = methods.load_ours if method == "ours" else methods.load_stock
    figures, pipeline = methods.watched(lambda: load(folder, "cpu"))
    return {**figures, "touch_s": methods.touch(pipeline)}


def _overhead(folder: Path, rounds: int) -> dict[str, Any]:
    import torch

    source = folder / "source.mp4"
    frames = methods.clips(16, 128)["disc"]
    write_mp4(frames, source, 8)
    engine = LocalEngine(cache_dir=folder / "cache", device="cpu", dtype="float32", offline=True)
    request = Video2VideoRequest(
        model_id="tiny", prompt="a fox", init_video=str(source), seed=1, num_frames=16, guidance_scale=7.5
    )
    engine.generate(request, folder / "warm.mp4")
    pipeline = load_diffusers().AnimateDiffVideoToVideoPipeline.from_pretrained(
        str(engine.catalog.lookup("tiny").folder), motion_adapter=None
    )
    pipeline.set_progress_bar_config(disable=True)

    def bare() -> None:
        pipeline(
            video=frames, prompt="a fox", num_inference_steps=20, strength=0.7, guidance_scale=7.5, height=128,
            width=128, generator=torch.Generator().manual_seed(1), output_type="np",
        )  # fmt: skip

    bare()
    ours_s, bare_s = methods.best_of(rounds, lambda: engine.generate(request, folder / "clip.mp4"), bare)
    rows = {"ours": {"seconds": ours_s}, "bare pipeline": {"seconds": bare_s}}
    print_table("One clip of the tiny model", ["method", "seconds"], [[k, v["seconds"]] for k, v in rows.items()])
    return {"overhead_ratio": ours_s / bare_s, "overhead": rows}


def _gif(folder: Path, rounds: int) -> dict[str, Any]:
    diffusers = load_diffusers()
    rows: dict[str, Row] = {}
    for name, frames in methods.clips(16, 512).items():
        ours, stock = folder / "ours.gif", folder / "stock.gif"
        ours_s, stock_s = methods.best_of(
            rounds,
            partial(write_gif, frames, ours, 8),
            partial(diffusers.utils.export_to_gif, frames, str(stock), fps=8),
        )
        ours_db, stock_db = (methods.psnr(frames, read_frames(path, 16)[0]) for path in (ours, stock))
        rows[name] = {
            "ours_ms": ours_s * 1000, "stock_ms": stock_s * 1000, "speedup": stock_s / ours_s, "ours_db": ours_db,
            "stock_db": stock_db, "gain_db": ours_db - stock_db,
        }  # fmt: skip
    columns = ["ours_ms", "stock_ms", "speedup", "ours_db", "stock_db", "gain_db"]
    print_table(
        "A gif of 16 frames of 512x512", ["clip", *columns], [[k, *(v[c] for c in columns)] for k, v in rows.items()]
    )
    return {
        "gif_speedup": min(row["speedup"] for row in rows.values()),
        "gif_psnr_gain_db": min(row["gain_db"] for row in rows.values()),
        "gif": rows,
    }


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _in_a_process(code: str, *arguments: str) -> Any:
    command = [sys.executable, *(["-c", code] if code else ["-m", "benchmarks.local", *arguments])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]) if arguments else None


if __name__ == "__main__":
    sys.exit(main())
