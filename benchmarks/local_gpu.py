"""The default request on a GPU, warm and end to end: the engine beside stock diffusers, and its share of the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.libraries import load_diffusers
from benchmarks.local_methods import best_of, load_stock

__all__ = ["measure_gpu"]

_SIDE = 8192


def measure_gpu(folder: Path, source: Path, rounds: int) -> dict[str, float | str]:
    """16 frames of 512x512, 20 steps at strength 0.7, guidance 7.5, an mp4 in and out."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from airflow_provider_modelslab.local.engine import LocalEngine

    diffusers = load_diffusers()
    engine = LocalEngine(model_dir=folder, device="cuda", dtype="bfloat16", offline=True)
    request = Video2VideoRequest(
        model_id="real", prompt="a fox", init_video=str(source), seed=1, num_frames=16, guidance_scale=7.5
    )
    out = folder / "out.mp4"

    def ours() -> None:
        engine.generate(request, out)
        torch.cuda.synchronize()

    ours()  # loads, and lets the card choose its kernels
    with FlopCounterMode(display=False) as counter:
        ours()
    torch.cuda.reset_peak_memory_stats()
    (ours_s,) = best_of(rounds, ours)
    ours_gib = torch.cuda.max_memory_allocated() / 2**30
    engine.clear_cache()
    pipeline = load_stock(folder, "cuda")

    def stock() -> None:
        frames = diffusers.utils.load_video(str(source))[:16]
        video = pipeline(
            video=frames, prompt="a fox", num_inference_steps=20, strength=0.7, guidance_scale=7.5, height=512,
            width=512, generator=torch.Generator("cpu").manual_seed(1),
        ).frames[0]  # fmt: skip
        diffusers.utils.export_to_video(video, str(out), fps=8)
        torch.cuda.synchronize()

    stock()
    torch.cuda.reset_peak_memory_stats()
    (stock_s,) = best_of(rounds, stock)
    stock_gib = torch.cuda.max_memory_allocated() / 2**30
    rate = _matmul_rate(torch)
    flops = counter.get_total_flops()
    return {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "warm_s": ours_s,
        "stock_s": stock_s,
        "warm_speedup": stock_s / ours_s,
        "tflop": flops / 1e12,
        "matmul_tflops": rate / 1e12,
        "matmul_share": flops / ours_s / rate,
        "peak_gib": ours_gib,
        "stock_peak_gib": stock_gib,
    }


def _matmul_rate(torch: Any) -> float:
    """Operations per second that the card reaches on one large bfloat16 product."""
    a, b = (torch.randn(_SIDE, _SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def work() -> None:
        for _ in range(10):
            a @ b
        torch.cuda.synchronize()

    work()
    (seconds,) = best_of(5, work)
    return float(10 * 2 * _SIDE**3 / seconds)
