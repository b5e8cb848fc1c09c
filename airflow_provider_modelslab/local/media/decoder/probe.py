"""What a clip is, without decoding it: when it begins, how long it is, how many frames a second it has."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from typing import IO, Any

from airflow_provider_modelslab.local.media.decoder.frames import UnreadableError
from airflow_provider_modelslab.local.media.decoder.gif import gif_delays
from airflow_provider_modelslab.local.media.decoder.sound import first_sound, open_sound
from airflow_provider_modelslab.local.media.decoder.video import open_video, timeline

__all__ = ["probe"]


def probe(clip: IO[bytes], job: dict[str, Any]) -> dict[str, Any]:
    """``origin`` and ``seconds`` of what is shown, as texts of fractions; ``fps`` (0 if unknown), ``has_sound``.

    :raises UnreadableError: when the times of its frames are unknown.
    """
    if job["kind"] == "gif":
        delays = gif_delays(clip, job["max_frames"] + 1)
        if not delays:
            raise UnreadableError("has no frame that can be decoded")
        total = sum(delays)
        fps = len(delays) * 1000 / total
        return {"origin": "0", "seconds": str(Fraction(total, 1000)), "fps": fps, "has_sound": False}
    with open_video(clip, job, "mp4") as (container, stream):
        starts, end = timeline(container, stream, job)
        unit, rate = stream.time_base or Fraction(1), stream.average_rate
    if not starts or starts[0] is None or end is None:
        raise UnreadableError("has no readable frame rate, because its frames have no times")
    begin = starts[0] * unit
    with closing(open_sound(clip)) as container:
        sound = first_sound(container)
    # Sound that was there before the first frame is kept, unless it is what encoders put before the beginning.
    origin = begin if sound is None or begin < 0 else min(begin, max(sound, Fraction(0)))
    seconds = end * unit - origin
    if seconds <= 0:
        raise UnreadableError("has no readable frame rate, because its frames take no time")
    is_known = len(starts) > 1 and rate is not None
    return {
        "origin": str(origin),
        "seconds": str(seconds),
        "fps": float(rate) if is_known and rate is not None else 0.0,
        "has_sound": sound is not None,
    }
