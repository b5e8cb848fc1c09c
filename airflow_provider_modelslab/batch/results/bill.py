"""What a batch did cost, and what was saved by results that were there already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from airflow_provider_modelslab.api.prices import JobPrice, amount_text
from airflow_provider_modelslab.batch.planning.plan import ClipPlan, variant_of
from airflow_provider_modelslab.batch.results.outcomes import Outcome, Status

__all__ = ["PriceOf", "bill_of", "by_variant"]

PriceOf = Callable[[ClipPlan], JobPrice | None]


def by_variant(price_of: PriceOf) -> PriceOf:
    """The same, computed once for all clips with the same attributes of their own."""
    known: dict[str, JobPrice | None] = {}

    def look_up(clip: ClipPlan) -> JobPrice | None:
        variant = variant_of(clip.overrides)
        if variant not in known:
            known[variant] = price_of(clip)
        return known[variant]

    return look_up


def bill_of(outcomes: Iterable[tuple[ClipPlan, Outcome]], price_of: PriceOf | None) -> Mapping[str, Any]:
    """``jobs``, ``generation_s``, ``cost``, ``currency`` and ``saved`` of a batch's outcomes.

    ``jobs`` are those whose result landed, or that failed after they were submitted, those at each place of a chain
    included; a clip whose first job failed, and whose second at the same place landed, counts once. ``cost`` is theirs,
    and that of results that were made on this worker; ``saved`` is what the results that were there already would cost
    now; both are ``None`` without prices. A job whose generation time is not known counts with what is reserved for it.

    :param price_of: the price of a clip's job, where there are prices.
    """
    jobs, seconds = 0, 0.0
    cost, saved, currency = Decimal(0), Decimal(0), None
    for clip, outcome in outcomes:
        is_landed, is_local = outcome.status == Status.LANDED, (outcome.made_by or {}).get("run_on") == "local"
        failed = [failure for failure in outcome.fallback_from or () if failure["job_id"] is not None]
        is_paid = is_landed or (
            outcome.status == Status.FAILED and outcome.job_id is not None and not outcome.fallback_from
        )
        jobs += is_paid - (is_landed and is_local) + len(failed)
        if is_paid:
            seconds += outcome.generation_s or 0.0
        price = price_of(clip) if price_of and outcome.status != Status.PENDING else None
        for failure in failed:
            if "cost" in failure:
                cost += Decimal(failure["cost"])
                currency = failure["currency"]
        if is_paid and outcome.cost is not None:
            cost += Decimal(outcome.cost)
            currency = outcome.currency
        elif is_paid and price and not is_local:
            cost += price.reserved
        if price and outcome.status == Status.SKIPPED:
            saved += Decimal(outcome.cost) if outcome.cost is not None else price.reserved
        currency = currency if price is None else price.currency
    has_prices = currency is not None
    return {
        "jobs": jobs,
        "generation_s": round(seconds, 1),
        "cost": amount_text(cost) if has_prices else None,
        "currency": currency,
        "saved": amount_text(saved) if has_prices else None,
    }
