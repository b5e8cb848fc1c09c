"""What outlives a run of the demo: its ports, and the objects in S3, which the server forgets when it stops."""

from __future__ import annotations

import fcntl
import hashlib
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.stack.process import free_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["SavedObjects", "exclusive", "kept_ports"]


def kept_ports(file: Path, names: Sequence[str]) -> dict[str, int]:
    """A port for each name: that of the last run where it is free, else another one, which is kept for the next run."""
    known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    ports = {name: known[name] if name in known and _is_free(known[name]) else free_port() for name in names}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(ports))
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def exclusive(folder: Path) -> Iterator[bool]:
    """Whether no other process is in this block for the same folder; the end of the process ends it too."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class SavedObjects:
    """A copy of a bucket in a folder. Only what changed is read again.

    :param folder: belongs to this class alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = folder / "index.json"

    @property
    def exists(self) -> bool:
        """Whether something was saved."""
        return self._index.exists()

    def save(self, s3: S3Client, bucket: str) -> None:
        """Make the copy what the bucket is now."""
        self._folder.mkdir(parents=True, exist_ok=True)
        known = {item["key"]: item for item in self._load()}
        items = []
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for listed in page.get("Contents", []):
                key, state = listed["Key"], f"{listed['ETag']} {listed['LastModified'].isoformat()}"
                if known.get(key, {}).get("state") == state:
                    items.append(known[key])
                    continue
                try:
                    found = s3.get_object(Bucket=bucket, Key=key)
                except s3.exceptions.NoSuchKey:  # deleted since it was listed
                    continue
                self._file(key).write_bytes(found["Body"].read())
                more = {"content_type": found["ContentType"], "metadata": found["Metadata"]}
                items.append({"key": key, "state": state, "at": listed["LastModified"].timestamp(), **more})
        self._write(sorted(items, key=lambda item: float(item["at"])))
        for gone in known.keys() - {item["key"] for item in items}:
            with suppress(FileNotFoundError):
                self._file(gone).unlink()

    def restore(self, s3: S3Client, bucket: str) -> int:
        """Put everything into the bucket, in the order in which it was written; how many objects."""
        items = self._load()
        for item in items:
            s3.put_object(
                Bucket=bucket,
                Key=item["key"],
                Body=self._file(item["key"]).read_bytes(),
                ContentType=item["content_type"],
                Metadata=item["metadata"],
            )
        return len(items)

    def _file(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()

    def _load(self) -> list[dict[str, Any]]:
        return json.loads(self._index.read_text()) if self.exists else []

    def _write(self, items: list[dict[str, Any]]) -> None:
        part = self._index.with_suffix(".part")
        part.write_text(json.dumps(items))
        part.replace(self._index)
