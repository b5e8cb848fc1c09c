"""How a whole clip is cut and joined. Operators import this while a Dag is parsed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Self

from airflow_provider_modelslab.api.clip_modes import (
    AUDIO,
    CLIP_MODES,
    DEFAULT_OVERLAP,
    Audio,
    check_audio,
    check_clip_mode,
    check_count,
)
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.ledger.model import Fingerprint

__all__ = ["AUDIO", "CLIP_MODES", "WholeClipSettings", "check_clip_mode", "identify_segments", "segment_frames"]

_MAX_SEGMENTS = 60


@dataclass(frozen=True)
class WholeClipSettings:
    """The options of ``clip_mode="whole"``.

    :param overlap: frames shared by neighbouring segments, 0 or more.
    :param audio: ``keep`` the sound where there is any, ``drop`` it, or ``require`` it.
    :param max_segments: the most segments, 1 or more; each is a job.
    """

    overlap: int = DEFAULT_OVERLAP
    audio: Audio = "keep"
    max_segments: int = _MAX_SEGMENTS

    @classmethod
    def of(cls, overlap: object = None, audio: object = None, max_segments: object = None) -> Self:
        """Read the arguments, perhaps out of templates; blank ones count as not given.

        :raises InvalidRequestError: naming the argument that is not allowed.
        """
        return cls(
            check_count("overlap", overlap, 0, DEFAULT_OVERLAP),
            check_audio(audio),
            check_count("max_segments", max_segments, 1, _MAX_SEGMENTS),
        )

    def check_request(self, request: Video2VideoRequest) -> None:
        """Refuse what does not go together with a request.

        :raises InvalidRequestError: naming the argument.
        """
        frames = segment_frames(request)
        if self.overlap >= frames:
            raise InvalidRequestError.of(
                "overlap", f"must be less than the {frames} frames of a segment (num_frames); got {self.overlap}"
            )
        if self.audio == "require" and request.output_type == "gif":
            raise InvalidRequestError.of("audio", "is 'require', but a gif has no sound")

    @staticmethod
    def longest(request: Video2VideoRequest) -> Video2VideoRequest:
        """The request of a segment as far as its price is concerned."""
        return request.model_copy(update={"num_frames": segment_frames(request)})

    def identify(self, request: Video2VideoRequest, conn_id: str) -> str:
        """The digest of what identifies a result: its segments, and how they are joined."""
        kind = request.output_type or "mp4"
        how = ["whole", identify_segments(request, conn_id), segment_frames(request), self.overlap, self.audio, kind]
        return hashlib.sha256(json.dumps(how, separators=(",", ":")).encode()).hexdigest()


def identify_segments(request: Video2VideoRequest, conn_id: str) -> str:
    """The digest of what identifies the segments: the request, without its seed if none is given."""
    as_sent = request.model_copy(update={"output_type": "mp4", "num_frames": segment_frames(request)})
    return Fingerprint.of(as_sent, conn_id=conn_id, source=None).request


def segment_frames(request: Video2VideoRequest) -> int:
    """The frames of a segment: ``num_frames`` where it is given, else the most that the vendor makes."""
    given = "num_frames" in request.model_fields_set
    return request.num_frames if given else request.vendor_limits["num_frames"]
