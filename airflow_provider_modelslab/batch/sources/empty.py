"""Why a batch has no clips: what is there instead. Asked only when nothing was found; two or a few listings."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import STORAGE_ERRORS
from airflow_provider_modelslab.batch.sources.clips import Clips
from airflow_provider_modelslab.batch.sources.discovery import NOT_MATCHING
from airflow_provider_modelslab.storage.inputs import S3Factory
from airflow_provider_modelslab.storage.s3_objects import list_names
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["explain_empty"]

_NAMED = 5
_LIKENESS = 0.6  # of a folder's name and the one that was given


def explain_empty(clips: Clips, s3_factory: S3Factory) -> str:
    """Sentences that say where nothing was found, and what is there: at most a few names.

    :param clips: without any clip.
    """
    ignored = sum(clips.ignored.values())
    if clips.prefix is None:
        return f"{clips.describe()}." if ignored else "The list is empty."
    if clips.not_matching:
        count = clips.ignored[NOT_MATCHING]
        wanted = f"matches the pattern {clips.pattern!r}" if clips.pattern is not None else "has the suffix of a video"
        shown = _shown(clips.not_matching, more=count > len(clips.not_matching))
        return f"No object below {clips.prefix} {wanted}. There {'is' if count == 1 else 'are'} {count}: {shown}."
    if ignored:
        return f"All objects below {clips.prefix} are ignored: {clips.describe()}."
    try:
        return _around(s3_factory(), clips.prefix)
    except STORAGE_ERRORS:  # the access may be limited to the prefix
        return f"There is nothing below {clips.prefix}."


def _around(s3: S3Client, prefix: S3Uri) -> str:
    """What is in the prefix itself, else in the nearest folder above it that has something."""
    inside = list_names(s3, prefix)
    if inside:  # folders: objects in them were not asked for
        return f"{prefix} has only folders: {_shown(inside)}. To use the clips in them, set recursive=True."
    path = prefix.key.rstrip("/")
    nothing = f"There is nothing below {prefix}."
    while path:
        above, _, name = path.rpartition("/")
        folder = S3Uri(prefix.bucket, f"{above}/" if above else "")
        if names := list_names(s3, folder, like=name):
            return f"{nothing} {_siblings(folder, name, names)}"
        path = above
    return f"{nothing} The bucket is empty."


def _siblings(folder: S3Uri, name: str, names: Sequence[str]) -> str:
    if name in names:  # an object, not a folder
        return f"{folder}{name} is an object; give a list: [{f'{folder}{name}'!r}]."
    bare = {found.rstrip("/").lower(): found for found in names}
    near = [found for lower, found in bare.items() if lower.startswith(name.lower())]
    near += [bare[lower] for lower in difflib.get_close_matches(name.lower(), bare, n=_NAMED, cutoff=_LIKENESS)]
    if near:
        return f"Did you mean {_shown([f'{folder}{found}' for found in dict.fromkeys(near)])}?"
    return f"{folder} has: {_shown(names)}."


def _shown(names: Sequence[str], *, more: bool = False) -> str:
    shown = ", ".join(name[:200] for name in names[:_NAMED])
    return f"{shown} and others" if more or len(names) > _NAMED else shown
