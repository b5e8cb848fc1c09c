"""The inputs of a run, each made from the run's seed and its number alone."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hostile_clips import damage
from benchmarks.hostile_clips.bombs import BOMBS
from benchmarks.hostile_clips.disguise import Canaries, make_link_inside, make_name, make_playlist, make_reference
from benchmarks.hostile_clips.host import BEHAVIOURS
from benchmarks.hostile_clips.valid import Clip, make_valid

__all__ = ["FAMILIES", "HostileInput", "families_of", "make_input"]

FAMILIES = {
    "valid": 0.11,
    "damaged": 0.04,
    "lying boxes": 0.26,
    "mutated": 0.20,
    "cut": 0.11,
    "spliced": 0.05,
    "noise": 0.04,
    "another codec": 0.07,
    "playlist": 0.03,
    "reference": 0.02,
    "name": 0.02,
    "link inside": 0.01,
    "host": 0.03,
    "bomb": 0.01,
}
"""The share of each family among the inputs. ``damaged`` are those that players still play."""


@dataclass(frozen=True, slots=True)
class HostileInput:
    """One clip, on disk, or one link.

    :param label: what it is, for a person who looks into it.
    :param file: where the clip is; of a host's link, the body.
    :param link: instead of the file.
    :param behaviour: of the host that serves it.
    :param readable: whether it has to be read.
    :param shade: the mean of the first frame's pixels, where it is known.
    """

    number: int
    family: str
    label: str
    file: Path | None = None
    link: str | None = None
    behaviour: str | None = None
    readable: bool = False
    shade: float | None = None


def families_of(seed: int, count: int) -> list[str]:
    """The family of each input: every family has its share, and at least one where there are so many inputs."""
    others = [name for name in FAMILIES if name != "lying boxes"]
    families = [name for name in others for _ in range(max(1, round(FAMILIES[name] * count)))][:count]
    families += ["lying boxes"] * (count - len(families))
    random.Random(f"families {seed}").shuffle(families)
    return families


def make_input(seed: int, number: int, family: str, turn: int, folder: Path, canaries: Canaries) -> HostileInput:
    """Make one and write it into the folder.

    :param turn: how many of its family came before.
    """
    rng = random.Random(f"{seed} {number}")
    place = folder / f"{number}"
    place.mkdir()
    if family == "link inside":
        link = make_link_inside(rng, canaries)
        return HostileInput(number, family, link, link=link)
    if family == "host":
        behaviour = list(BEHAVIOURS)[turn % len(BEHAVIOURS)]
        clip = damage.base(number, "mp4")
        whole = behaviour.startswith("whole")
        return _written(place / "clip", number, family, clip, readable=whole, behaviour=behaviour)
    if family == "name":
        data, name, label = make_name(rng, canaries)
        os.link(canaries.file, place / Path(canaries.file).name)  # where the name would lead, seen from this folder
        return _written(place / name, number, family, Clip(data, label, 0, 0.0))
    if family in {"valid", "damaged"}:
        clip = make_valid(rng) if family == "valid" else damage.playing(rng)
        shade = clip.shade if family == "valid" else None
        return _written(place / "clip", number, family, clip, readable=True, shade=shade)
    if family in {"playlist", "reference"}:
        data, label = (make_playlist if family == "playlist" else make_reference)(rng, canaries)
        return _written(place / "clip", number, family, Clip(data, label, 0, 0.0))
    if family == "bomb":
        bomb = BOMBS[turn % len(BOMBS)]
        return _written(place / "clip", number, family, Clip(bomb(rng), bomb.__name__, 0, 0.0))
    return _written(place / "clip", number, family, _DAMAGE[family](rng))


_DAMAGE: dict[str, Callable[[random.Random], Clip]] = {
    "lying boxes": damage.lying,
    "mutated": damage.mutated,
    "cut": damage.cut,
    "spliced": damage.spliced,
    "noise": damage.noise,
    "another codec": damage.odd_codec,
}


def _written(
    file: Path,
    number: int,
    family: str,
    clip: Clip,
    *,
    readable: bool = False,
    behaviour: str | None = None,
    shade: float | None = None,
) -> HostileInput:
    file.write_bytes(clip.data)
    label = f"{behaviour}: {clip.label}" if behaviour else clip.label
    return HostileInput(number, family, label, file, behaviour=behaviour, readable=readable, shade=shade)
