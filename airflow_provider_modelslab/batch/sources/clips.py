"""The clips of a batch before anything is decided about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from airflow_provider_modelslab.api.links import is_http_link
from airflow_provider_modelslab.api.redaction import strip_query
from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["NO_OVERRIDES", "Clip", "Clips", "safe_source"]

NO_OVERRIDES: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, repr=False)
class Clip:
    """One clip.

    :param source: the request's ``init_video``: ``s3://bucket/key``, an http(s) link or a local file. A link may be
        signed, so it is not shown in the repr and must not be logged.
    :param path: its folder (below the input prefix, where there is one), without the slash that ends it; ``None`` where
        it lies in no folder.
    :param etag: of an object that was listed, without quotes; ``None`` where nobody has looked yet.
    :param bytes: its size, where it is known.
    :param overrides: attributes of the endpoint for this clip alone.
    :param destination: where its result goes, when it was said: ``s3://bucket/key`` or a key below the output prefix.
    :param version: what the user says which clip it is, in place of its link, ETag or content.
    :param number: its line or item, counted from 1; 0 where there is none.
    """

    source: str
    path: str | None = None
    etag: str | None = None
    bytes: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=lambda: NO_OVERRIDES)
    destination: str | None = None
    version: str | None = None
    number: int = 0

    def __repr__(self) -> str:
        return f"Clip({safe_source(self.source)!r})"


@dataclass(frozen=True, slots=True)
class Clips:
    """What was found.

    :param clips: in the order of the listing, list or file.
    :param where: what was looked through, for people.
    :param unit: ``line`` or ``item``: what :attr:`Clip.number` counts; empty for a listing.
    :param prefix: the input prefix, ending with a slash, when the clips were listed.
    :param ignored: how many objects or lines were passed over, by reason.
    :param not_matching: the first of the objects that the pattern does not match: their keys below the prefix.
    :param pattern: the globs, where some were given.
    """

    clips: tuple[Clip, ...]
    where: str
    unit: str = ""
    prefix: S3Uri | None = None
    ignored: Mapping[str, int] = field(default_factory=dict)
    not_matching: tuple[str, ...] = ()
    pattern: str | Sequence[str] | None = None

    def location_of(self, clip: Clip) -> str:
        """Where a clip was named: ``s3://b/list.csv line 3``, ``item 3`` or its own URI."""
        if not clip.number:
            return safe_source(clip.source)
        return f"{self.where} {self.unit} {clip.number}" if self.where else f"{self.unit} {clip.number}"

    def describe(self) -> str:
        """One line for the log."""
        passed = ", ".join(f"{count} {why}" for why, count in sorted(self.ignored.items()))
        place = f" in {self.where}" if self.where else ""
        return f"{len(self.clips)} clip{'' if len(self.clips) == 1 else 's'}{place}" + (
            f"; ignored: {passed}" if passed else ""
        )


def safe_source(source: str) -> str:
    """A source to log and to store: a link without its query; the key of an object stays as it is."""
    return strip_query(source) if is_http_link(source) else source
