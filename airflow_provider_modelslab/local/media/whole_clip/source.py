"""A whole clip as a stream of frames at a constant rate, and its sound; read by a decoder process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import ClipUnreadableError, InvalidRequestError
from airflow_provider_modelslab.local.media.aspect import KeepAspect
from airflow_provider_modelslab.local.media.decode import CLOCK_FACTOR, open_clip
from airflow_provider_modelslab.local.media.decoder.process import run_job

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "MAX_DEFAULT_FPS",
    "Probe",
    "Sound",
    "probe_clip",
    "read_all",
    "read_at_rate",
    "read_sound",
    "read_wanted_sound",
]

log = logging.getLogger(__name__)

MAX_DEFAULT_FPS = 30
"""The most frames per second of a result where the request does not say how many."""

_SLOWER = 20
"""How much more processor time than a sample of frames a whole clip may take: every frame is converted and sent."""

_MAX_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Probe:
    """What a clip is.

    :param origin: when picture and sound begin, in seconds of the clip.
    :param seconds: how long it is shown.
    :param fps: frames per second, on average; 0 if unknown.
    :param has_sound: whether there is any.
    """

    origin: Fraction
    seconds: Fraction
    fps: float
    has_sound: bool

    def result_fps(self, given: int | None) -> int:
        """The frames per second of the result: those given, else the clip's own, at most 30.

        :raises InvalidRequestError: when the clip does not say, and none are given.
        """
        if given is not None:
            return given
        if not self.fps:
            raise InvalidRequestError.of(
                "fps", "is needed, because the frame rate of init_video cannot be read: it has a single frame"
            )
        return max(1, min(round(self.fps), MAX_DEFAULT_FPS))

    def frames(self, fps: int) -> int:
        """How many frames a result of the same length has, 1 or more."""
        return max(1, round(self.seconds * fps))


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of a clip.

    :param data: an mp4 with nothing else.
    :param codec: ``aac``, ``mp3``, ``alac`` or ``opus``.
    :param copied: whether it is the clip's own, unchanged.
    """

    data: bytes
    codec: str
    copied: bool


def probe_clip(path: Path) -> Probe:
    """What an mp4 or gif is, without decoding it.

    :raises ClipUnreadableError: when its frames have no readable times, or it cannot be read at all.
    :raises JobFailedError: when something else than the clip is at fault.
    """
    with open_clip(path) as (clip, limits):
        job = {**limits, "task": "probe"}
        found = run_job(clip, job, _ignore, seconds=CLOCK_FACTOR * limits["cpu_seconds"])["result"]
    return Probe(Fraction(found["origin"]), Fraction(found["seconds"]), found["fps"], found["has_sound"])


def read_at_rate(
    path: Path,
    probe: Probe,
    fps: int,
    *,
    size: tuple[int, int] | None,
    keep_aspect: KeepAspect = "stretch",
    on_begin: Callable[[], object],
    on_frame: Callable[[int, Image], object],
) -> None:
    """Read a clip at a constant frame rate, in order; nothing is kept in memory.

    :param size: width and height in pixels of the frames; by default they keep their own.
    :param keep_aspect: what is done where the clip has another aspect ratio than ``size``, see :data:`KeepAspect`.
    :param on_begin: called before the first frame; and again where damage was met, and all frames come anew.
    :param on_frame: called with the number of each frame of the result, from 0, and its picture, which is not to be
        changed: it may come several times.
    :raises ClipUnreadableError: see :func:`~airflow_provider_modelslab.local.media.decode.read_frames`.
    :raises JobFailedError: when something else than the clip is at fault.
    """
    order: list[int] = []
    number = 0

    def begin(shown: list[int]) -> None:
        nonlocal order, number
        order, number = shown, 0
        on_begin()

    def add(index: int, picture: Image) -> None:
        nonlocal number
        while number < len(order) and order[number] == index:
            on_frame(number, picture)
            number += 1

    wanted = {"count": probe.frames(fps), "size": size, "fps": fps, "origin": str(probe.origin)}
    wanted["keep_aspect"] = keep_aspect
    _read(path, wanted, begin, add)


def read_all(path: Path, on_frame: Callable[[int, Image], object], *, max_frames: int) -> int:
    """Read every frame of a clip, in order; how many there are.

    :param on_frame: called with the number of each frame, from 0; no number comes twice, whatever is damaged.
    :param max_frames: the most that are read.
    :raises ClipUnreadableError: when there are more, and as :func:`read_at_rate`.
    :raises JobFailedError: when something else than the clip is at fault.
    """
    total = count = 0

    def begin(shown: list[int]) -> None:
        nonlocal total
        total = len(shown)

    def add(index: int, picture: Image) -> None:
        nonlocal count
        if index == count:
            count += 1
            on_frame(index, picture)

    _read(path, {"count": None, "size": None, "max_frames": max_frames}, begin, add)
    return min(count, total)


def _read(
    path: Path,
    wanted: dict[str, Any],
    on_begin: Callable[[list[int]], object],
    on_frame: Callable[[int, Image], object],
) -> None:
    from PIL import Image

    def handle(head: dict[str, Any], body: bytes) -> None:
        if "shown" in head:
            on_begin(head["shown"])
        elif "frame" in head:
            on_frame(head["frame"], Image.frombytes("RGB", tuple(head["size"]), body))

    with open_clip(path) as (clip, limits):
        seconds = min(_SLOWER * limits["cpu_seconds"], _MAX_SECONDS)
        run_job(clip, {**limits, **wanted, "in_order": True, "cpu_seconds": seconds}, handle, seconds=3 * seconds)


def read_wanted_sound(
    path: Path, probe: Probe, *, seconds: Fraction, required_by: str | None
) -> tuple[Sound | None, str | None]:
    """The sound of a clip, if there is any that can be read; else what is wrong with it, where it has some.

    :param seconds: how much of it, from the beginning of the clip.
    :param required_by: the attribute that requires sound, if one does.
    :raises InvalidRequestError: for that attribute, when there is no sound that can be read.
    :raises JobFailedError: when something else than the clip is at fault.
    """
    if not probe.has_sound and required_by is None:
        return None, None
    try:
        return read_sound(path, probe, seconds=seconds), None
    except ClipUnreadableError as error:
        if required_by is not None:
            raise InvalidRequestError.of(required_by, f"is 'require', but {error.message}") from error
        log.warning("THE RESULT WILL HAVE NO SOUND: %s", error.message)
        return None, error.message


def read_sound(path: Path, probe: Probe, *, seconds: Fraction) -> Sound:
    """The sound of a clip, as it is where an mp4 can hold it (AAC, MP3, ALAC, Opus), else encoded as AAC.

    :param seconds: how much of it, from the beginning of the clip.
    :raises ClipUnreadableError: when none of it can be decoded.
    :raises JobFailedError: when something else than the clip is at fault.
    """
    pieces: list[bytes] = []

    def handle(head: dict[str, Any], body: bytes) -> None:
        if head.get("sound") == 0:
            pieces.clear()
        pieces.append(body)

    if not probe.has_sound:
        raise ClipUnreadableError("init_video has no sound")
    with open_clip(path) as (clip, limits):
        job = {**limits, "task": "sound", "origin": str(probe.origin), "seconds": str(seconds)}
        found = run_job(clip, job, handle, seconds=CLOCK_FACTOR * limits["cpu_seconds"])["result"]
    return Sound(b"".join(pieces), found["codec"], found["copied"])


def _ignore(head: dict[str, Any], body: bytes) -> None:
    """There is nothing but the result."""
