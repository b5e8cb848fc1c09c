"""A whole clip on this machine: source and result are files, and in between only latents are in memory."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.clip_modes import WholeOptions
from airflow_provider_modelslab.api.errors import (
    InvalidRequestError,
    JobFailedError,
    ModelsLabError,
)
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.families.windows import ClipRun, ContextWindows
from airflow_provider_modelslab.local.media.aspect import KeepAspect
from airflow_provider_modelslab.local.media.decode import resize_frames
from airflow_provider_modelslab.local.media.encode import MAX_GIF_FPS
from airflow_provider_modelslab.local.media.output import ClipWriter, copy_clip
from airflow_provider_modelslab.local.media.whole_clip.join import MAX_GIF_FRAMES
from airflow_provider_modelslab.local.media.whole_clip.source import Probe, probe_clip, read_at_rate, read_wanted_sound
from airflow_provider_modelslab.local.models.load_lock import GATE
from airflow_provider_modelslab.local.plan import DenoisingPass, Plan
from airflow_provider_modelslab.local.progress import StepProgress

if TYPE_CHECKING:
    from PIL.Image import Image

    from airflow_provider_modelslab.local.families.base import LoadedModel

__all__ = ["MAX_WHOLE_FRAMES", "WholeClipRun", "WholeResult", "WholeSource", "open_source", "render_whole"]

MAX_WHOLE_FRAMES = 10_000
"""Frames of a whole clip: more than five minutes at 30 frames per second. The latents of all are in memory."""


_PAUSE_EVERY = 16  # frames


class WorkFolder:
    """A temporary folder that is deleted with the last object that refers to it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="modelslab-"))
        self._end = weakref.finalize(self, shutil.rmtree, str(self.path), ignore_errors=True)


@dataclass(frozen=True, slots=True)
class WholeSource:
    """The source of a whole clip.

    :param path: the file; it is needed until the clip is rendered.
    :param fps: frames per second of the result.
    :param total: frames of the result.
    :param sound: an mp4 with the sound of the result.
    :param facts: of the sound, for the result's meta: ``audio``, ``audio_copied`` and perhaps ``audio_problem``.
    """

    folder: WorkFolder = field(repr=False)
    path: Path
    probe: Probe
    fps: int
    total: int
    sound: Path | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WholeResult:
    """A whole clip that is rendered.

    :param encoded: what the file is, see :func:`~.media.output.write_clip`.
    :param notes: how the model was run, for the result's meta.
    """

    folder: WorkFolder = field(repr=False)
    path: Path
    encoded: Mapping[str, Any]
    notes: Mapping[str, Any]

    def copy_to(self, output: Path) -> dict[str, Any]:
        """Write the file; what it is.

        :raises JobFailedError: when it cannot be written.
        """
        copy_clip(self.path, output)
        return dict(self.encoded)


def open_source(request: Video2VideoRequest, whole: WholeOptions, fetch: Callable[[Path], Path]) -> WholeSource:
    """Fetch a clip, and find out how long it is and what sound it has. Its frames are read when they are needed.

    :param fetch: called with a folder; gives the clip as a file.
    :raises InvalidRequestError: for a clip without a readable frame rate or without the sound that is required, and for
        one that is too long.
    :raises ClipUnreadableError: when its times cannot be read.
    """
    folder = WorkFolder()
    path = fetch(folder.path)
    probe = probe_clip(path)
    fps = probe.result_fps(request.fps)
    is_gif = request.output_type == "gif"
    if is_gif:
        fps = min(fps, MAX_GIF_FPS)
    total, most = probe.frames(fps), MAX_GIF_FRAMES if is_gif else MAX_WHOLE_FRAMES
    if total > most:
        name, advice = ("output_type", "Use mp4, or") if is_gif else ("x_clip_mode", "Use")
        raise InvalidRequestError.of(
            name,
            f"{'gif' if is_gif else 'whole'}: the result has {total} frames at {fps} fps; a whole clip has at most "
            f"{most} here. {advice} fewer fps or a shorter clip",
        )
    sound, facts = None, {"audio": None, "audio_copied": None}
    if whole.audio != "drop" and not is_gif:
        sound, facts = _sound(path, probe, whole, Fraction(total, fps), folder.path / "sound.mp4")
    return WholeSource(folder, path, probe, fps, total, sound, facts)


def _sound(
    path: Path, probe: Probe, whole: WholeOptions, seconds: Fraction, target: Path
) -> tuple[Path | None, dict[str, Any]]:
    """Write the sound of the result, if there is any that can be read; its file, and the facts for the meta."""
    required_by = "x_audio" if whole.audio == "require" else None
    sound, problem = read_wanted_sound(path, probe, seconds=seconds, required_by=required_by)
    if sound is None:
        return None, {"audio": None, "audio_copied": None, **({"audio_problem": problem} if problem else {})}
    target.write_bytes(sound.data)
    return target, {"audio": sound.codec, "audio_copied": sound.copied}


