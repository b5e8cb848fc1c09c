"""SQLite in WAL mode under the state directory: one connection that writes, one that reads."""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Database", "StateInUseError"]

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
CREATE INDEX IF NOT EXISTS jobs_by_turn ON jobs (status, owner, id);
CREATE INDEX IF NOT EXISTS jobs_by_end ON jobs (status, finished_at);
CREATE TABLE IF NOT EXISTS s3_details (
  owner TEXT NOT NULL,
  deploy_type TEXT NOT NULL,
  details TEXT NOT NULL,
  PRIMARY KEY (owner, deploy_type)
);
CREATE TABLE IF NOT EXISTS bills (
  job_id INTEGER PRIMARY KEY,
  owner TEXT NOT NULL,
  track_id TEXT,
  fingerprint TEXT NOT NULL,
  faults TEXT NOT NULL,
  accepted_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS tallies (kind TEXT, name TEXT, count INTEGER NOT NULL, PRIMARY KEY (kind, name));
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""

_ADDED = {"faults": "TEXT NOT NULL DEFAULT '{}'"}
"""Columns of ``jobs`` that databases of earlier versions lack."""


class StateInUseError(RuntimeError):
    """Another endpoint works in the same state directory."""


class Database:
    """The tables. Every method may be called from any thread and takes milliseconds.

    It holds S3 keys and signed links, so only its owner may read it (mode 0600).

    A write is *durable* when it is on the disk before the call returns. Any other write survives the end of the
    process as well, ``kill -9`` included, and a loss of power may take back the last of them, in their order.

    :param state_dir: created when missing; locked for as long as the database is open.
    :raises StateInUseError: when another endpoint has it open.
    """

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._guard = _lock_directory(state_dir)
        self._path = state_dir / "endpoint.db"
        # SQLite gives the -wal and -shm files the mode of the database, so it has to be right before the first write.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        self._path.chmod(0o600)
        self._writing = threading.Lock()
        self._writer = self._connect()
        self._writer.execute("PRAGMA journal_mode=WAL")
        self._durable: bool | None = None
        self._prepare()
        # Readers need not wait for a writer's disk.
        self._reading = threading.Lock()
        self._reader = self._connect()
        self.salt: bytes = self.rows("SELECT value FROM facts WHERE name = 'salt'")[0][0]

    def close(self) -> None:
        """Close the database and let another endpoint have the directory."""
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()
            self._guard.close()

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """What a query finds."""
        with self._reading:
            return self._reader.execute(query, values).fetchall()

    def write(self, query: str, values: Sequence[Any] = (), *, durable: bool = False) -> list[sqlite3.Row]:
        """Run one statement as a transaction; returns what its ``RETURNING`` clause names."""
        with self._writing:
            self._set_durable(durable)
            return self._writer.execute(query, values).fetchall()  # to its end: with RETURNING it commits only then

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Several statements that happen all or not at all, alone."""
        with self._writing:
            self._set_durable(durable)
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def _set_durable(self, durable: bool) -> None:
        if durable is not self._durable:
            # In WAL mode FULL syncs the log at each commit, and with it whatever was written before.
            self._writer.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        return connection

    def _prepare(self) -> None:
        self._set_durable(True)
        self._writer.executescript(_SCHEMA)
        present = {row["name"] for row in self._writer.execute("PRAGMA table_info(jobs)")}
        for name, declaration in _ADDED.items():
            if name not in present:
                self._writer.execute(f"ALTER TABLE jobs ADD COLUMN {name} {declaration}")
        self._writer.execute("INSERT OR IGNORE INTO facts VALUES ('salt', ?)", (secrets.token_bytes(32),))


def _lock_directory(state_dir: Path) -> BinaryIO:
    guard = os.fdopen(os.open(state_dir / "lock", os.O_CREAT | os.O_RDWR, 0o600), "wb")
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        guard.close()
        raise StateInUseError(
            f"Another endpoint is using {state_dir}; stop it, or give this endpoint another state directory"
        ) from None
    return guard
