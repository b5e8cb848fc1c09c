"""What the catalog says of a model, a motion module and a LoRA: data, frozen, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ANIMATEDIFF", "SD15", "TRAIN_STEPS", "LoraSpec", "ModelEntry", "ModelSpec", "MotionSpec", "Source"]

TRAIN_STEPS = 1000
"""The length of every model's training schedule: no schedule can have more steps."""

ANIMATEDIFF = "animatediff-sd15"
"""The family of Stable Diffusion 1.5 with AnimateDiff's motion modules."""

SD15 = "sd15"
"""The sizes of Stable Diffusion 1.5: what a motion module or LoRA with this base fits to."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights are: a repository on the Hugging Face Hub, or a path on this machine.

    :param repo: ``org/name`` on the Hub.
    :param path: a folder or a single file; set once the files are on this machine, so it goes before ``repo``.
    :param file: the one file of ``repo`` that is meant; without it the whole repository in diffusers' layout.
    :param revision: a commit of ``repo``; ``None`` takes what its main branch holds when it is first downloaded.
    :param pickled: the repository holds pickles alone, which are not read unless the engine allows them.
    """

    repo: str | None = None
    path: Path | None = None
    file: str | None = None
    revision: str | None = None
    pickled: bool = False

    def __str__(self) -> str:
        if self.path is not None:
            return str(self.path)
        return f"{self.repo}/{self.file}" if self.file else str(self.repo)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model as a catalog names it.

    :param family: name of its family; ``None`` leaves it to the files.
    :param settings: fields of :class:`ModelSpec` that differ from the defaults of the family.
    """

    id: str
    source: Source
    family: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model that can be run here. Its family fills in what the catalog does not say.

    :param family: name of the family that runs it.
    :param base: :data:`SD15`, or ``None`` for any other sizes.
    :param text_layers: layers of the text encoder: the most that ``clip_skip`` can skip.
    :param max_frames: the most frames that it knows.
    :param own_motion: the name that its own motion modules go by, when its files bring some; they are used where the
        request names no other.
    :param has_motion: whether its UNet's file holds them; else they are in the folder ``motion_adapter``.
    :param motion_modules: the motion modules that may be used with it; ``None`` allows all.
    :param scheduler: a name of :data:`~.schedulers.PRESETS`, where the motion module has no own.
    :param steps: denoising steps where the request gives none; so are the five that follow.
    :param license: the license by its Hub page when this was written, to be read there before use.
    """

    id: str
    source: Source
    family: str
    text_layers: int
    max_frames: int
    scheduler: str
    steps: int
    guidance_scale: float
    frames: int
    width: int
    height: int
    fps: int
    base: str | None = None
    own_motion: str | None = None
    has_motion: bool = False
    motion_modules: tuple[str, ...] | None = None
    license: str = ""

    @property
    def folder(self) -> Path:
        """Its files, in diffusers' layout.

        :raises ValueError: when they are not on this machine yet.
        """
        if self.source.path is None:
            raise ValueError(f"{self.id} is not on this machine yet")
        return self.source.path


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """A LoRA: of the spatial weights and the text encoder, of the motion modules, or a domain adapter.

    :param base: what it fits to, :data:`SD15` or ``None`` when that is not known before it is read.
    :param aliases: other names for it.
    """

    id: str
    source: Source
    base: str | None = None
    aliases: tuple[str, ...] = ()
    license: str = ""


@dataclass(frozen=True, slots=True)
class MotionSpec:
    """A motion module, and how it wants to be run.

    The settings hold where the request has none of its own; ``None`` leaves them to the model.

    :param step_files: files for numbers of steps: the one nearest to the steps in force is taken.
    :param all_steps: run every step, from the noise level that ``strength`` says; few-step modules need all of theirs.
    :param loras: LoRAs that belong to it, with their strengths.
    :param base: see :class:`LoraSpec`; also ``aliases``.
    """

    id: str
    source: Source
    scheduler: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    all_steps: bool = False
    step_files: dict[int, str] = field(default_factory=dict, hash=False)
    loras: tuple[tuple[LoraSpec, float], ...] = ()
    base: str | None = None
    aliases: tuple[str, ...] = ()
    license: str = ""
