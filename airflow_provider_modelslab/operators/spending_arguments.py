"""What every operator that pays for jobs has: prices, and caps on what it may spend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_modelslab.api.prices import Prices
from airflow_provider_modelslab.budget.definition import Caps
from airflow_provider_modelslab.operators.arguments import is_literal
from airflow_provider_modelslab.operators.destination_arguments import DestinationArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.budget.spending import Spending
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["SpendingArguments"]


class SpendingArguments(DestinationArguments):
    """Prices, and limits on what a task may spend.

    :param prices: what jobs cost (templated), as texts: ``{"currency": "EUR", "per_job": "0.10"}``. Other keys:
        ``per_frame``; ``per_second`` of generation, with ``max_seconds``; ``per_gpu_second`` of your own GPU;
        ``models``, with rates for each ``model_id``. By default ``prices`` in the connection's extra. Without prices,
        only the number of jobs is counted.
    :param budget: the name of a budget (templated), defined in the connection's extra or in the Variable
        ``modelslab_budgets``. All tasks with this name share it.
    :param max_jobs: the most jobs that this task instance may pay for (templated), including its retries and clears,
        0 or more.
    :param max_cost: the most that these jobs may cost (templated), in the currency of the prices, 0 or more.
    :raises InvalidRequestError: for prices or limits that are not allowed.
    """

    spending_fields: ClassVar[tuple[str, ...]] = ("prices", "budget", "max_jobs", "max_cost")

    def __init__(
        self,
        *,
        prices: Mapping[str, Any] | None = None,
        budget: str | None = None,
        max_jobs: int | str | None = None,
        max_cost: str | float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prices = prices
        self.budget = budget
        self.max_jobs = max_jobs
        self.max_cost = max_cost
        if is_literal(prices):
            Prices.of(prices)  # this and the next refuse what makes no sense while the Dag is parsed
        Caps.of(max_jobs if is_literal(max_jobs) else None, max_cost if is_literal(max_cost) else None)

    def _open_spending(self, context: Context, destination: S3Uri | None, timeout: float) -> Spending:
        """What this task may spend.

        :param destination: of the result, or the prefix of a batch's results.
        """
        from airflow_provider_modelslab.jobs.budgets import open_spending
        from airflow_provider_modelslab.jobs.task_ledger import ledger_folder, task_key

        return open_spending(
            self.hook,
            self.hook.s3_profile.ledger_root(destination),
            lambda place: ledger_folder(context, self.hook, place),
            task_key(context),
            prices=self.prices,
            budget=self.budget,
            max_jobs=self.max_jobs,
            max_cost=self.max_cost,
            timeout=timeout,
        )
