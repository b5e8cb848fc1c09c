"""How a browser gets the clips: through the API server, or with links to S3."""

from __future__ import annotations

import logging
from typing import Literal

from airflow.providers.common.compat.sdk import conf

__all__ = ["MediaMode", "media_mode"]

log = logging.getLogger(__name__)

MediaMode = Literal["stream", "presigned"]


def media_mode() -> MediaMode:
    """``[modelslab] media``. Any other value counts as ``stream``, which opens nothing to anyone, with a warning."""
    given = str(conf.get("modelslab", "media", fallback="stream") or "").strip().lower()
    if given == "presigned":
        return "presigned"
    if given != "stream":
        log.warning("[modelslab] media must be 'stream' or 'presigned', not %r; clips are streamed", given)
    return "stream"
