"""The durable queue: SQLite in WAL mode under the state directory. What was accepted survives ``kill -9``."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import sqlite3
import statistics
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from airflow_provider_modelslab.endpoint.job import Job

__all__ = ["MAX_ATTEMPTS", "QueueFullError", "StateInUseError", "Store"]

MAX_ATTEMPTS = 3
"""A job during which the process died this often is given up, so that it cannot bring the endpoint down for ever."""

_RECENT = 20
_JSON = ("body", "meta", "future_links", "output", "files")
_TUPLES = ("future_links", "output", "files")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,  -- AUTOINCREMENT: the id of a removed job is never given out again
  owner TEXT NOT NULL,
  status TEXT NOT NULL,
  body TEXT NOT NULL,
  base_url TEXT NOT NULL,
  file_prefix TEXT NOT NULL UNIQUE,
  meta TEXT NOT NULL,
  future_links TEXT NOT NULL,
  output TEXT NOT NULL DEFAULT '[]',
  files TEXT NOT NULL DEFAULT '[]',
  seconds REAL,
  message TEXT NOT NULL DEFAULT '',
  attempts INTEGER NOT NULL DEFAULT 0,
  created_at REAL NOT NULL,
  started_at REAL,
  finished_at REAL
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, id);
CREATE TABLE IF NOT EXISTS s3_details (
  owner TEXT NOT NULL,
  deploy_type TEXT NOT NULL,
  details TEXT NOT NULL,
  PRIMARY KEY (owner, deploy_type)
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""


class QueueFullError(Exception):
    """The key has as many unfinished jobs as it may."""


class StateInUseError(RuntimeError):
    """Another endpoint works in the same state directory."""


class Store:
    """Jobs and S3 details. Every method may be called from any thread and takes milliseconds.

    The database holds S3 keys and signed links, so only its owner may read it (mode 0600).

    :param state_dir: created when missing; locked for as long as the store is open.
    :raises StateInUseError: when another endpoint has it open.
    """

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._guard = _lock_directory(state_dir)
        path = state_dir / "endpoint.db"
        # SQLite gives the -wal and -shm files the mode of the database, so it has to be right before the first write.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        self._db.execute("INSERT OR IGNORE INTO facts VALUES ('salt', ?)", (secrets.token_bytes(32),))
        self._salt: bytes = self._db.execute("SELECT value FROM facts WHERE name = 'salt'").fetchone()[0]

    def close(self) -> None:
        """Close the database and let another endpoint have the directory."""
        with self._lock:
            self._db.close()
            self._guard.close()

    def owner(self, api_key: str) -> str:
        """What stands for an API key in the database: a keyed hash, from which the key cannot be read back."""
        return hashlib.blake2b(api_key.encode(), key=self._salt, digest_size=16).hexdigest()

    def recover(self, now: float) -> None:
        """Put jobs that were running when the process died back in the queue; call it before the worker starts."""
        died = f"the endpoint stopped {MAX_ATTEMPTS} times while working on this job"
        self._write(
            "UPDATE jobs SET status = 'failed', message = ?, finished_at = ?"
            " WHERE status = 'running' AND attempts >= ?",
            (died, now, MAX_ATTEMPTS),
        )
        self._write("UPDATE jobs SET status = 'queued', started_at = NULL WHERE status = 'running'")

    def add(
        self,
        *,
        owner: str,
        body: Mapping[str, Any],
        base_url: str,
        file_prefix: str,
        meta: Mapping[str, Any],
        future_links: Sequence[str],
        now: float,
        max_queue: int | None = None,
    ) -> Job:
        """Append a job to the queue.

        :param max_queue: how many unfinished jobs the owner may have.
        :raises QueueFullError: when the owner has that many.
        """
        values = (owner, _dump(body), base_url, file_prefix, _dump(meta), _dump(future_links), now)
        with self._lock:
            if max_queue is not None and self._unfinished(owner) >= max_queue:
                raise QueueFullError(f"{max_queue} unfinished jobs are the most that this key may have")
            rows = self._db.execute(
                "INSERT INTO jobs (owner, status, body, base_url, file_prefix, meta, future_links, created_at)"
                " VALUES (?, 'queued', ?, ?, ?, ?, ?, ?) RETURNING *",
                values,
            ).fetchall()  # to its end: a statement with RETURNING commits only then
        return _job(rows[0])

    def claim(self, now: float) -> Job | None:
        """Take the oldest queued job and mark it running; ``None`` when there is none."""
        row = self._read(
            "UPDATE jobs SET status = 'running', started_at = ?, attempts = attempts + 1 WHERE id ="
            " (SELECT id FROM jobs WHERE status = 'queued' ORDER BY id LIMIT 1) RETURNING *",
            (now,),
        )
        return _job(row) if row else None

    def requeue(self, job_id: int) -> None:
        """Put an interrupted job back at its place; the interruption was not its fault and does not count."""
        self._write(
            "UPDATE jobs SET status = 'queued', started_at = NULL, attempts = attempts - 1"
            " WHERE id = ? AND status = 'running'",
            (job_id,),
        )

    def succeed(
        self,
        job_id: int,
        *,
        output: Sequence[str],
        files: Sequence[str],
        meta: Mapping[str, Any],
        seconds: float,
        now: float,
    ) -> Job | None:
        """Mark a job done; ``None`` when the queue was cleared meanwhile and nobody waits for the result."""
        row = self._read(
            "UPDATE jobs SET status = 'success', output = ?, files = ?, meta = ?, seconds = ?, finished_at = ?"
            " WHERE id = ? AND status = 'running' RETURNING *",
            (_dump(output), _dump(files), _dump(meta), seconds, now, job_id),
        )
        return _job(row) if row else None

    def fail(self, job_id: int, *, message: str, now: float) -> Job | None:
        """Mark a job failed; ``None`` when the queue was cleared meanwhile."""
        row = self._read(
            "UPDATE jobs SET status = 'failed', message = ?, finished_at = ?"
            " WHERE id = ? AND status = 'running' RETURNING *",
            (message, now, job_id),
        )
        return _job(row) if row else None

    def get(self, job_id: int) -> Job | None:
        """The job of an id."""
        row = self._read("SELECT * FROM jobs WHERE id = ?", (job_id,))
        return _job(row) if row else None

    def by_prefix(self, file_prefix: str) -> Job | None:
        """The job whose result has this name."""
        row = self._read("SELECT * FROM jobs WHERE file_prefix = ?", (file_prefix,))
        return _job(row) if row else None

    def clear(self) -> int:
        """Forget every unfinished job, the running one too; returns how many."""
        return self._write("DELETE FROM jobs WHERE status IN ('queued', 'running')")

    def expire(self, finished_before: float) -> list[Job]:
        """Forget the jobs that finished at or before a time; returns them, so that their files can go too."""
        with self._lock:
            rows = self._db.execute(
                "DELETE FROM jobs WHERE finished_at <= ? RETURNING *", (finished_before,)
            ).fetchall()
        return [_job(row) for row in rows]

    def ahead_of(self, job_id: int | None = None) -> int:
        """How many unfinished jobs come before a job, the running one included; without an id: before a new one."""
        row = self._read(
            "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running') AND (? IS NULL OR id < ?)",
            (job_id, job_id),
        )
        return int(row[0]) if row else 0

    def typical_seconds(self) -> float | None:
        """The median work time of the last 20 finished jobs in seconds; ``None`` before the first one."""
        with self._lock:
            rows = self._db.execute(
                "SELECT seconds FROM jobs WHERE status = 'success' ORDER BY finished_at DESC LIMIT ?", (_RECENT,)
            ).fetchall()
        return statistics.median(row[0] for row in rows) if rows else None

    def set_s3(self, owner: str, deploy_type: str, details: Mapping[str, str]) -> None:
        """Remember S3 details, which hold credentials, for an owner's jobs of a deploy type."""
        self._write("INSERT OR REPLACE INTO s3_details VALUES (?, ?, ?)", (owner, deploy_type, _dump(details)))

    def s3(self, owner: str, deploy_type: str) -> dict[str, str] | None:
        """The S3 details of :meth:`set_s3`."""
        row = self._read("SELECT details FROM s3_details WHERE owner = ? AND deploy_type = ?", (owner, deploy_type))
        return dict(json.loads(row[0])) if row else None

    def reset_s3(self, owner: str, deploy_type: str) -> None:
        """Forget the S3 details of :meth:`set_s3`."""
        self._write("DELETE FROM s3_details WHERE owner = ? AND deploy_type = ?", (owner, deploy_type))

    def _unfinished(self, owner: str) -> int:
        query = "SELECT count(*) FROM jobs WHERE owner = ? AND status IN ('queued', 'running')"
        return int(self._db.execute(query, (owner,)).fetchone()[0])

    def _read(self, query: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        with self._lock:
            rows: list[sqlite3.Row] = self._db.execute(query, values).fetchall()  # all: see add()
        return rows[0] if rows else None

    def _write(self, query: str, values: Sequence[Any] = ()) -> int:
        with self._lock:
            return self._db.execute(query, values).rowcount


def _lock_directory(state_dir: Path) -> BinaryIO:
    guard = os.fdopen(os.open(state_dir / "lock", os.O_CREAT | os.O_RDWR, 0o600), "wb")
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        guard.close()
        raise StateInUseError(
            f"Another endpoint is using {state_dir}; stop it, or give this one a state directory of its own"
        ) from None
    return guard


def _dump(value: object) -> str:
    return json.dumps(value)


_DECODE: dict[str, Callable[[Any], Any]] = {
    name: (lambda text: tuple(json.loads(text))) if name in _TUPLES else json.loads for name in _JSON
}


def _job(row: sqlite3.Row) -> Job:
    return Job(
        **{
            name: _DECODE[name](value) if name in _DECODE else value
            for name, value in zip(row.keys(), row, strict=True)
        }
    )
