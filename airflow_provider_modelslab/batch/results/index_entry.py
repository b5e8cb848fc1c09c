"""What the index of an output prefix remembers of one result, and how several memories become one."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from airflow_provider_modelslab.ledger.model import Fingerprint

__all__ = ["INDEX_SCHEMA_VERSION", "IndexEntry", "newest", "pack", "unpack"]

INDEX_SCHEMA_VERSION = 1
_OPTIONAL = frozenset({"generation_time_s", "cost", "currency", "made_by"})
_NOT_OF_THE_RESULT = frozenset({"request", "source", "landed_at", "batch", "seconds"})


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A result that landed.

    :param uri: where.
    :param request: the fingerprint's digest of the request.
    :param source: its digest of the clip; ``None`` when the clip was gone.
    :param bytes: size.
    :param etag: without quotes; ``None`` where it is not known.
    :param sha256: of the content.
    :param seed: in force.
    :param job_id: of the job that made it.
    :param landed_at: seconds since the epoch.
    :param batch: identifies the batch in one Dag run that made it, the same for all its tries; ``None`` if unknown.
    :param seconds: from the submission until it landed.
    :param generation_time_s: seconds that the model worked.
    :param cost: of the job, as text.
    :param currency: of the cost.
    :param made_by: the place that made it, of a batch with places to fall back to.
    """

    uri: str
    request: str
    source: str | None
    bytes: int
    etag: str | None = None
    sha256: str | None = None
    seed: int | None = None
    job_id: str | None = None
    landed_at: float = 0.0
    batch: str | None = None
    seconds: float | None = None
    generation_time_s: float | None = None
    cost: str | None = None
    currency: str | None = None
    made_by: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        fingerprint: Fingerprint,
        manifest: Mapping[str, Any],
        *,
        at: float | None = None,
        batch: str | None = None,
        seconds: float | None = None,
    ) -> Self:
        """From the manifest of a result that has landed."""
        return cls(
            uri=manifest["uri"],
            request=fingerprint.request,
            source=fingerprint.source,
            bytes=manifest["bytes"],
            etag=manifest.get("etag"),
            sha256=manifest.get("sha256"),
            seed=manifest.get("seed"),
            job_id=manifest.get("job_id"),
            landed_at=round(time.time() if at is None else at, 3),
            batch=batch,
            seconds=None if seconds is None else round(seconds, 3),
            generation_time_s=manifest.get("generation_time_s"),
            cost=manifest.get("cost"),
            currency=manifest.get("currency"),
            made_by=manifest.get("made_by"),
        )

    def is_for(self, fingerprint: Fingerprint) -> bool:
        """Whether it was made for this request and clip."""
        return fingerprint.matches({"request": self.request, "source": self.source})

    def manifest(self) -> dict[str, Any]:
        """The part of a result's manifest that is known here."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in _NOT_OF_THE_RESULT and (value is not None or name not in _OPTIONAL)
        }


def newest(entries: Iterable[IndexEntry]) -> dict[str, IndexEntry]:
    """The newest entry of each result, whatever the order they come in."""
    found: dict[str, IndexEntry] = {}
    for entry in entries:
        known = found.get(entry.uri)
        if known is None or _rank(entry) > _rank(known):
            found[entry.uri] = entry
    return found


def pack(entries: Iterable[IndexEntry]) -> bytes:
    """Gzipped JSON lines, the first of which tells the version."""
    lines = [json.dumps({"schema_version": INDEX_SCHEMA_VERSION})]
    lines.extend(json.dumps(_given(entry), ensure_ascii=False, separators=(",", ":")) for entry in entries)
    return gzip.compress("\n".join(lines).encode(), compresslevel=5, mtime=0)


def unpack(body: bytes) -> Iterator[IndexEntry]:
    """The inverse.

    :raises ValueError: for what is no index, or one of a later version.
    """
    try:
        lines = iter(gzip.decompress(body).split(b"\n"))
        version = json.loads(next(lines))["schema_version"]
        if version > INDEX_SCHEMA_VERSION:
            raise ValueError(f"has version {version}, which is later than {INDEX_SCHEMA_VERSION}")
        for line in lines:
            yield IndexEntry(**json.loads(line))
    except (OSError, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"is not an index ({type(error).__name__}: {error})") from error


def _given(entry: IndexEntry) -> dict[str, Any]:
    return {name: value for name, value in asdict(entry).items() if value is not None or name == "source"}


def _rank(entry: IndexEntry) -> tuple[float, str]:
    # The text decides between two of the same instant, so that every reader comes to the same one.
    return entry.landed_at, json.dumps(asdict(entry), sort_keys=True)
