"""The local side of ``benchmarks.whole_clip``: one whole clip by the local engine, in a process of its own.

``python -m benchmarks.whole_clip_local JOB`` takes the job as JSON and prints the figures as JSON; the benchmark calls
it, so that peak memory is that of one clip. ``one_window_mib`` is the peak after a sample of one context window, made
before the clip by the same process: what the model needs at once.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.families.windows import ContextWindows
from airflow_provider_modelslab.local.media.encode import Mp4Writer
from airflow_provider_modelslab.local.media.whole_clip.plan import Fade
from tools.make_clip import draw_frames

__all__ = ["LocalJob", "make", "measure_memory", "shared_frames"]


@dataclass(frozen=True)
class LocalJob:
    """What is made.

    :param window: frames of a context window.
    """

    model: str
    source: str
    result: str
    width: int
    height: int
    strength: float
    steps: int
    overlap: int
    window: int = 16

    def request(self, **changes: Any) -> Video2VideoRequest:
        """The request, for the whole clip unless something else is said."""
        values: dict[str, Any] = {
            "model_id": self.model,
            "prompt": "a poster in blue",
            "init_video": self.source,
            "num_frames": self.window,
            "width": self.width,
            "height": self.height,
            "strength": self.strength,
            "num_inference_steps": self.steps,
            "seed": 11,
            "extra_parameters": {"x_clip_mode": "whole", "x_overlap": self.overlap},
        }
        return Video2VideoRequest(**values | changes)


def make(job: LocalJob) -> dict[str, Any]:
    """Make the clip in a new process; its figures."""
    command = [sys.executable, "-m", "benchmarks.whole_clip_local", json.dumps(vars(job))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def shared_frames(job: LocalJob, frames: int, steps_run: int) -> list[Fade]:
    """The frames that two windows share in the last denoising step."""
    windows = ContextWindows(frames, job.window, job.overlap)
    starts = windows.starts(steps_run - 1)
    ends = [start + windows.size for start in starts]
    return [Fade(start, end - start) for start, end in zip(starts[1:], ends, strict=False)]


def measure_memory(model: str, counts: Sequence[int], folder: Path, *, window: int, steps: int) -> dict[str, Any]:
    """Peak memory for clips of so many frames, at 96x64 pixels; each in a process of its own."""
    loop = [picture.resize((96, 64)) for picture in draw_frames()]
    rows = []
    for count in counts:
        source = folder / f"{count}.mp4"
        with Mp4Writer(source, 30, loop[0].size) as writer:
            for number in range(count):
                writer.add(loop[number % len(loop)])
        made = make(LocalJob(model, str(source), str(folder / "out.mp4"), 96, 64, 0.7, steps, 4, window))
        rows.append(made)
    return {"memory": rows, "peak_ratio": round(rows[-1]["peak_mib"] / rows[0]["peak_mib"], 3)}


def _peak() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the clip of a job."""
    from airflow_provider_modelslab.local.engine import LocalEngine

    (given,) = sys.argv[1:] if arguments is None else arguments
    job, engine = LocalJob(**json.loads(given)), LocalEngine()
    engine.render(engine.prepare(job.request(extra_parameters={}, num_inference_steps=1, strength=1)))
    one_window = _peak()
    started, cpu = time.monotonic(), time.process_time()
    made = engine.generate(job.request(), Path(job.result))
    figures = {
        "frames": made.meta["num_frames"],
        "seconds": round(made.meta["num_frames"] / made.meta["fps"], 3),
        "denoising_steps": made.meta["denoising_steps"],
        "wall_s": round(time.monotonic() - started, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "one_window_mib": one_window,
        "peak_mib": _peak(),
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
