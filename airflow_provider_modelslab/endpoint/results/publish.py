"""Publishing a finished clip: on the endpoint's own storage, or in the bucket that ``update_s3`` named.

``base64: true`` is documented for the vendor's images, not for videos. Here it publishes a text file with the clip's
base64, ``<file_prefix>.base64``, which is what the vendor does with images.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.queue.store import QueueStore
from airflow_provider_modelslab.endpoint.results.s3_details import S3Attributes, S3Details
from airflow_provider_modelslab.endpoint.results.s3_upload import upload

__all__ = ["FOLDERS", "MEDIA_TYPES", "Published", "Publisher", "file_name", "file_suffix"]

MEDIA_TYPES = {"mp4": "video/mp4", "gif": "image/gif", "base64": "text/plain"}
"""The content type of each kind of file."""

FOLDERS = ("generations", "temp")
"""The folders of the endpoint's own storage, and the first part of its links."""

_DEPLOY_TYPE = "video"


@dataclass(frozen=True, slots=True)
class Published:
    """Where a result is.

    :param links: its links in a bucket.
    :param files: on the endpoint's own storage, relative to the state directory.
    """

    links: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def file_suffix(body: Mapping[str, Any]) -> str:
    """``mp4``, ``gif`` or ``base64``: what the request's result is a file of."""
    return "base64" if body.get("base64") else str(body["output_type"])


def file_name(file_prefix: str, body: Mapping[str, Any]) -> str:
    """The name of a request's result."""
    return f"{file_prefix}.{file_suffix(body)}"


class Publisher:
    """Puts results where their owner wants them.

    :param store: knows the S3 details.
    :param state_dir: results on the endpoint's own storage go to ``generations/`` and ``temp/`` below it.
    :param allow_private_addresses: store to hosts that are not of the public internet, too.
    """

    def __init__(self, store: QueueStore, state_dir: Path, *, allow_private_addresses: bool = False) -> None:
        self._store = store
        self._allow_private_addresses = allow_private_addresses
        self._root = state_dir
        for folder in FOLDERS:
            (state_dir / folder).mkdir(parents=True, exist_ok=True)

    def future_links(self, owner: str, body: Mapping[str, Any], file_prefix: str, base_url: str) -> tuple[str, ...]:
        """Where a result is going to be, if the S3 details stay as they are."""
        name, details = file_name(file_prefix, body), self._details(owner, body)
        return (details.link(name) if details else f"{base_url}/{_folder(body)}/{name}",)

    def publish(self, job: QueuedJob, clip: Path) -> Published:
        """Move the clip to its place, whole or not at all.

        :raises LandingError: when the bucket refuses it, or is on a host that is not to be reached.
        """
        name = file_name(job.file_prefix, job.body)
        if job.body.get("base64"):
            text = clip.with_name(name)
            text.write_bytes(base64.b64encode(clip.read_bytes()))
            clip.unlink()
            clip = text
        details = self._details(job.owner, job.body)
        if details:
            media_type = MEDIA_TYPES[file_suffix(job.body)]
            upload(details, name, clip, media_type, allow_private_addresses=self._allow_private_addresses)
            clip.unlink()
            return Published(links=(details.link(name),))
        place = f"{_folder(job.body)}/{name}"
        clip.replace(self._root / place)
        return Published(files=(place,))

    def is_remote(self, job: QueuedJob) -> bool:
        """Whether :meth:`publish` has to wait for a host that a caller named."""
        return not job.body.get("temp") and self._store.s3(job.owner, _DEPLOY_TYPE) is not None

    def path(self, place: str) -> Path:
        """The file behind one of :attr:`Published.files`."""
        return self._root / place

    def remove(self, files: tuple[str, ...]) -> None:
        """Delete files of the endpoint's own storage."""
        for place in files:
            with contextlib.suppress(FileNotFoundError):
                (self._root / place).unlink()

    def _details(self, owner: str, body: Mapping[str, Any]) -> S3Details | None:
        if body.get("temp"):
            return None
        stored = self._store.s3(owner, _DEPLOY_TYPE)
        return S3Details.of(S3Attributes(**stored)) if stored else None


def _folder(body: Mapping[str, Any]) -> str:
    return "temp" if body.get("temp") else "generations"
