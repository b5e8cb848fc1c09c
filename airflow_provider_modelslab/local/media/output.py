"""A finished clip on disk, whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import JobFailedError
from airflow_provider_modelslab.local.media.encode import write_gif, write_mp4

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["write_clip"]


def write_clip(frames: Sequence[Image], output: Path, kind: str, fps: int) -> dict[str, Any]:
    """Write the clip in one step, making its folder.

    :param kind: ``mp4`` or ``gif``.
    :returns: what it is, in the request's words: ``output_type``, ``width``, ``height``, ``fps``, ``num_frames``.
    :raises JobFailedError: when it cannot be written.
    """
    part = output.with_name(f".{output.name}.{uuid.uuid4().hex}.part")
    width, height = frames[0].size
    real_fps: float = fps
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if kind == "gif":
            real_fps = write_gif(frames, part, fps)
        else:
            width, height = write_mp4(frames, part, fps)
        part.replace(output)
    except Exception as error:
        raise JobFailedError(f"The clip could not be written to {output}: {error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return {"output_type": kind, "width": width, "height": height, "fps": int(real_fps), "num_frames": len(frames)}
