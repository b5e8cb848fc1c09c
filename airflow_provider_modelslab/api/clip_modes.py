"""``clip_mode``: a sample of the clip's frames, or the whole clip; and how a served endpoint is asked for it.

The vendor's page has no such attribute. A served endpoint takes it as an extension, ``x_clip_mode``, whose options
begin with ``x_`` too; in a request they are extra parameters. Operators import this while a Dag is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Self, TypeVar, cast, get_args

from airflow_provider_modelslab.api.endpoint_request import is_blank
from airflow_provider_modelslab.api.errors import InvalidRequestError

__all__ = [
    "AUDIO",
    "CLIP_MODES",
    "DEFAULT_OVERLAP",
    "EXTENSIONS",
    "Audio",
    "WholeOptions",
    "check_audio",
    "check_clip_mode",
    "check_count",
    "is_whole",
]

CLIP_MODES = ("sample", "whole")
"""Values of ``clip_mode``: a sample of the clip's frames, or the whole clip with its length and its sound."""

Default = TypeVar("Default", int, None)

Audio = Literal["keep", "drop", "require"]

AUDIO: tuple[str, ...] = get_args(Audio)
"""Values of ``audio``."""

DEFAULT_OVERLAP = 4
"""Frames that neighbouring segments, or context windows, share."""

EXTENSIONS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "x_clip_mode": {
            "type": "string",
            "enum": list(CLIP_MODES),
            "default": "sample",
            "description": "Extension of this endpoint, unknown to ModelsLab. sample: num_frames frames, spread over "
            "the clip. whole: all of the clip, with its length and its sound, made in context windows of num_frames "
            "frames; fps is then the frame rate of the result, by default the clip's own, at most 30.",
        },
        "x_overlap": {
            "type": "integer",
            "minimum": 0,
            "default": DEFAULT_OVERLAP,
            "description": "Extension, for x_clip_mode whole: frames that neighbouring context windows share. Less "
            "than num_frames.",
        },
        "x_audio": {
            "type": "string",
            "enum": list(AUDIO),
            "default": "keep",
            "description": "Extension, for x_clip_mode whole: keep the clip's sound if there is any, drop it, or "
            "require it: without sound that can be read, the job fails.",
        },
    }
)
"""The extensions of a served endpoint, with the JSON schema of each."""


def check_clip_mode(given: object, name: str = "clip_mode") -> str:
    """``sample`` where nothing is given.

    :raises InvalidRequestError: for another value.
    """
    return _check_word(name, given, CLIP_MODES, "sample")


def is_whole(clip_mode: object, options: Mapping[str, object]) -> bool:
    """Whether whole clips are wanted.

    :param options: those of whole clips, by name.
    :raises InvalidRequestError: for another ``clip_mode``.
    :raises ValueError: for options that are given without whole clips.
    """
    if check_clip_mode(clip_mode) == "whole":
        return True
    if given := [name for name, value in options.items() if value is not None]:
        raise ValueError(f"{', '.join(given)}: only for clip_mode='whole'")
    return False


def check_audio(given: object, name: str = "audio") -> Audio:
    """``keep`` where nothing is given.

    :raises InvalidRequestError: for another value.
    """
    return cast("Audio", _check_word(name, given, AUDIO, "keep"))


def check_count(name: str, given: object, least: int, default: Default) -> int | Default:
    """A whole number, perhaps out of a template; ``default`` where nothing is given.

    :raises InvalidRequestError: for anything else, and for less than ``least``.
    """
    if is_blank(given):
        return default
    text = str(given).strip()
    if isinstance(given, bool | float) or not text.isdecimal() or int(text) < least:
        raise InvalidRequestError.of(name, f"must be a whole number of at least {least}; got {given!r:.80}")
    return int(text)


def _check_word(name: str, given: object, words: tuple[str, ...], default: str) -> str:
    word = default if is_blank(given) else str(given).strip()
    if word not in words:
        raise InvalidRequestError.of(name, f"must be one of {', '.join(words)}; got {given!r:.80}")
    return word


@dataclass(frozen=True, slots=True)
class WholeOptions:
    """The options of a whole clip that one machine makes as one.

    :param overlap: frames that neighbouring context windows share, 0 or more; ``None`` leaves it to the model.
    :param audio: ``keep`` the sound where there is any, ``drop`` it, or ``require`` it.
    """

    overlap: int | None = None
    audio: Audio = "keep"

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self | None:
        """Read the extensions among a request's extra parameters; ``None`` for a sample.

        :raises InvalidRequestError: naming the extension that is not allowed, or that goes with a whole clip alone.
        """
        given = {name: parameters[name] for name in EXTENSIONS if not is_blank(parameters.get(name))}
        if check_clip_mode(given.pop("x_clip_mode", None), "x_clip_mode") == "sample":
            if given:
                raise InvalidRequestError.of_fields({name: ["is only for x_clip_mode whole"] for name in given})
            return None
        overlap = check_count("x_overlap", given.get("x_overlap"), 0, None)
        return cls(overlap, check_audio(given.get("x_audio"), "x_audio"))

    def parameters(self) -> dict[str, Any]:
        """The extra parameters that ask for it; those that say no more than the default are left out."""
        options = {"x_overlap": self.overlap, "x_audio": None if self.audio == "keep" else self.audio}
        return {"x_clip_mode": "whole", **{name: value for name, value in options.items() if value is not None}}
