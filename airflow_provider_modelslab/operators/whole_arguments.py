"""``clip_mode="whole"`` and its options, for every operator that makes whole clips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_provider_modelslab.api.clip_modes import is_whole
from airflow_provider_modelslab.jobs.whole_clip.settings import WholeClipSettings
from airflow_provider_modelslab.operators.arguments import is_literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WholeClipArguments"]


class WholeClipArguments(BaseOperator):
    """Samples or whole clips.

    :param clip_mode: ``"sample"`` (default) makes one job of ``num_frames`` frames, spread over the clip. ``"whole"``
        restyles the whole clip, with its length and its sound: the clip is cut into overlapping segments, each segment
        is one job, and the results are joined (templated). Then ``fps`` is the frame rate of the result (by default the
        clip's own, at most 30), and ``num_frames`` the frames of a segment (by default 25, the most at ModelsLab). The
        worker needs the package's extra ``media``.
    :param overlap: of a whole clip: frames that neighbouring segments share, 0 or more and less than ``num_frames``
        (templated). They are cross-faded.
    :param audio: of a whole clip: ``"keep"`` (default) keeps the sound if there is any, ``"drop"`` drops it,
        ``"require"`` fails before anything is paid for if there is none that can be read (templated).
    :param max_segments: of a whole clip: the most segments, and so jobs, 1 or more (templated). A longer clip is
        refused before anything is paid for; the error says how many it takes.
    """

    whole_fields: ClassVar[tuple[str, ...]] = ("clip_mode", "overlap", "audio", "max_segments")

    def __init__(
        self,
        *,
        clip_mode: str = "sample",
        overlap: int | str | None = None,
        audio: str | None = None,
        max_segments: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.clip_mode = clip_mode
        self.overlap = overlap
        self.audio = audio
        self.max_segments = max_segments
        given = (overlap, audio, max_segments)
        WholeClipSettings.of(*(value if is_literal(value) else None for value in given))

    def _whole_settings(self) -> WholeClipSettings | None:
        """How whole clips are made; ``None`` for samples.

        :raises InvalidRequestError: for a value that is not allowed.
        :raises ValueError: for arguments that do not go together.
        """
        return WholeClipSettings.of(self.overlap, self.audio, self.max_segments) if self._is_whole() else None

    def _is_whole(self) -> bool:
        """Whether whole clips are wanted; raises as :meth:`_whole_settings`. Subclasses call it when they are made."""
        if not is_whole(self.clip_mode, {name: getattr(self, name) for name in WholeClipArguments.whole_fields[1:]}):
            return False
        if names := [name for name, is_wrong in self._not_for_whole().items() if is_wrong]:
            raise ValueError(
                f"{', '.join(names)}: cannot be used with clip_mode='whole', whose results are joined by this task; "
                "deferrable=True frees the worker while the jobs run"
            )
        return True

    def _not_for_whole(self) -> Mapping[str, bool]:
        """The arguments that cannot be used with whole clips, and whether they are."""
        return {}
