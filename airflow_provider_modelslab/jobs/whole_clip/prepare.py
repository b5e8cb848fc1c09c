"""Reads the source of a whole clip: cuts it into segments, and puts them, and its sound, into S3. It costs nothing."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.links import is_http_link
from airflow_provider_modelslab.api.request import MAX_SEED
from airflow_provider_modelslab.jobs.whole_clip.segments import SegmentSet, SoundRecord
from airflow_provider_modelslab.jobs.whole_clip.settings import segment_frames
from airflow_provider_modelslab.local.media.fetch import FetchLimits, fetch_clip
from airflow_provider_modelslab.local.media.whole_clip.join import MAX_GIF_FRAMES
from airflow_provider_modelslab.local.media.whole_clip.plan import plan_segments
from airflow_provider_modelslab.local.media.whole_clip.source import probe_clip, read_wanted_sound
from airflow_provider_modelslab.local.media.whole_clip.split import split_clip
from airflow_provider_modelslab.storage.inputs import prepare_input
from airflow_provider_modelslab.storage.local_files import fetch_object
from airflow_provider_modelslab.storage.s3_objects import put_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.jobs.whole_clip.settings import WholeClipSettings
    from airflow_provider_modelslab.local.media.whole_clip.plan import SegmentPlan
    from airflow_provider_modelslab.local.media.whole_clip.source import Probe
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["SourceReader"]

_UPLOADS = 8
_LIMITS = FetchLimits(total_timeout=3600.0, max_bytes=8 << 30, allow_private_addresses=True)
"""As for every link that this provider reads on a worker: whoever writes the Dag may read what the worker can."""


@dataclass(frozen=True)
class SourceReader:
    """Reads the source of a clip.

    :param request: of the clip.
    :param staging: the folder in S3 for the segments' files, each under its SHA-256.
    """

    request: Video2VideoRequest
    settings: WholeClipSettings
    s3_factory: Callable[[], S3Client]
    staging: S3Uri

    def read(self, folder: S3Uri, number: int) -> SegmentSet:
        """Cut the clip, and put its segments and its sound into S3.

        :param folder: of the segments' results.
        :param number: of the set.
        :raises InvalidRequestError: for more than ``max_segments``, a source without a readable frame rate or without
            the sound that is required, a gif that would be too long, and a clip that is not there.
        :raises ClipUnreadableError: when the source cannot be decoded.
        """
        request, settings = self.request, self.settings
        with self._source() as (path, work):
            probe = probe_clip(path)
            fps = probe.result_fps(request.fps)
            total = probe.frames(fps)
            if request.output_type == "gif" and total > MAX_GIF_FRAMES:
                raise InvalidRequestError.of(
                    "output_type",
                    f"gif: the result has {total} frames at {fps} fps; a whole clip as a gif has at most "
                    f"{MAX_GIF_FRAMES}. Use mp4, or fewer fps",
                )
            plan = plan_segments(total, fps, segment_frames(request), settings.overlap, settings.max_segments)
            sound = self._sound(path, probe, plan, folder.child(f"{number:04d}/sound.mp4"))
            inputs = self._stage(path, probe, plan, work)
        seed = random.SystemRandom().randint(0, MAX_SEED) if request.seed is None else request.seed
        return SegmentSet(folder, number, plan, settings.overlap, seed, inputs, sound)

    def stage_again(self, plan: SegmentPlan) -> list[str]:
        """Put the segments into S3 once more, where somebody has removed them; their places.

        :raises InvalidRequestError: when the clip is not there any more.
        :raises ClipUnreadableError: when it cannot be decoded.
        """
        with self._source() as (path, work):
            return self._stage(path, probe_clip(path), plan, work)

    @contextmanager
    def _source(self) -> Iterator[tuple[Path, Path]]:
        """The clip as a file, and a folder that is deleted in the end."""
        if missing := [name for name in ("av", "numpy", "PIL") if find_spec(name) is None]:
            raise InvalidRequestError.of(
                "clip_mode",
                f"whole: {', '.join(missing)} is not installed on this worker, which cuts the clip; install the extra "
                "[media]",
            )
        with tempfile.TemporaryDirectory(prefix="modelslab-") as work:
            clip = fetch_object(self.request.init_video, self.s3_factory, Path(work))
            limits = _LIMITS if is_http_link(clip) else FetchLimits(max_bytes=_LIMITS.max_bytes)
            yield fetch_clip(clip, Path(work), limits=limits), Path(work)

    def _stage(self, path: Path, probe: Probe, plan: SegmentPlan, work: Path) -> list[str]:
        width, height = self.request.width, self.request.height
        files = split_clip(path, probe, plan, work, size=(width, height) if width and height else None)

        def upload(file: Path) -> str:
            return str(prepare_input(str(file), self.s3_factory, staging=self.staging).clip)

        self.s3_factory()  # made by this thread
        with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="modelslab-segments") as pool:
            return list(pool.map(upload, files))

    def _sound(self, path: Path, probe: Probe, plan: SegmentPlan, target: S3Uri) -> SoundRecord:
        """Put the sound into S3; it is kept with the segments whatever becomes of it in the result."""
        required_by = "audio" if self.settings.audio == "require" else None
        seconds = Fraction(plan.total, plan.fps)
        sound, problem = read_wanted_sound(path, probe, seconds=seconds, required_by=required_by)
        if sound is None:
            return SoundRecord(problem=problem)
        put_object(self.s3_factory(), target, sound.data, "audio/mp4")
        return SoundRecord(str(target), sound.codec, sound.copied)
