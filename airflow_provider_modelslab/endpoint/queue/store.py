"""The durable queue. What was accepted survives ``kill -9`` and a loss of power."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.endpoint.faults.plan import NO_FAULTS, Faults
from airflow_provider_modelslab.endpoint.queue.database import Database, StateInUseError
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob

__all__ = ["MAX_ATTEMPTS", "QueueFullError", "QueueStore", "StateInUseError", "TooManyDetailsError", "Waiting"]

MAX_ATTEMPTS = 3
"""A job during which the process died this often is given up, so that it cannot bring the endpoint down for ever."""

_RECENT = 20
_UNFINISHED = "('queued', 'running', 'stuck')"
_UNFINISHED_OF_OWNER = f"SELECT count(*) FROM jobs WHERE owner = ? AND status IN {_UNFINISHED}"  # noqa: S608
_UNFINISHED_OF_ALL = f"SELECT count(*) FROM jobs WHERE status IN {_UNFINISHED}"  # noqa: S608
_OWNERS_IN_QUEUE = """
WITH RECURSIVE owners(owner) AS (
  SELECT min(owner) FROM jobs WHERE status = 'queued'
  UNION ALL
  SELECT (SELECT min(jobs.owner) FROM jobs WHERE status = 'queued' AND jobs.owner > owners.owner)
  FROM owners WHERE owners.owner IS NOT NULL
)
SELECT owner, (SELECT min(id) FROM jobs WHERE status = 'queued' AND jobs.owner = owners.owner) AS oldest
FROM owners WHERE owner IS NOT NULL
"""  # a seek in the index for each owner, where DISTINCT would read the whole queue
_QUEUE_OF_OWNER = (
    "SELECT id, coalesce(json_extract(body, '$.model_id'), '') AS model_id, attempts, owner FROM jobs"
    " WHERE status = 'queued' AND owner = ? ORDER BY id LIMIT ?"
)


class QueueFullError(Exception):
    """The key has as many unfinished jobs as it may, or all keys together have.

    :param most: that number.
    """

    def __init__(self, most: int) -> None:
        super().__init__(f"there may be at most {most} unfinished jobs")
        self.most = most


class TooManyDetailsError(Exception):
    """The S3 details of no more keys can be kept."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job, as far as it matters for whose turn it is.

    :param attempts: how often the process died during it.
    :param owner: whose job it is.
    """

    id: int
    model_id: str
    attempts: int
    owner: str = ""

    @property
    def last_chance(self) -> bool:
        """Whether it is given up if the process dies once more."""
        return self.attempts >= MAX_ATTEMPTS - 1


class QueueStore:
    """Jobs and S3 details. Every method may be called from any thread and takes milliseconds.

    What was accepted, cleared or told about S3 is on the disk when the call returns. That a job began or ended is safe
    from the end of the process; a loss of power may undo it, and then the job is done again.

    :param state_dir: created when missing; locked for as long as the store is open.
    :raises StateInUseError: when another endpoint has it open.
    """

    def __init__(self, state_dir: Path) -> None:
        self.database = Database(state_dir)

    def close(self) -> None:
        """Close the database and let another endpoint have the directory."""
        self.database.close()

    def owner(self, api_key: str) -> str:
        """What stands for an API key in the database: a keyed hash, from which the key cannot be read back."""
        return hashlib.blake2b(api_key.encode(), key=self.database.salt, digest_size=16).hexdigest()

    def recover(self, now: float, *, keep_stuck: bool = True) -> None:
        """Put jobs that were running when the process died back in the queue; call it before the worker starts.

        :param keep_stuck: leave the jobs that were told never to end as they are; else they are queued as well.
        """
        died = f"the endpoint stopped {MAX_ATTEMPTS} times while working on this job"
        self.database.write(
            "UPDATE jobs SET status = 'failed', message = ?, finished_at = ?"
            " WHERE status = 'running' AND attempts >= ?",
            (died, now, MAX_ATTEMPTS),
        )
        self.database.write("UPDATE jobs SET status = 'queued', started_at = NULL WHERE status = 'running'")
        if not keep_stuck:
            self.database.write("UPDATE jobs SET status = 'queued' WHERE status = 'stuck'")

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
        max_total_queue: int | None = None,
        faults: Faults = NO_FAULTS,
        bill: str | None = None,
    ) -> QueuedJob:
        """Append a job to the queue.

        :param max_queue: how many unfinished jobs the owner may have.
        :param max_total_queue: how many there may be in all.
        :param faults: what is to go wrong with it.
        :param bill: the request's fingerprint, to write the job on the bill in the same transaction.
        :raises QueueFullError: when there are that many.
        """
        status = "stuck" if faults.options("never_ending") is not None else "queued"
        values = (owner, status, _dump(body), base_url, file_prefix, _dump(meta), _dump(future_links), faults.dump())
        with self.database.transaction(durable=True) as connection:
            for most, query, owners in (
                (max_queue, _UNFINISHED_OF_OWNER, (owner,)),
                (max_total_queue, _UNFINISHED_OF_ALL, ()),
            ):
                if most is not None and connection.execute(query, owners).fetchone()[0] >= most:
                    raise QueueFullError(most)
            row = connection.execute(
                "INSERT INTO jobs (owner, status, body, base_url, file_prefix, meta, future_links, faults, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
                (*values, now),
            ).fetchall()[0]
            if bill is not None:
                connection.execute(
                    "INSERT INTO bills (job_id, owner, track_id, fingerprint, faults, accepted_at)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (row["id"], owner, body.get("track_id"), bill, _dump(sorted(faults.chosen)), now),
                )
        return _job(row)

    def waiting(self, most: int, served: Mapping[str, int] | None = None) -> list[Waiting]:
        """Queued jobs in the order of their turns: owners one after the other, each one's oldest job first.

        :param most: how many.
        :param served: when each owner's turn was, as a number that grows. The owner whose turn was longest ago comes
            first; those without a number come before, by their oldest job.
        """
        turns = served or {}
        rows = self.database.rows(_OWNERS_IN_QUEUE)
        owners = [row["owner"] for row in sorted(rows, key=lambda row: (turns.get(row["owner"], -1), row["oldest"]))]
        owners = owners[:most]
        each = -(-most // max(len(owners), 1))
        queues = [[Waiting(**dict(row)) for row in self.database.rows(_QUEUE_OF_OWNER, (key, each))] for key in owners]
        mixed = [job for round_ in zip_longest(*queues) for job in round_ if job is not None]
        return mixed[:most]

    def claim(self, now: float, job_id: int | None = None) -> QueuedJob | None:
        """Take a queued job and mark it running; ``None`` when there is none.

        :param job_id: this one; without it the oldest.
        """
        which = "?" if job_id is not None else "(SELECT id FROM jobs WHERE status = 'queued' ORDER BY id LIMIT 1)"
        query = (
            "UPDATE jobs SET status = 'running', started_at = ?, attempts = attempts + 1"  # noqa: S608  # constants
            f" WHERE id = {which} AND status = 'queued' RETURNING *"
        )
        return self._changed(query, (now,) if job_id is None else (now, job_id))

    def requeue(self, job_id: int) -> None:
        """Put an interrupted job back at its place; the interruption was not its fault and does not count."""
        self.database.write(
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
    ) -> QueuedJob | None:
        """Mark a job done; ``None`` when the queue was cleared meanwhile and nobody waits for the result."""
        return self._changed(
            "UPDATE jobs SET status = 'success', output = ?, files = ?, meta = ?, seconds = ?, finished_at = ?"
            " WHERE id = ? AND status = 'running' RETURNING *",
            (_dump(output), _dump(files), _dump(meta), seconds, now, job_id),
        )

    def fail(self, job_id: int, *, message: str, now: float) -> QueuedJob | None:
        """Mark a job failed; ``None`` when the queue was cleared meanwhile."""
        return self._changed(
            "UPDATE jobs SET status = 'failed', message = ?, finished_at = ?"
            " WHERE id = ? AND status = 'running' RETURNING *",
            (message, now, job_id),
        )

    def get(self, job_id: int) -> QueuedJob | None:
        """The job of an id."""
        return self._found("SELECT * FROM jobs WHERE id = ?", (job_id,))

    def by_prefix(self, file_prefix: str) -> QueuedJob | None:
        """The job whose result has this name."""
        return self._found("SELECT * FROM jobs WHERE file_prefix = ?", (file_prefix,))

    def clear(self, owner: str | None = None) -> list[int]:
        """Forget every unfinished job, the running ones too; returns their ids.

        :param owner: those of one owner only.
        """
        query = f"DELETE FROM jobs WHERE status IN {_UNFINISHED} AND (? IS NULL OR owner = ?) RETURNING id"  # noqa: S608
        return [row["id"] for row in self.database.write(query, (owner, owner), durable=True)]

    def expire(self, finished_before: float) -> list[QueuedJob]:
        """Forget the jobs that finished at or before a time; returns them, so that their files can go too."""
        rows = self.database.write(
            "DELETE FROM jobs WHERE status IN ('success', 'failed') AND finished_at <= ? RETURNING *",
            (finished_before,),
        )
        return [_job(row) for row in rows]

    def unfinished(self, owner: str) -> int:
        """How many unfinished jobs an owner has."""
        return int(self.database.rows(_UNFINISHED_OF_OWNER, (owner,))[0][0])

    def ahead_of(self, job_id: int | None = None) -> int:
        """How many jobs that take time come before a job, the running one included; without an id: before a new one."""
        rows = self.database.rows(
            "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running') AND (? IS NULL OR id < ?)",
            (job_id, job_id),
        )
        return int(rows[0][0])

    def typical_seconds(self) -> float | None:
        """The median work time of the last 20 finished jobs in seconds; ``None`` before the first one."""
        rows = self.database.rows(
            "SELECT seconds FROM jobs WHERE status = 'success' ORDER BY finished_at DESC LIMIT ?", (_RECENT,)
        )
        return statistics.median(row[0] for row in rows) if rows else None

    def set_s3(self, owner: str, deploy_type: str, details: Mapping[str, str], *, most: int | None = None) -> None:
        """Remember S3 details, which hold credentials, for an owner's jobs of a deploy type.

        :param most: how many details may be kept in all.
        :raises TooManyDetailsError: when there are that many, and these would be one more.
        """
        with self.database.transaction(durable=True) as connection:
            others = "SELECT count(*) FROM s3_details WHERE NOT (owner = ? AND deploy_type = ?)"
            if most is not None and connection.execute(others, (owner, deploy_type)).fetchone()[0] >= most:
                raise TooManyDetailsError
            query = "INSERT OR REPLACE INTO s3_details VALUES (?, ?, ?)"
            connection.execute(query, (owner, deploy_type, _dump(details)))

    def s3(self, owner: str, deploy_type: str) -> dict[str, str] | None:
        """The S3 details of :meth:`set_s3`."""
        query = "SELECT details FROM s3_details WHERE owner = ? AND deploy_type = ?"
        rows = self.database.rows(query, (owner, deploy_type))
        return dict(json.loads(rows[0][0])) if rows else None

    def reset_s3(self, owner: str, deploy_type: str) -> None:
        """Forget the S3 details of :meth:`set_s3`."""
        query = "DELETE FROM s3_details WHERE owner = ? AND deploy_type = ?"
        self.database.write(query, (owner, deploy_type), durable=True)

    def _changed(self, query: str, values: Sequence[Any]) -> QueuedJob | None:
        rows = self.database.write(query, values)
        return _job(rows[0]) if rows else None

    def _found(self, query: str, values: Sequence[Any]) -> QueuedJob | None:
        rows = self.database.rows(query, values)
        return _job(rows[0]) if rows else None


def _count(connection: sqlite3.Connection, query: str, *values: object) -> int:
    return int(connection.execute(query, values).fetchone()[0])


def _dump(value: object) -> str:
    return json.dumps(value)


_DECODE: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("body", "meta"), json.loads),
    **dict.fromkeys(("future_links", "output", "files"), lambda text: tuple(json.loads(text))),
    "faults": Faults.load,
}


def _job(row: sqlite3.Row) -> QueuedJob:
    return QueuedJob(
        **{
            name: _DECODE[name](value) if name in _DECODE else value
            for name, value in zip(row.keys(), row, strict=True)
        }
    )
