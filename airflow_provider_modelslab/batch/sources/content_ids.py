"""What names the content of each clip: the same text that the operator of one clip finds, with far fewer requests."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NoReturn

from airflow_provider_modelslab.api.errors import STORAGE_ERRORS
from airflow_provider_modelslab.api.links import is_http_link
from airflow_provider_modelslab.batch.sources.clips import Clip, safe_source
from airflow_provider_modelslab.storage.inputs import S3Factory, identify_input
from airflow_provider_modelslab.storage.s3_objects import list_pages, listing_budget
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["identify", "link_identity"]

log = logging.getLogger(__name__)

_WORTH_LISTING = 20  # clips of one folder, from which its listing is cheaper than a HEAD for each


def identify(clips: Sequence[Clip], s3_factory: S3Factory, workers: int) -> list[str | None]:
    """For each clip what :func:`identify_input` would say; ``None`` when it is gone.

    Clips from a listing need no look, nor do links. Of other objects, those that share a folder with many are found by
    its listing, and the rest take a HEAD each; local files are read for their digest.

    :param workers: how many HEADs at a time.
    :raises StorageConfigurationError: when S3 refuses to tell about a clip.
    """
    found: list[str | None] = [None] * len(clips)
    objects: list[int] = []
    for position, clip in enumerate(clips):
        if clip.version is not None:
            found[position] = identify_input(clip.source, s3_factory, version=clip.version)
        elif clip.etag is not None:
            found[position] = _object_identity(clip.source, clip.etag)
        elif clip.source.startswith("s3://"):
            objects.append(position)
        else:
            found[position] = identify_input(clip.source, s3_factory)
    if not objects:
        return found
    s3 = s3_factory()  # made once, before the threads
    listed = _from_listings(s3, (clips[position].source for position in objects))
    unseen = [position for position in objects if clips[position].source not in listed]
    with ThreadPoolExecutor(workers, thread_name_prefix="modelslab-identify") as pool:
        looked = pool.map(lambda position: identify_input(clips[position].source, lambda: s3), unseen)
        for position in objects:
            found[position] = listed.get(clips[position].source)
        for position, identity in zip(unseen, looked, strict=True):
            found[position] = identity
    return found


def link_identity(source: str, version: str | None = None) -> str:
    """A link without its signature, or without its query where the clip has a version; any other source as it is."""
    if version is not None:
        return f"{safe_source(source)}\0{version}"
    if is_http_link(source):
        return identify_input(source, _no_s3) or source
    return source


def _object_identity(source: str, etag: str) -> str:
    return f'{source}#"{etag}"'  # a HEAD's ETag has quotes


def _from_listings(s3: S3Client, sources: Iterable[str]) -> Mapping[str, str]:
    """The identities of objects in folders with many of them, as far as listings tell."""
    folders: dict[str, list[str]] = defaultdict(list)
    for source in sources:
        folders[source.rpartition("/")[0]].append(source)
    found: dict[str, str] = {}
    for folder, members in folders.items():
        if len(members) >= _WORTH_LISTING:
            found.update(_listed(s3, S3Uri.parse(f"{folder}/"), set(members)))
    return found


def _listed(s3: S3Client, folder: S3Uri, wanted: set[str]) -> dict[str, str]:
    head, last = f"s3://{folder.bucket}/", max(wanted)
    found: dict[str, str] = {}
    left = listing_budget(len(wanted))
    # Keys are in order, so the listing begins right before the first that is wanted.
    before = min(wanted)[len(head) : -1]
    try:
        for page in list_pages(s3, folder, recursive=False, start_after=before):
            for item in page:
                source = head + item.key
                if source in wanted:
                    found[source] = _object_identity(source, item.etag)
            left -= len(page)
            if left <= 0 or (page and head + page[-1].key >= last):
                break
    except STORAGE_ERRORS as error:
        log.info("%s cannot be listed, so there is one S3 call for each of its clips: %s", folder, error)
    return found


def _no_s3() -> NoReturn:
    raise AssertionError("a link needs no S3")
