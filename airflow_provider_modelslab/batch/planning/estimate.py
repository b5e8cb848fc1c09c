"""What a batch will do and cost, before anything is submitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_modelslab.api.errors import (
    ChangedRequestError,
    ClipUnreadableError,
    SubmissionUnknownError,
)
from airflow_provider_modelslab.api.prices import amount_text
from airflow_provider_modelslab.batch.results.bill import PriceOf, by_variant
from airflow_provider_modelslab.batch.results.progress import duration
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import Attach, Entry, Hold, LedgerPolicy, Reuse, entry_name
from airflow_provider_modelslab.ledger.model import last_live_submission as last_live

if TYPE_CHECKING:
    from airflow_provider_modelslab.batch.planning.plan import ClipPlan
    from airflow_provider_modelslab.batch.results.tracker import BatchTracker

__all__ = ["Estimate", "estimate", "rate_of"]

_READS = 500  # ledgers that are read: beyond that the estimate is an upper bound
_THREADS = 16
_LANDINGS, _ENOUGH, _GAP = 100, 5, 600.0

Kind = Literal["stored", "waiting", "unknown", "refused", "submit"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a batch will do.

    :param clips: found.
    :param stored: results that are there already.
    :param waiting: jobs that are paid for, and are waited for.
    :param unknown: submissions of unknown outcome, about which a person has to decide: nothing is submitted.
    :param refused: clips that the ledger says not to pay for: they cannot be read, or another request is paid for.
    :param jobs: that will be submitted: for each other clip one, or as many as a whole clip may take.
    :param cost: of these jobs; ``None`` without prices.
    :param currency: of the prices.
    :param is_bound: whether the cost, or the number of jobs, is an upper bound.
    :param per_minute: results that landed in a minute lately, where results were landed before.
    :param most_jobs: that one clip may take.
    """

    clips: int
    stored: int
    waiting: int
    unknown: int
    refused: int
    jobs: int
    cost: Decimal | None = None
    currency: str | None = None
    is_bound: bool = False
    per_minute: float | None = None
    most_jobs: int = 1

    @property
    def seconds(self) -> float | None:
        """How long it takes at that rate; ``None`` where the rate is unknown."""
        left = self.waiting + self.jobs / self.most_jobs
        return 0.0 if not left else None if self.per_minute is None else left / self.per_minute * 60

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "clips": self.clips,
            "stored": self.stored,
            "waiting": self.waiting,
            "unknown": self.unknown,
            "refused": self.refused,
            "jobs": self.jobs,
            "cost": None if self.cost is None else amount_text(self.cost),
            "currency": self.currency,
            "is_bound": self.is_bound,
            "per_minute": None if self.per_minute is None else round(self.per_minute, 2),
            "seconds": None if self.seconds is None else round(self.seconds),
        }

    def line(self) -> str:
        """One line for the log."""
        most = "at most " if self.is_bound else ""
        is_bound = self.cost is None or self.most_jobs > 1
        cost = "" if self.cost is None else f", estimated cost {most}{amount_text(self.cost)} {self.currency}".rstrip()
        pace = "time unknown"
        if self.seconds is not None:
            rate = f" at {self.per_minute:.1f} a minute" if self.per_minute else ""
            pace = f"about {duration(self.seconds)}{rate}" if self.seconds else "nothing to wait for"
        others = {"of unknown outcome (a person must decide)": self.unknown, "excluded by the ledger": self.refused}
        rest = "".join(f", {count} {what}" for what, count in others.items() if count)
        return (
            f"{self.clips} clips: {self.stored} already stored, {self.waiting} with a job that is already paid for"
            f"{rest}, {most if is_bound else ''}{self.jobs} jobs to submit{cost}; {pace}"
        )


def estimate(
    tracker: BatchTracker,
    todo: Sequence[ClipPlan],
    price_of: PriceOf,
    *,
    policy: LedgerPolicy,
    attempt: AttemptId,
    reads: int = _READS,
    most_jobs: int = 1,
) -> Estimate:
    """What a batch will do, from its listings, and from the ledgers that have entries.

    :param tracker: after :meth:`BatchTracker.begin`.
    :param todo: the clips that it returned.
    :param price_of: the price of a job of a clip.
    :param reads: ledgers that are read at most, where names alone do not tell; clips beyond count as to be submitted.
    :param most_jobs: that one clip may take: how many segments a whole clip has is known once it has been read.
    :raises StorageConfigurationError: when S3 refuses.
    """
    kinds: dict[int, Kind] = {}
    unclear: list[ClipPlan] = []
    for clip in todo:
        names = tracker.entry_names(clip)
        if names is None or (names and last_live(names) is not None):
            unclear.append(clip)
        else:
            kinds[clip.index] = "submit"
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="modelslab-estimate") as pool:
        found = pool.map(lambda clip: _kind_of(tracker, clip, policy, attempt), unclear[:reads])
        kinds |= {clip.index: kind for clip, kind in zip(unclear, found, strict=False)}
    for clip in unclear[reads:]:
        kinds[clip.index] = _kind_by_names(tracker.entry_names(clip) or ())
    count = Counter(kinds.values())
    price_of = by_variant(price_of)
    prices = [price_of(clip) for clip in todo if kinds[clip.index] == "submit"]
    known = [price for price in prices if price is not None]
    return Estimate(
        clips=len(tracker.plan),
        stored=len(tracker.plan) - len(todo) + count["stored"],
        waiting=count["waiting"],
        unknown=count["unknown"],
        refused=count["refused"],
        jobs=count["submit"] * most_jobs,
        cost=sum((price.reserved * most_jobs for price in known), Decimal(0))
        if len(known) == len(prices) and known
        else None,
        currency=known[0].currency if known else None,
        is_bound=len(unclear) > reads or most_jobs > 1 or not all(price.is_exact for price in known),
        per_minute=rate_of(tracker.landed_at()),
        most_jobs=most_jobs,
    )


def rate_of(landed_at: Iterable[float]) -> float | None:
    """Results a minute, from the last of them without a long pause; ``None`` where they are too few.

    :param landed_at: seconds since the epoch, in any order.
    """
    last: list[float] = []
    for at in sorted(landed_at, reverse=True)[:_LANDINGS]:
        if last and last[-1] - at > _GAP:
            break
        last.append(at)
    if len(last) < _ENOUGH:
        return None
    return 60 * (len(last) - 1) / max(last[0] - last[-1], 1e-3)


def _kind_of(tracker: BatchTracker, clip: ClipPlan, policy: LedgerPolicy, attempt: AttemptId) -> Kind:
    try:
        choice = tracker.ledger(clip, claims=False).preview(clip.fingerprint, policy, attempt)
    except SubmissionUnknownError:
        return "unknown"
    except (ChangedRequestError, ClipUnreadableError):
        return "refused"
    if isinstance(choice, Reuse):
        return "stored"
    return "waiting" if isinstance(choice, Attach | Hold) else "submit"


def _kind_by_names(names: Iterable[str]) -> Kind:
    """What names alone tell; a result that landed for another request is not told from one for this."""
    known = frozenset(names)
    number = last_live(known)
    if number is None or entry_name(number, Entry.LANDED) in known:
        return "submit"
    return "waiting" if entry_name(number, Entry.JOB) in known else "unknown"