class WholeClipRun:
    """The passes of a plan over a whole clip. Each takes the frames of the one before it as they come.

    :param kind: ``mp4`` or ``gif``.
    :param model: ``None`` for a plan that denoises nothing.
    """

    def __init__(
        self,
        source: WholeSource,
        plan: Plan,
        kind: str,
        model: LoadedModel | None,
        *,
        keep_aspect: KeepAspect,
        progress: StepProgress,
    ) -> None:
        self._source = source
        self._plan = plan
        self._kind = kind
        self._model = model
        self._keep_aspect = keep_aspect
        self._progress = progress
        self._path = source.folder.path / f"result-{uuid.uuid4().hex}.{kind}"
        self._writer = ClipWriter(self._path, kind, source.fps, sound=source.sound)
        self._jobs: tuple[DenoisingPass, ...] = ()
        self._runs: dict[int, ClipRun] = {}

    def run(self) -> WholeResult:
        """Read, restyle and write the clip.

        :raises ClipUnreadableError: when it cannot be decoded.
        :raises JobFailedError: when it cannot be written.
        :raises ArithmeticError: when the model gives values that are no numbers.
        """
        source, first = self._source, self._plan.passes[0]
        notes: dict[str, Any] = {}
        try:
            read_at_rate(
                source.path,
                source.probe,
                source.fps,
                size=(first.width, first.height),
                keep_aspect=self._keep_aspect,
                on_begin=self._begin,
                on_frame=self._read,
            )
            for index, job in enumerate(self._jobs):
                if index in self._runs:
                    run = self._runs.pop(index)
                    run.finish(self._next(index))
                    self._progress.before += job.calls
                    notes |= run.notes()
            with _writing():
                encoded = self._writer.close()
        except BaseException:
            self._writer.discard()
            raise
        if encoded["num_frames"] != source.total:
            raise JobFailedError(f"The clip has {encoded['num_frames']} frames, and {source.total} were expected")
        return WholeResult(source.folder, self._path, encoded, notes)

    def _begin(self) -> None:
        """Forget all frames: they come anew."""
        self._writer.discard()
        self._runs.clear()
        self._jobs = ()

    def _read(self, number: int, picture: Image) -> None:
        if not self._jobs:
            first = self._plan.passes[0]
            is_other = picture.size != (first.width, first.height)  # where its aspect ratio is kept
            self._jobs = (self._plan.with_size(*picture.size) if is_other else self._plan).passes
        if number % _PAUSE_EVERY == 0:
            self._pause()
        self._add(0, picture)

    def _add(self, index: int, picture: Image) -> None:
        """Give a frame to a pass; to the writer after the last one."""
        if index == len(self._jobs):
            with _writing():
                self._writer.add(picture)
            return
        job = self._jobs[index]
        (picture,) = resize_frames([picture], job.width, job.height)
        if not job.calls or self._model is None:
            self._add(index + 1, picture)
            return
        if index not in self._runs:  # begun with its first frame, when the pass before it has done with the model
            self._runs[index] = self._model.begin_clip(job, self._windows(), on_step=self._step, pause=self._pause)
        self._runs[index].add(picture)

    def _step(self, done: int) -> None:
        self._progress.step(done)
        GATE.pause()

    def _pause(self) -> None:
        self._progress.check()
        if self._model is not None:
            GATE.pause()

    def _next(self, index: int) -> Callable[[Image], None]:
        return lambda picture: self._add(index + 1, picture)

    def _windows(self) -> ContextWindows:
        whole = self._plan.whole
        assert whole is not None  # noqa: S101 - its overlap was decided with the plan
        assert whole.overlap is not None  # noqa: S101
        return ContextWindows(self._source.total, self._plan.frames, whole.overlap)


def render_whole(
    source: WholeSource, plan: Plan, kind: str, progress: StepProgress, *, keep_aspect: KeepAspect, with_model: Any
) -> WholeResult:
    """Restyle a whole clip.

    :param kind: ``mp4`` or ``gif``.
    :param with_model: :meth:`~.model_runner.ModelRunner.run` for this plan.
    :raises ClipUnreadableError: when the clip cannot be decoded.
    :raises JobFailedError: when the model fails, or the clip cannot be written.
    """

    def work(model: LoadedModel | None) -> WholeResult:
        progress.before = 0
        return WholeClipRun(source, plan, kind, model, keep_aspect=keep_aspect, progress=progress).run()

    if not plan.calls:
        return work(None)
    last = plan.passes[-1]
    result: WholeResult = with_model(work, frames=plan.frames, size=(last.width, last.height))
    return result


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except ModelsLabError:
        raise
    except Exception as error:
        raise JobFailedError(f"The clip could not be written: {error}") from error
