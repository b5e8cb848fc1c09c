"""A whole clip with sound through the served endpoint: what it takes, and how well its segments are joined.

    python -m benchmarks.whole_clip --seconds 20 --fps 30 --sheet seams.png --json FILE

The operator runs in this process with ``clip_mode="whole"``, against the endpoint and an S3 server in processes of
their own. The source is a loop of moving shapes (``tools.make_clip``) with a beep. The same results of the segments are
then joined once more by hard cuts, so both ways are measured on the same frames:

- ``seam_ratio``: the largest difference between neighbouring frames at a seam, against the mean difference of
  neighbouring frames elsewhere; the mean over all seams;
- ``sharpness``: the mean strength of edges in the frames of the fades, against that of the others. Ghosts lower it;
- ``psnr_db``: of the segments' files against the frames that they were made from, in RGB;
- ``audio_offset_ms``: how much later the beep is heard than in the source.

``cpu_s`` and ``peak_mib`` are those of this process; the decoder, the endpoint and S3 have their own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from airflow_provider_modelslab.local.media.whole_clip.join import join_segments
from airflow_provider_modelslab.local.media.whole_clip.plan import Fade, SegmentPlan, plan_segments
from airflow_provider_modelslab.local.media.whole_clip.source import probe_clip, read_all, read_at_rate
from airflow_provider_modelslab.local.media.whole_clip.split import split_clip
from airflow_provider_modelslab.storage.uri import S3Uri
from airflow_provider_modelslab.testing.connections import connection_variables
from airflow_provider_modelslab.testing.endpoint import ServedEndpoint
from airflow_provider_modelslab.testing.s3 import Bucket, S3Server
from benchmarks.report import about, add_json_option, print_table, write_json
from tools.make_clip import draw_frames
from tools.stack.endpoint import EndpointProcess

BUCKET, KEY = "whole-clip-benchmark", "key-of-the-benchmark"
FRAMES = 25
BEEP = 0.5
_RATE = 44100


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seconds", type=float, default=20.0, help="of the clip (default 20)")
    add("--fps", type=int, default=30, help="frames per second (default 30)")
    add("--overlap", type=int, default=4, help="frames that segments share (default 4)")
    add("--engine", choices=("local", "echo"), default="local", help="of the endpoint (default local)")
    add("--model", default="demo", help="model_id (default demo)")
    add("--strength", type=float, default=0.7, help="of the request (default 0.7)")
    add("--steps", type=int, default=8, help="num_inference_steps (default 8)")
    add("--sheet", type=Path, metavar="FILE", help="write a picture of the frames around the first seams")
    add_json_option(parser)
    given = parser.parse_args(arguments)
    load = [round(value, 1) for value in os.getloadavg()]
    with tempfile.TemporaryDirectory(prefix="whole-clip-") as temporary:
        figures = _measure(given, Path(temporary))
    columns = ("way", "seam ratio", "sharpness")
    rows = [(way, figures["seam_ratio"][way], figures["sharpness"][way]) for way in figures["seam_ratio"]]
    print_table("Joining the segments of a whole clip", columns, rows)
    print("\n" + "\n".join(f"{name}: {value}" for name, value in figures.items() if not isinstance(value, dict)))
    write_json(given.json, {**about("whole_clip"), "load_before": load, **figures})
    return 0


def _measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    source = folder / "in.mp4"
    _write_source(source, round(given.seconds * given.fps), given.fps)
    with S3Server(folder / "s3") as server:
        arguments = ("--engine", given.engine, "--log-level", "warning")
        env = {"REQUESTS_CA_BUNDLE": str(server.ca_path)}
        endpoint = EndpointProcess(folder / "endpoint", key=KEY, arguments=arguments, env=env).start()
        try:
            manifest, figures = _restyle(given, source, server, endpoint.url)
        finally:
            endpoint.stop()
        files = _fetch(server, manifest, folder)
    plan = plan_segments(manifest["frames"], manifest["fps"], FRAMES, given.overlap)
    joined = {"cross-fade": files[0], "hard cut": folder / "cut.mp4"}
    join_segments(_with_cuts(plan), files[1:], joined["hard cut"])
    seams = [fade.first + fade.frames // 2 for fade in plan.fades]
    seen = {way: _look(path, plan.fades) for way, path in joined.items()}
    if given.sheet is not None:
        _draw_sheet(joined, seams[:4], given.sheet)
    return {
        **figures,
        "psnr_db": round(_psnr(source, plan, folder), 1),
        "audio_offset_ms": round(1000 * (_beep(files[0]) - _beep(source)), 1),
        "seam_ratio": {way: round(ratio, 2) for way, (ratio, _) in seen.items()},
        "sharpness": {way: round(sharp, 2) for way, (_, sharp) in seen.items()},
    }


def _restyle(
    given: argparse.Namespace, source: Path, server: S3Server, url: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the operator; its manifest, and what it took."""
    s3 = server.client()
    s3.create_bucket(Bucket=BUCKET)
    s3.upload_file(str(source), BUCKET, "in.mp4")
    os.environ |= connection_variables(ServedEndpoint(url, KEY), Bucket(server, BUCKET, s3))
    from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
    from airflow_provider_modelslab.testing.tasks import TaskInstance, execute

    task = ModelsLabVideo2VideoOperator(
        task_id="whole",
        model_id=given.model,
        prompt="a poster in blue",
        init_video=f"s3://{BUCKET}/in.mp4",
        destination=f"s3://{BUCKET}/out.mp4",
        clip_mode="whole",
        overlap=given.overlap,
        width=192,
        height=128,
        strength=given.strength,
        num_inference_steps=given.steps,
        seed=11,
        timeout=24 * 3600,
    )
    ti = TaskInstance("benchmark", "whole", "run")
    context: Any = {"ti": ti, "params": {}, "dag_run": ti.dag_run, "run_id": ti.run_id}
    started, cpu = time.monotonic(), time.process_time()
    manifest = execute(task, context)
    return manifest, {
        "jobs": len(manifest["jobs"]),
        "frames": manifest["frames"],
        "seconds": round(manifest["frames"] / manifest["fps"], 3),
        "wall_s": round(time.monotonic() - started, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _fetch(server: S3Server, manifest: Mapping[str, Any], folder: Path) -> list[Path]:
    """The result, and the results of its segments."""
    s3, place = server.client(), S3Uri.parse(manifest["sidecar_uri"])
    sidecar = json.loads(s3.get_object(Bucket=place.bucket, Key=place.key)["Body"].read())
    files: list[Path] = []
    for uri in (manifest["uri"], *(part["uri"] for part in sidecar["segments"])):
        place = S3Uri.parse(uri)
        files.append(folder / f"got-{len(files):03d}.mp4")
        s3.download_file(place.bucket, place.key, str(files[-1]))
    return files


def _with_cuts(plan: SegmentPlan) -> SegmentPlan:
    return replace(plan, fades=tuple(Fade(fade.first + fade.frames // 2, 0) for fade in plan.fades))


# -- measuring --------------------------------------------------------------------------------------------------------


def _look(path: Path, fades: Sequence[Fade]) -> tuple[float, float]:
    """The seam ratio and the relative sharpness of a joined clip."""
    greys: list[Any] = []
    read_all(path, lambda _, picture: greys.append(np.asarray(picture.convert("L"), np.float32)), max_frames=100_000)
    steps = np.array([np.abs(one - other).mean() for one, other in pairwise(greys)])  # from frame n to n + 1
    edges = np.array([np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean() for grey in greys])
    at_seams = [slice(fade.first - 1, fade.end) for fade in fades]
    away, faded = np.ones(len(steps), bool), np.zeros(len(greys), bool)
    for fade, at in zip(fades, at_seams, strict=True):
        away[at] = False
        faded[fade.first : fade.end] = True
    if not fades:
        return 1.0, 1.0
    ratio = np.mean([steps[at].max() for at in at_seams]) / steps[away].mean()
    return float(ratio), float(edges[faded].mean() / edges[~faded].mean())


def _psnr(source: Path, plan: SegmentPlan, folder: Path) -> float:
    """Of the first segment's file against the frames that it was made from."""
    work = folder / "split"
    work.mkdir()
    probe, first = probe_clip(source), plan.segments[0]
    files = split_clip(source, probe, plan, work)
    wanted: list[Any] = []
    keep: Callable[[int, Image.Image], None] = lambda n, picture: (  # noqa: E731
        wanted.append(np.asarray(picture, np.float32)) if n < first.frames else None
    )
    read_at_rate(source, probe, plan.fps, size=None, on_begin=wanted.clear, on_frame=keep)
    errors: list[float] = []
    read_all(
        files[0],
        lambda n, picture: errors.append(float(((np.asarray(picture, np.float32) - wanted[n]) ** 2).mean())),
        max_frames=FRAMES,
    )
    shutil.rmtree(work)
    return float(10 * np.log10(255**2 / np.mean(errors)))


def _beep(path: Path) -> float:
    """When the beep begins, in seconds."""
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray().reshape(-1)) > 0.2)
            if len(loud):
                return float(frame.time or 0) + float(loud[0]) / frame.sample_rate
    raise ValueError(f"{path} has no beep")


def _draw_sheet(ways: Mapping[str, Path], seams: Sequence[int], path: Path) -> None:
    """The six frames around each seam, one row for each seam and way."""
    rows = []
    for file in ways.values():
        frames: dict[int, Image.Image] = {}
        wanted = {seam + offset for seam in seams for offset in range(-3, 3)}

        def keep(number: int, picture: Image.Image, frames: Any = frames, wanted: Any = wanted) -> None:
            if number in wanted:
                frames[number] = picture

        read_all(file, keep, max_frames=100_000)
        rows += [[frames[seam + offset] for offset in range(-3, 3)] for seam in seams]
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (6 * (width + 4), len(rows) * (height + 4)), "white")
    for down, row in enumerate(rows):
        for across, picture in enumerate(row):
            sheet.paste(picture, (across * (width + 4), down * (height + 4)))
    sheet.save(path)


def _write_source(path: Path, count: int, fps: int) -> None:
    """The loop of ``tools.make_clip`` over and over at its own speed, with a beep."""
    loop = draw_frames(4 * fps)
    with av.open(str(path), "w", format="mp4") as container:
        video: Any = container.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = *loop[0].size, "yuv420p"
        video.options = {"crf": "12"}
        sound: Any = container.add_stream("aac", rate=_RATE, layout="mono")
        for number in range(count):
            picture = np.asarray(loop[number % len(loop)])
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        at = np.arange(round(count / fps * _RATE)) / _RATE
        wave = np.where((at >= BEEP) & (at < BEEP + 0.2), 0.8 * np.sin(2 * np.pi * 1000 * at), 0).astype(np.float32)
        for begin in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = _RATE, Fraction(1, _RATE), begin
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


if __name__ == "__main__":
    raise SystemExit(main())
