"""What was accepted and would be paid for, and counts of what happened. Kept in the queue's database."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from airflow_provider_modelslab.api.clip_modes import EXTENSIONS
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.queue.store import QueueStore

__all__ = ["Bills", "fingerprint"]

_NOT_THE_JOB = ("webhook", "track_id")


def fingerprint(request: Video2VideoRequest) -> str:
    """What identical requests share: a hash of the attributes in force, without ``webhook`` and ``track_id``.

    Unknown attributes do not count, and neither does the key. A link counts with its query, so a link
    that was signed anew makes another request of it.
    """
    content = request.model_dump(mode="json", exclude={*_NOT_THE_JOB, "extra_parameters"})
    content |= {name: value for name, value in request.extra_parameters.items() if name in EXTENSIONS}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


class Bills:
    """The bills, one for each accepted job, written with it by :meth:`.store.QueueStore.add`.

    Clearing the queue or the end of a job's 24 hours does not take them back. Beside them, tallies: how often something
    of a kind happened to something of a name.
    """

    def __init__(self, store: QueueStore) -> None:
        self._database = store.database

    def jobs(self) -> list[dict[str, Any]]:
        """The bills in the order of acceptance; the status of a job that the queue no longer has is ``gone``."""
        rows = self._database.rows(
            "SELECT b.job_id, b.track_id, b.fingerprint, b.owner, b.accepted_at, b.faults,"
            " coalesce(j.status, 'gone') AS status FROM bills b LEFT JOIN jobs j ON j.id = b.job_id ORDER BY b.job_id"
        )
        return [
            {
                "id": row["job_id"],
                "track_id": row["track_id"],
                "fingerprint": row["fingerprint"],
                "key_hash": row["owner"],
                "accepted_at": row["accepted_at"],
                "status": row["status"],
                "faults": json.loads(row["faults"]),
            }
            for row in rows
        ]

    def tally(self, kind: str, name: str) -> int:
        """Count one more; returns how many there are now."""
        rows = self._database.write(
            "INSERT INTO tallies VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count",
            (kind, name),
        )
        return int(rows[0][0])

    def tallies(self, kind: str) -> dict[str, int]:
        """All counts of a kind."""
        rows = self._database.rows("SELECT name, count FROM tallies WHERE kind = ? ORDER BY name", (kind,))
        return {row["name"]: row["count"] for row in rows}

    def reset(self, *kinds: str) -> None:
        """Forget all bills, and the tallies of some kinds. The jobs stay."""
        with self._database.transaction(durable=True) as connection:
            connection.execute("DELETE FROM bills")
            connection.executemany("DELETE FROM tallies WHERE kind = ?", [(kind,) for kind in kinds])
