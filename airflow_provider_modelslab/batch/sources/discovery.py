"""Find the clips of a batch: below an S3 prefix, in a list, in a manifest file, or in what another task returned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.redaction import hide_queries
from airflow_provider_modelslab.batch.planning.validation import Problems
from airflow_provider_modelslab.batch.sources.clips import Clip, Clips
from airflow_provider_modelslab.batch.sources.input_manifest import is_manifest, read_manifest
from airflow_provider_modelslab.batch.sources.parsing import clip_from, folder_in
from airflow_provider_modelslab.batch.sources.patterns import is_ours, is_staged, key_filter
from airflow_provider_modelslab.storage.inputs import S3Factory
from airflow_provider_modelslab.storage.s3_objects import list_pages
from airflow_provider_modelslab.storage.uri import SOURCES, S3Uri, source_problem

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["NOT_MATCHING", "clips_below", "clips_from", "find_clips"]

NOT_MATCHING = "not matching"
"""The reason for objects that the pattern leaves out."""

_NAMED = 10  # of those, for a message
_STAGED = "named inputs/<sha256> like staged local files (name that folder itself to take them)"


def find_clips(
    source: object,
    s3_factory: S3Factory,
    *,
    pattern: str | Sequence[str] | None = None,
    recursive: bool = True,
    output: S3Uri | None = None,
) -> Clips:
    """The clips that ``source`` means.

    :param source: ``s3://bucket/prefix/``; a manifest file (see :func:`read_manifest`); a list (see
        :func:`clips_from`); or the summary that a batch returned, whose landed results are the clips.
    :param s3_factory: makes the S3 client where one is needed.
    :param pattern: for a prefix, see :func:`clips_below`.
    :param recursive: for a prefix.
    :param output: the output prefix, whose objects are no clips.
    :raises InvalidRequestError: for a source that is none of these, or that names something wrong.
    :raises StorageConfigurationError: when S3 refuses, or there is no such bucket.
    """
    if isinstance(source, Mapping):
        manifest = source.get("manifest")
        if not isinstance(manifest, str):
            raise _no_source(source)
        return read_manifest(manifest, s3_factory)
    if not isinstance(source, str):
        return clips_from(source)
    if (problem := source_problem(source)) is not None:
        raise InvalidRequestError.of("source", problem)
    text = source.strip()
    if is_manifest(text):
        return read_manifest(text, s3_factory)
    if text.lower().startswith("s3://"):
        return clips_below(s3_factory(), S3Uri.parse(text), pattern=pattern, recursive=recursive, exclude=output)
    if text.startswith(("[", "{")):
        raise InvalidRequestError.of(
            "source",
            "is text, because a template rendered a list; pass the other task's .output, or let the Dag render native "
            f"objects (render_template_as_native_obj=True); got {hide_queries(text)[:60]!r}",
        )
    raise _no_source(source)


def clips_below(
    s3: S3Client,
    prefix: S3Uri,
    *,
    pattern: str | Sequence[str] | None = None,
    recursive: bool = True,
    exclude: S3Uri | None = None,
) -> Clips:
    """The videos below a prefix, in the order of their keys.

    "Folders", empty objects, hidden files (names that begin with a dot), and what this package writes for itself
    (below ``_modelslab``, sidecars) are passed over and counted. So are objects named ``inputs/<64 hex digits>.mp4``
    as staged local files are, unless the prefix names that folder itself.

    :param prefix: taken as a folder: ``s3://in/day`` means ``s3://in/day/``, never ``s3://in/day-2/``. All other
        slashes are part of the keys: ``s3://in//day/`` is another folder.
    :param pattern: globs on the key below the prefix (see :func:`key_filter`); all video suffixes by default.
    :param recursive: off, only what lies in the prefix itself.
    :param exclude: the output prefix; what lies below it is a result, and no clip.
    :raises ValueError: for a pattern that can match nothing.
    :raises StorageConfigurationError: when S3 refuses, or there is no such bucket.
    """
    place = prefix.folder()
    wanted = key_filter(pattern)
    results = _excluded(place, exclude)
    ignored: Counter[str] = Counter()
    clips: list[Clip] = []
    others: list[str] = []
    start, head = len(place.key), f"s3://{place.bucket}/"
    for page in list_pages(s3, place, recursive=recursive):
        for key, etag, size in page:
            below = key[start:]
            if (why := _not_a_clip(key, below, size)) is not None:
                ignored[why] += 1
            elif results is not None and key.startswith(results):
                ignored["below the output prefix"] += 1
            elif not wanted(below):
                ignored[NOT_MATCHING] += 1
                if len(others) < _NAMED:
                    others.append(below)
            else:
                clips.append(Clip(head + key, folder_in(below), etag, size))
    return Clips(
        tuple(clips),
        str(place),
        prefix=place,
        ignored=dict(ignored),
        not_matching=tuple(others),
        pattern=pattern,
    )


def clips_from(items: Any) -> Clips:
    """The clips that a list names.

    :param items: links, ``s3://`` URIs or local files; mappings with ``init_video`` (or ``uri``, ``source``), perhaps
        ``destination``, ``clip_version``, and attributes for that clip alone; manifests that tasks of this package
        returned.
    :raises InvalidRequestError: with the first 20 items that are none of these.
    """
    if not hasattr(items, "__iter__"):
        raise _no_source(items)
    problems = Problems("The list of clips")
    ignored: Counter[str] = Counter()
    clips: list[Clip] = []
    for number, item in enumerate(items, 1):

        def tell(field: str, text: str, number: int = number) -> None:
            problems.add(f"item {number}", field, text)

        clip = clip_from(item, number, tell, ignored)
        if clip is not None:
            clips.append(clip)
    problems.raise_if_any()
    return Clips(tuple(clips), "", "item", ignored=dict(ignored))


def _not_a_clip(key: str, below: str, size: int) -> str | None:
    if key.endswith("/"):
        return "folders"
    if not size:
        return "empty"
    if is_ours(key):
        return "written by this package"
    if is_staged(below):
        return _STAGED
    return "hidden" if below.startswith(".") or "/." in below else None


def _excluded(place: S3Uri, exclude: S3Uri | None) -> str | None:
    """The keys to leave out; an output prefix around the input would leave out everything, and is judged later."""
    if exclude is None or exclude.bucket != place.bucket:
        return None
    key = exclude.folder().key
    return key if key.startswith(place.key) and key != place.key else None


def _no_source(source: object) -> InvalidRequestError:
    return InvalidRequestError.of("source", f"must be {SOURCES}; got {hide_queries(repr(source))[:80]}")
