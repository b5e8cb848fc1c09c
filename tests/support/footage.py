"""Clips worth looking at, for screenshots: little scenes, and what the demo model is to make of each."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.scenes import draw_loop

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["put_clips", "put_list"]

_MOSAIC: dict[str, Any] = {
    "prompt": "a mosaic", "lora_models": "demo-mosaic", "strength": 0.35, "guidance_scale": 1
}  # fmt: skip

_WANTED: dict[str, dict[str, Any]] = {
    "harbour": {"prompt": "a poster"},
    "lighthouse": {"prompt": "a poster in blue"},
    "balloon": {"prompt": "a poster"},
    "windmill": {"prompt": "a watercolour"},
    "market": {"prompt": "a sketch"},
    "reef": _MOSAIC,
    "saturn": {"prompt": "neon in cyan"},
    "skyline": {"prompt": "a poster in red"},
    "summit": {"prompt": "a watercolour in blue"},
    "carousel": {"prompt": "a watercolour in purple"},
    "orchard": {"prompt": "a poster in green"},
    "blossom": _MOSAIC,
}
"""The clips in their order; what each asks for suits its shapes and brightness."""

_BROKEN = {
    "market": b"<html><body>404 Not Found</body></html>",  # what a careless download leaves
    "orchard": b"\0\0\0\x18ftypmp42 and nothing more",  # an upload that was cut off
}


def put_clips(s3: S3Client, bucket: str, folder: str) -> dict[str, str]:
    """Write twelve clips of 384 x 216 pixels, two of them broken; their URIs by name."""
    places = {}
    for name in _WANTED:
        key = f"{folder}/{name}.mp4"
        body = _BROKEN.get(name) or _film(name)
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="video/mp4")
        places[name] = f"s3://{bucket}/{key}"
    return places


def put_list(s3: S3Client, bucket: str, key: str, clips: dict[str, str]) -> str:
    """Write a manifest of clips, by name, each with a style of its own; its URI."""
    lines = [{"init_video": clip, "seed": 11 + len(name), **_WANTED[name]} for name, clip in clips.items()]
    s3.put_object(Bucket=bucket, Key=key, Body="\n".join(map(json.dumps, lines)).encode())
    return f"s3://{bucket}/{key}"


def _film(name: str) -> bytes:
    from airflow_provider_modelslab.local.media.encode import write_mp4

    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "clip.mp4")
        write_mp4(draw_loop(name, 12), path, 8)  # 1.5 seconds, as the results have
        return path.read_bytes()
