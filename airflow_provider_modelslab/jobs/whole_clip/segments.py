"""The stored plan of a whole clip's segments: where each segment is put for the endpoint, and where its result lands.

Results of segments are kept below the result of the clip, ``<destination>.segments/<digest>/0001/000.mp4`` and so on.
The digest says which clip, which request and which frames; how segments are joined, and the sound, are no part of it.
The number counts how often the clip was made: where an earlier one may not be reused, the segments are made once more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_modelslab.api.errors import StorageUnavailableError
from airflow_provider_modelslab.ledger.model import Fingerprint
from airflow_provider_modelslab.local.media.whole_clip.plan import SegmentPlan, plan_segments
from airflow_provider_modelslab.storage.sidecar import sidecar_uri
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.ledger.attempt import AttemptId
    from airflow_provider_modelslab.ledger.listing import LedgerRoot
    from airflow_provider_modelslab.ledger.model import LedgerPolicy
    from airflow_provider_modelslab.local.media.whole_clip.plan import Segment

__all__ = ["SegmentFolder", "SegmentSet", "SoundRecord"]

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class SoundRecord:
    """The sound of a clip.

    :param uri: of the mp4 with it; ``None`` where there is none.
    :param codec: ``aac``, ``mp3``, ``alac`` or ``opus``.
    :param copied: whether it was not encoded anew.
    :param problem: why the clip's sound is not there, although it has some.
    """

    uri: str | None = None
    codec: str | None = None
    copied: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class SegmentSet:
    """The segments of one clip, made once.

    :param folder: for the results.
    :param number: how often the clip was made, this one included.
    :param plan: which frames each segment has.
    :param seed: of all jobs.
    :param inputs: the segments as the endpoint reads them.
    """

    folder: S3Uri
    number: int
    plan: SegmentPlan
    overlap: int
    seed: int
    inputs: Sequence[str]
    sound: SoundRecord

    def destination(self, segment: Segment) -> S3Uri:
        """Where the result of a segment lands."""
        return self.folder.child(f"{self.number:04d}/{segment.index:03d}.mp4")

    def request(self, segment: Segment, base: Video2VideoRequest) -> Video2VideoRequest:
        """The request of a segment.

        :param base: of the clip.
        """
        update = {
            "init_video": self.inputs[segment.index],
            "num_frames": segment.frames,
            "fps": segment.fps,
            "seed": self.seed,
            "output_type": "mp4",
        }
        return base.model_copy(update=update)

    def fingerprint(self, segment: Segment, base: Video2VideoRequest, conn_id: str) -> Fingerprint:
        """What identifies the job of a segment: not the bytes of its file, which may be encoded anew elsewhere."""
        source = f"{self.folder.key.rpartition('/')[2]}/{self.number}#{segment.first}+{segment.frames}"
        return Fingerprint.of(self.request(segment, base), conn_id=conn_id, source=source)

    def record(self) -> dict[str, Any]:
        """Plain JSON, see :meth:`of`."""
        return {
            "version": _FORMAT,
            "total": self.plan.total,
            "fps": self.plan.fps,
            "frames": self.plan.segments[0].frames,
            "overlap": self.overlap,
            "seed": self.seed,
            "inputs": list(self.inputs),
            "sound": asdict(self.sound),
        }

    @classmethod
    def of(cls, folder: S3Uri, number: int, record: Mapping[str, Any]) -> Self:
        """The set that was recorded."""
        overlap = int(record["overlap"])
        plan = plan_segments(record["total"], record["fps"], max(record["frames"], overlap + 1), overlap)
        sound = SoundRecord(**record["sound"])
        return cls(folder, number, plan, overlap, int(record["seed"]), tuple(record["inputs"]), sound)


class SegmentFolder:
    """Where the sets of segments of one clip and request are recorded. Each is written once, and never changed.

    :param destination: of the clip's result.
    :param fingerprint: of the clip's request as it is given.
    :param frames: of a segment at most.
    :raises StorageConfigurationError: when a key would be too long.
    """

    def __init__(
        self, ledgers: LedgerRoot, destination: S3Uri, fingerprint: Fingerprint, *, frames: int, overlap: int
    ) -> None:
        identity = [_FORMAT, fingerprint.version, fingerprint.request, fingerprint.source, frames, overlap]
        text = json.dumps(identity, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.uri = S3Uri(destination.bucket, f"{destination.key}.segments/{digest[:16]}")
        sidecar_uri(self.uri.child("0001/000.mp4"))
        self._identity = Fingerprint(digest, fingerprint.source)
        self._plans = ledgers.store(self.uri.child("plans"))
        self._ledger = ledgers.open(self.uri.child("complete"))

    def find(self, policy: LedgerPolicy, attempt: AttemptId) -> SegmentSet | int:
        """The set to go on with; the number of a new one, where there is none that may be used.

        One that is not complete is gone on with whoever began it, as a job is that runs.
        """
        entries = self._plans.load()
        last = max((int(name[:4]) for name in entries if name.endswith("-plan")), default=0)
        if f"{last:04d}-complete" in entries:
            found = self._ledger.find_stored(self._identity, policy, attempt)
            if found is None:
                return last + 1
            last = int(found.manifest["number"])
        return SegmentSet.of(self.uri, last, entries[f"{last:04d}-plan"]) if last else 1

    def add(self, made: SegmentSet) -> SegmentSet:
        """Record a new set before anything is submitted; the one that another process was quicker to record."""
        name = f"{made.number:04d}-plan"
        if self._plans.create(name, made.record()):
            return made
        found = self._plans.load_one(name)
        if found is None:
            raise StorageUnavailableError(f"The plan of the segments below {self.uri} cannot be read. Try again")
        return SegmentSet.of(self.uri, made.number, found)

    def complete(self, made: SegmentSet, attempt: AttemptId) -> None:
        """Record that the results of all segments are in S3."""
        name = f"{made.number:04d}-complete"
        if self._plans.load_one(name) is None:
            plan = self.uri.child(f"plans/{made.number:04d}-plan.json")
            manifest = {"uri": str(plan), "job_id": f"segments-{made.number}", "number": made.number}
            self._ledger.record_stored(self._identity, attempt, manifest)
            self._plans.create(name, {"version": _FORMAT})
