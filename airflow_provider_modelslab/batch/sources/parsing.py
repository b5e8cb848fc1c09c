"""One clip from what names it: a link, or a mapping with overrides, or a manifest that another task returned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from airflow_provider_modelslab.api.endpoint_request import is_blank
from airflow_provider_modelslab.api.redaction import strip_query
from airflow_provider_modelslab.batch.sources.clips import NO_OVERRIDES, Clip
from airflow_provider_modelslab.storage.uri import S3Uri, location_problem

__all__ = ["CLIP_VERSION", "DESTINATION", "SOURCE_FIELDS", "clip_from", "folder_in", "path_of"]

SOURCE_FIELDS = ("init_video", "uri", "source")
"""The names under which a mapping or a line may give its clip."""

DESTINATION = "destination"
"""The name under which it may say where the result goes."""

CLIP_VERSION = "clip_version"
"""The name under which it may say which clip it is, in place of its link, ETag or content."""

_BLANK = {"", "none", "null"}
_NOT_THERE = {"failed", "pending", "submitted"}
Tell = Callable[[str, str], None]


def clip_from(item: object, number: int, tell: Tell, ignored: Counter[str]) -> Clip | None:
    """The clip that an item names; ``None`` when it was passed over or is wrong.

    :param item: text, or a mapping: a source under one of :data:`SOURCE_FIELDS`, perhaps a destination and a version,
        and overrides. A mapping with ``schema_version`` and ``status`` is a manifest of this package: its result is the
        clip, and nothing else in it is an override.
    :param number: of the line or item, from 1.
    :param tell: called with a field and a problem.
    :param ignored: counts what is passed over.
    """
    if item is None:
        ignored["items without a value"] += 1
        return None
    if isinstance(item, str):
        return _clip(item, number, tell, field="init_video")
    if not isinstance(item, Mapping):
        tell("init_video", f"must be a link, s3://bucket/key or a mapping with init_video; got {type(item).__name__}")
        return None
    if "schema_version" in item and "status" in item:
        return _from_manifest(item, number, tell, ignored)
    given = {name: item[name] for name in SOURCE_FIELDS if item.get(name) is not None}
    if len({str(value) for value in given.values()}) > 1:
        tell("init_video", f"is given more than once: {', '.join(given)}; keep one of them")
        return None
    if not given:
        tell(
            "init_video",
            f"is missing; give one of {', '.join(SOURCE_FIELDS)}; got {', '.join(map(str, item)) or 'nothing'}",
        )
        return None
    name, source = next(iter(given.items()))
    if not isinstance(source, str):
        tell(name, f"must be text; got {source!r:.80}")
        return None
    destination = item.get(DESTINATION)
    if destination is not None and (not isinstance(destination, str) or not destination.strip()):
        tell(DESTINATION, f"must be s3://bucket/key or a key below the output prefix; got {destination!r:.80}")
        return None
    version = item.get(CLIP_VERSION)
    if not (is_blank(version) or isinstance(version, str) or type(version) is int):
        tell(CLIP_VERSION, f"must be text; got {version!r:.80}")
        return None
    taken = {*SOURCE_FIELDS, DESTINATION, CLIP_VERSION}
    overrides = {str(key): value for key, value in item.items() if key not in taken and value is not None}
    return _clip(
        source,
        number,
        tell,
        field=name,
        overrides=overrides or NO_OVERRIDES,
        destination=destination,
        version=None if is_blank(version) else str(version).strip(),
    )


def path_of(source: str) -> str | None:
    """The folder of an object's key or of a link's path; ``None`` where there is none, and for a local file."""
    scheme, separator, rest = source.partition("://")
    if not separator or scheme.lower() == "file":
        return None
    if scheme.lower() == "s3":
        return folder_in(rest.partition("/")[2])
    return folder_in(unquote(urlsplit(source).path).removeprefix("/"))


def folder_in(key: str) -> str | None:
    """What stands before the last slash, as it is: empty for ``/clip.mp4``; ``None`` for a key without a slash."""
    folder, slash, _ = key.rpartition("/")
    return folder if slash else None


def _from_manifest(item: Mapping[str, Any], number: int, tell: Tell, ignored: Counter[str]) -> Clip | None:
    status = str(item["status"])
    if status in _NOT_THERE and "index" in item:  # a line of a batch's results
        ignored[f"clips that an earlier batch reports as {status}"] += 1
        return None
    links = item.get("links") or ()
    source = item.get("uri") or (links[0] if links else None)
    if status in _NOT_THERE or not isinstance(source, str):
        tell(
            "uri",
            f"the manifest of job {item.get('job_id')} has no result yet (status {status}); wait "
            "for the job and land it first",
        )
        return None
    return _clip(source, number, tell, field="uri")


def _clip(
    source: str,
    number: int,
    tell: Tell,
    *,
    field: str,
    overrides: Mapping[str, Any] = NO_OVERRIDES,
    destination: str | None = None,
    version: str | None = None,
) -> Clip | None:
    source = source.strip()
    if source.lower() in _BLANK:
        tell(field, f"is empty; got {source!r}")
        return None
    problem = location_problem(
        source, allowed="s3://bucket/key, an http(s) link or a path to a file", schemes=("http", "https", "file")
    )
    if problem is not None:
        tell(field, problem)
        return None
    scheme = source.partition("://")[0].lower() if "://" in source else "file"
    try:
        if scheme == "s3":
            uri = S3Uri.parse(source)
            source = str(uri)
            if not uri.key or uri.key.endswith("/"):
                tell(field, f"{source} has no object key; expected s3://bucket/key")
                return None
        elif scheme != "file" and not urlsplit(source).hostname:
            tell(field, f"{strip_query(source)[:200]!r} has no host")
            return None
    except ValueError:
        tell(field, "is not a valid URL")
        return None
    return Clip(source, path_of(source), overrides=overrides, destination=destination, version=version, number=number)
