"""How a whole clip is cut and joined. Operators import this while a Dag is parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, cast

from airflow_provider_modelslab.api.endpoint_request import is_blank
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest

__all__ = ["AUDIO", "CLIP_MODES", "WholeClipSettings", "check_clip_mode", "segment_frames"]

CLIP_MODES = ("sample", "whole")
"""Values of ``clip_mode``: one job for a sample of the clip's frames, or the whole clip in segments."""

AUDIO = ("keep", "drop", "require")
"""Values of ``audio``."""


def check_clip_mode(given: object) -> str:
    """``sample`` where nothing is given.

    :raises InvalidRequestError: for another value.
    """
    mode = "sample" if is_blank(given) else str(given).strip()
    if mode not in CLIP_MODES:
        raise InvalidRequestError.of("clip_mode", f"must be {' or '.join(CLIP_MODES)}; got {given!r:.80}")
    return mode


@dataclass(frozen=True)
class WholeClipSettings:
    """The options of ``clip_mode="whole"``.

    :param overlap: frames shared by neighbouring segments, 0 or more.
    :param audio: ``keep`` the sound where there is any, ``drop`` it, or ``require`` it.
    :param max_segments: the most segments, 1 or more; each is a job.
    """

    overlap: int = 4
    audio: Literal["keep", "drop", "require"] = "keep"
    max_segments: int = 60

    @classmethod
    def of(cls, overlap: object = None, audio: object = None, max_segments: object = None) -> Self:
        """Read the arguments, perhaps out of templates; blank ones count as not given.

        :raises InvalidRequestError: naming the argument that is not allowed.
        """
        sound = cls.audio if is_blank(audio) else str(audio).strip()
        if sound not in AUDIO:
            raise InvalidRequestError.of("audio", f"must be {', '.join(AUDIO)}; got {audio!r:.80}")
        return cls(
            _count("overlap", overlap, 0, cls.overlap),
            cast("Any", sound),
            _count("max_segments", max_segments, 1, cls.max_segments),
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


def segment_frames(request: Video2VideoRequest) -> int:
    """The frames of a segment: ``num_frames`` where it is given, else the most that the vendor makes."""
    given = "num_frames" in request.model_fields_set
    return request.num_frames if given else request.vendor_limits["num_frames"]


def _count(name: str, given: object, least: int, default: int) -> int:
    if is_blank(given):
        return default
    text = str(given).strip()
    if isinstance(given, bool | float) or not text.isdecimal() or int(text) < least:
        raise InvalidRequestError.of(name, f"must be a whole number of at least {least}; got {given!r:.80}")
    return int(text)
