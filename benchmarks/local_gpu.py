"""Requests on a GPU, warm and from file to file: the engine beside stock diffusers, and its share of the card."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers, load_transformers
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from benchmarks.local_cases import CASES, DEFAULT, Case, make_ours, make_stock, stock_files
from benchmarks.local_methods import best_of, load_stock

__all__ = ["measure_gpu"]

_SIDE = 8192
_VARIANTS = {
    "compile": Optimizations(compile=True),
    "guidance_until=0.6": Optimizations(guidance_until=0.6),
    "reuse_deep=2": Optimizations(reuse_deep=2),
    "compile, guidance_until=0.6, reuse_deep=2": Optimizations(compile=True, guidance_until=0.6, reuse_deep=2),
}


def measure_gpu(folder: Path, rounds: int, *, table: bool = False, dry_run: bool = False) -> dict[str, Any]:
    """The default request; with ``table`` all of :data:`~.local_cases.CASES`, and what compiling and cutting adds.

    :param folder: with the weights of :mod:`~.local_weights`.
    :param dry_run: the same on the CPU in small, to see that it runs: the seconds mean nothing then.
    """
    import torch

    card = _Card(torch, dry_run=dry_run)
    cases = [case.small() if dry_run else case for case in (CASES if table else (DEFAULT,))]
    rows = {case.name: _ours(folder, rounds, card, case) for case in cases}
    stock = load_stock(folder, card.device)
    for case in cases:
        rows[case.name] |= _stock(stock, folder, rounds, card, case)
    del stock
    card.free()
    rate = _matmul_rate(torch, card, 256 if dry_run else _SIDE)
    for row in rows.values():
        row["speedup"] = row["stock_s"] / row["ours_s"]
        row["matmul_share"] = row["tflop"] * 1e12 / row["ours_s"] / rate
    first = rows[cases[0].name]
    figures: dict[str, Any] = {
        "card": card.name,
        "torch": torch.__version__,
        "diffusers": load_diffusers().__version__,
        "transformers": load_transformers().__version__,
        "command": " ".join(["python -m benchmarks.local", *sys.argv[1:]]),
        "stock_files": stock_files(),
        "warm_s": first["ours_s"],
        "stock_s": first["stock_s"],
        "warm_speedup": first["speedup"],
        "tflop": first["tflop"],
        "matmul_tflops": rate / 1e12,
        "matmul_share": first["matmul_share"],
        "peak_gib": first["peak_gib"],
        "stock_peak_gib": first["stock_peak_gib"],
    }
    if stock_files() != "imageio":
        print("Stock diffusers writes with imageio, which is not installed; PyAV is used, which is faster. For its own "
              "way: pip install imageio imageio-ffmpeg")  # fmt: skip
    if table:
        figures["requests"] = rows
        with torch.compiler.set_stance("force_eager" if dry_run else "default"):
            figures["variants"] = {
                name: _variant(folder, rounds, card, cases[0], speed) | {"exact_s": first["ours_s"]}
                for name, speed in _VARIANTS.items()
            }
    return figures


class _Card:
    """The device, and what a CPU has no equal of."""

    def __init__(self, torch: Any, *, dry_run: bool) -> None:
        self._cuda = None if dry_run else torch.cuda
        self.device = "cpu" if dry_run else "cuda"
        self.dtype = "float32" if dry_run else "bfloat16"
        self.name = "none (dry run)" if dry_run else torch.cuda.get_device_name()

    def wait(self) -> None:
        if self._cuda:
            self._cuda.synchronize()

    def free(self) -> None:
        if self._cuda:
            self._cuda.empty_cache()
            self._cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float:
        return float(self._cuda.max_memory_allocated() / 2**30) if self._cuda else 0.0

    def timed(self, rounds: int, work: Callable[[], Any]) -> float:
        def whole() -> None:
            work()
            self.wait()

        (seconds,) = best_of(rounds, whole)
        return seconds


def _ours(folder: Path, rounds: int, card: _Card, case: Case) -> dict[str, float]:
    from torch.utils.flop_counter import FlopCounterMode

    engine = LocalEngine(model_dir=folder, device=card.device, dtype=card.dtype, offline=True)
    make_ours(engine, case, folder)  # loads, and lets the card choose its kernels
    with FlopCounterMode(display=False) as counter:
        make_ours(engine, case, folder)
    card.free()
    seconds = card.timed(rounds, lambda: make_ours(engine, case, folder))
    peak = card.peak_gib()
    engine.clear_cache()
    return {"ours_s": seconds, "tflop": counter.get_total_flops() / 1e12, "peak_gib": peak}


def _stock(pipeline: Any, folder: Path, rounds: int, card: _Card, case: Case) -> dict[str, float]:
    make_stock(pipeline, case, folder)
    card.free()
    seconds = card.timed(rounds, lambda: make_stock(pipeline, case, folder))
    return {"stock_s": seconds, "stock_peak_gib": card.peak_gib()}


def _variant(folder: Path, rounds: int, card: _Card, case: Case, speed: Optimizations) -> dict[str, float]:
    """The seconds with ``speed``, and those of the first clip, loading and compiling included."""
    engine = LocalEngine(model_dir=folder, device=card.device, dtype=card.dtype, offline=True, speed=speed)

    def make() -> None:
        make_ours(engine, case, folder)

    first = card.timed(1, make)
    seconds = card.timed(rounds, make)
    engine.clear_cache()
    card.free()
    return {"ours_s": seconds, "first_s": first}


def _matmul_rate(torch: Any, card: _Card, side: int) -> float:
    """Operations per second that the card reaches on one large product of its type."""
    a, b = (torch.randn(side, side, device=card.device, dtype=getattr(torch, card.dtype)) for _ in range(2))

    def work() -> None:
        for _ in range(10):
            a @ b

    work()
    return float(10 * 2 * side**3 / card.timed(5, work))
