"""The prices and budgets of a task or a command: from a connection's extra, an Airflow Variable and arguments."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.api.prices import Prices
from airflow_provider_modelslab.budget.definition import BudgetRule, Caps
from airflow_provider_modelslab.budget.log import S3BudgetLog
from airflow_provider_modelslab.budget.service import Budget
from airflow_provider_modelslab.budget.spending import Spending
from airflow_provider_modelslab.ledger.model import Entry
from airflow_provider_modelslab.ledger.stores import S3LedgerStore, honours_conditional_puts
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.prices import JobPrice
    from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan
    from airflow_provider_modelslab.batch.results.bill import PriceOf
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.whole_clip.settings import WholeClipSettings
    from airflow_provider_modelslab.ledger.model import TaskKey

__all__ = ["BUDGETS_VARIABLE", "open_spending", "price_of_jobs", "prices_of"]

BUDGETS_VARIABLE = "modelslab_budgets"
"""Airflow Variable, JSON: budgets by name, for those that no connection defines."""


def prices_of(hook: ModelsLabHook, given: object = None) -> Prices | None:
    """The prices that hold: those of the task, else those in the connection's extra.

    :raises InvalidRequestError: naming what is wrong with them.
    """
    return Prices.of(given) or Prices.of(_extra(hook, "prices"), "prices (in the connection's extra)")


def price_of_jobs(
    prices: Prices | None, plan: BatchPlan, whole: WholeClipSettings | None, *, timeout: float
) -> PriceOf:
    """The price of a clip's job; of a whole clip, that of a segment's. ``None`` for each without prices."""

    def price_of(clip: ClipPlan) -> JobPrice | None:
        if prices is None:
            return None
        request = plan.request(clip)
        return prices.of_request(whole.longest(request) if whole else request, timeout=timeout)

    return price_of


def open_spending(
    hook: ModelsLabHook,
    root: S3Uri | None,
    ledger_of: Callable[[Any], S3Uri | None],
    task: TaskKey,
    *,
    prices: object = None,
    budget: str | None = None,
    max_jobs: object = None,
    max_cost: object = None,
    timeout: float = 3600.0,
) -> Spending:
    """What a task may spend. Nothing is read or written in S3 where there is no budget and no cap.

    :param root: where ledgers, and budgets, are kept.
    :param ledger_of: where the ledger of a result is, by its destination.
    :param task: whose caps ``max_jobs`` and ``max_cost`` are.
    :param prices: of the task; by default those of the connection.
    :param budget: the name of a budget in the connection's extra or in the Variable.
    :param timeout: seconds that a job may take.
    :raises InvalidRequestError: for an unknown budget, or caps or prices that are not allowed.
    :raises StorageConfigurationError: when there is no bucket, or its store ignores conditional puts.
    """
    caps, name, found = Caps.of(max_jobs, max_cost), (budget or "").strip(), prices_of(hook, prices)
    if not name and not caps:
        return Spending(found, timeout=timeout)
    if root is None:
        raise StorageConfigurationError(
            "A budget needs a bucket, where all tasks record what they reserve. Give the task a destination, or set "
            f"bucket in the extra of the connection {hook.modelslab_conn_id!r}"
        )
    s3 = hook.get_s3_client()
    if not honours_conditional_puts(s3, root):
        raise StorageConfigurationError(
            f"The S3 store of {root} ignores conditional puts (If-None-Match), so two tasks could spend the same part "
            "of a budget. Therefore budget, max_jobs and max_cost cannot be used there. Use a store that supports "
            "conditional puts: AWS S3, Cloudflare R2, Ceph"
        )

    def open_one(folder: str, caps: Caps, title: str, how_to_raise: str) -> Budget:
        return Budget(
            S3BudgetLog(s3, root.child(f"budgets/{folder}")),
            caps,
            title=title,
            how_to_raise=how_to_raise,
            user=f"{task.dag_id}.{task.task_id}",
            read_ledger=lambda uri: S3LedgerStore(s3, S3Uri.parse(uri)).load((Entry.CLAIM, Entry.LANDED)),
        )

    budgets = []
    if caps:
        title = f"The limit of this task ({caps})"
        budgets.append(open_one(f"task-{task.digest()}", caps, title, "Raise max_jobs or max_cost of the task"))
    if name:
        rule, where = _find(hook, name)
        period, words = rule.period(now=time.time(), dag_id=task.dag_id, run_id=task.run_id)
        waiting = " or wait for the next day" if rule.per == "day" else ""
        title = f"Budget {name!r} ({rule.caps} {words})"
        budgets.append(open_one(f"{rule.folder}/{period}", rule.caps, title, f"Raise it in {where}{waiting}"))
    return Spending(found, tuple(budgets), lambda destination: str(ledger_of(destination)), timeout)


def _find(hook: ModelsLabHook, name: str) -> tuple[BudgetRule, str]:
    """A budget by its name, and where it is defined."""
    places: dict[str, Callable[[], object]] = {
        f"the extra of the connection {hook.modelslab_conn_id!r}": lambda: _extra(hook, "budgets"),
        f"the Airflow Variable {BUDGETS_VARIABLE}": lambda: Variable.get(
            BUDGETS_VARIABLE, default=None, deserialize_json=True
        ),
    }
    for where, read in places.items():
        known = read()
        if isinstance(known, Mapping) and name in known:
            return BudgetRule.of(name, known[name]), where
    raise InvalidRequestError.of("budget", f"there is no budget {name!r} in {' or in '.join(places)}")


def _extra(hook: ModelsLabHook, name: str) -> object:
    """A value of the connection's extra; a form stores it as text."""
    value = hook.extra.get(name)
    if isinstance(value, str) and value.strip():
        try:
            return json.loads(value)
        except ValueError:
            raise InvalidRequestError.of(f"{name} (in the connection's extra)", "is not valid JSON") from None
    return value
