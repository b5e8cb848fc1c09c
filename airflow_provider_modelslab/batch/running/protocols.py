"""What a running batch needs of others: the paid job of a clip, who polls it, and where its outcome is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.ledger.chain import RunHere
from airflow_provider_modelslab.ledger.model import Stored, Submission

__all__ = ["ClipJobs", "InFlight", "OutcomeSink", "Waiter"]

Clip = TypeVar("Clip")
ClipIn = TypeVar("ClipIn", contravariant=True)


@dataclass(frozen=True, slots=True)
class InFlight(Generic[Clip]):
    """A clip whose job runs."""

    clip: Clip
    submission: Submission


class ClipJobs(Protocol[ClipIn]):
    """The paid jobs of clips. Each method is called in a thread and may block.

    No two clips that have not ended may have one job.
    """

    def acquire(self, clip: ClipIn) -> Stored | Submission | RunHere:
        """What is stored or paid for already, else one submit, or that the clip is to be made on this machine."""

    def run_here(self, clip: ClipIn, found: RunHere) -> dict[str, Any]:
        """Make a clip on this machine, land it, record it and return the manifest. Called for one clip at a time."""

    def stop(self) -> None:
        """Have :meth:`run_here` end as soon as it can."""

    def land(self, clip: ClipIn, submission: Submission, finished: Finished) -> dict[str, Any]:
        """Copy the result to S3, record it in the ledger and return the manifest."""

    def close(self, clip: ClipIn, submission: Submission, error: ModelsLabError) -> bool:
        """Record that a job came to nothing; whether another may be paid for now, here or at another place."""


class Waiter(Protocol):
    """Polls running jobs."""

    def add(self, submission: Submission) -> None:
        """Poll this one too."""

    async def next(self) -> tuple[tuple[str, str], Finished | ModelsLabError]:
        """The next job that ended, by its :attr:`~..storage.result_manifest.Job.key`."""


class OutcomeSink(Protocol[ClipIn]):
    """Records the outcomes. Called in the loop's thread: while it waits for S3, no job is polled, so it must not."""

    def landed(self, clip: ClipIn, manifest: dict[str, Any]) -> None:
        """A result has landed now."""

    def stored(self, clip: ClipIn, found: Stored) -> None:
        """A result had landed before."""

    def failed(self, clip: ClipIn, error: Exception, submission: Submission | None) -> None:
        """A clip came to nothing."""

    def too_many(self) -> str | None:
        """Why the batch should be given up: more clips failed than may; ``None`` while it is worth going on."""
