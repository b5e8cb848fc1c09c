"""Clips worth looking at, for screenshots: coloured shapes that move, and what the demo model is to make of them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["put_clips", "put_list"]

_STYLES = (
    "a poster in purple", "a watercolour in blue", "neon lines in green", "a mosaic in orange", "a poster in red",
    "a sketch",
)  # fmt: skip
_NAMES = ("harbour", "rooftop", "orchard", "carousel", "market", "lighthouse")
_BROKEN = "market"


def put_clips(s3: S3Client, bucket: str, folder: str) -> list[str]:
    """Write six clips, one of them broken; their URIs."""
    from PIL import Image

    from airflow_provider_modelslab.local.encode import write_mp4
    from tools.demo_model.scenes import draw_scene

    places = []
    for number, name in enumerate(_NAMES):
        key = f"{folder}/{name}.mp4"
        body = b"\0\0\0\x18ftypmp42 and nothing more"
        if name != _BROKEN:
            pictures = draw_scene(100 + number, 32, 192, 288).frames.mul(255).byte().permute(0, 2, 3, 1).numpy()
            with tempfile.TemporaryDirectory() as place:
                path = Path(place, "clip.mp4")
                write_mp4([Image.fromarray(picture) for picture in pictures], path, 8)
                body = path.read_bytes()
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="video/mp4")
        places.append(f"s3://{bucket}/{key}")
    return places


def put_list(s3: S3Client, bucket: str, key: str, clips: list[str]) -> str:
    """Write a manifest of clips, each with a style of its own; its URI."""
    lines = [
        {"init_video": clip, "prompt": _STYLES[number % len(_STYLES)], "seed": 11 + 7 * number}
        for number, clip in enumerate(clips)
    ]
    s3.put_object(Bucket=bucket, Key=key, Body="\n".join(map(json.dumps, lines)).encode())
    return f"s3://{bucket}/{key}"
