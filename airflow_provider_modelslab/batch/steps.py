"""What a running batch is given: the steps for one clip, who looks at its job, and where its outcome is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.storage.purchase import Landed, Purchase

__all__ = ["Book", "InFlight", "Steps", "Waiter"]

Clip = TypeVar("Clip")
ClipIn = TypeVar("ClipIn", contravariant=True)


@dataclass(frozen=True, slots=True)
class InFlight(Generic[Clip]):
    """A clip whose job runs."""

    clip: Clip
    purchase: Purchase


class Steps(Protocol[ClipIn]):
    """What is done for one clip. Each is called in a thread and may block."""

    def buy(self, clip: ClipIn) -> Landed | Purchase:
        """What is paid for already, or one submit."""

    def land(self, clip: ClipIn, purchase: Purchase, finished: Finished) -> dict[str, Any]:
        """Copy the result to S3, note it in the ledger and return the manifest."""

    def close(self, clip: ClipIn, purchase: Purchase, error: ModelsLabError) -> bool:
        """Note that a job came to nothing; whether another may be paid for now."""


class Waiter(Protocol):
    """Looks at running jobs."""

    def add(self, purchase: Purchase) -> None:
        """Look at this one too."""

    async def next(self) -> tuple[str, Finished | ModelsLabError]:
        """The next job that ended, by its id."""


class Book(Protocol[ClipIn]):
    """Keeps the outcomes. Called in the loop's thread; must not block for long."""

    def landed(self, clip: ClipIn, manifest: dict[str, Any]) -> None:
        """A result has landed now."""

    def skipped(self, clip: ClipIn, manifest: dict[str, Any]) -> None:
        """A result had landed before."""

    def failed(self, clip: ClipIn, error: Exception, purchase: Purchase | None) -> None:
        """A clip came to nothing."""

    def too_many(self) -> str | None:
        """Why the batch should be given up: more clips failed than may; ``None`` while it is worth going on."""
