"""The trigger that waits for many jobs of a batch at once. It only reads: it never submits and never cancels."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.api.polling import PollPolicy
from airflow_provider_modelslab.api.quantities import seconds_of, whole_of
from airflow_provider_modelslab.client.polling.poller import Submitted
from airflow_provider_modelslab.client.polling.registry import shared_poller
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.triggers.connections import client_of
from airflow_provider_modelslab.triggers.minimum_wait import earliest_event, sleep_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from datetime import timedelta

    from airflow_provider_modelslab.client.polling.poller import Ended

__all__ = ["ModelsLabBatchTrigger"]

_MAX_ENDED = 1000
"""Jobs that one event reports at most, some 300 kB. The next wait reports the others at its first poll."""


class ModelsLabBatchTrigger(BaseTrigger):
    """Waits until enough of many jobs have ended to justify a worker, and then sends one event.

    The event is ``{"status": "success", "ended": [...], "waiting": n}``: each ended job as in the single trigger's
    event, failures included, and the number of jobs that have not ended or are not reported yet. It is
    ``{"status": "error", ...}`` when a connection is unusable. All times are of the wall clock, so a trigger that is
    restarted in another triggerer waits until the same moments.

    :param jobs: for each job ``job_id``, ``submitted_at`` and ``deadline`` (seconds since the epoch), ``eta`` (seconds,
        or ``None``), and ``conn_id`` if another connection submitted it. A job past its deadline ends with the code
        ``timeout``.
    :param modelslab_conn_id: the Airflow connection whose key submitted them.
    :param wake_at: how many ended jobs are enough, 1 or more.
    :param defer_after: the time after the first one, after which fewer are enough: seconds, text such as ``"90s"``, or
        a timedelta; 0 or more.
    :param max_wait: the time after ``started_at`` at which the event is sent in any case, as ``defer_after``; ``None``
        for no such limit. Without jobs it is a pause, for a batch whose submits are all refused.
    :param started_at: seconds since the epoch; now, when it is not given.
    :param poll_policy: a :class:`PollPolicy` as a dict.
    """

    def __init__(
        self,
        jobs: Iterable[Mapping[str, Any]],
        *,
        modelslab_conn_id: str = ModelsLabHook.default_conn_name,
        wake_at: int | str = 1,
        defer_after: float | str | timedelta = 0.0,
        max_wait: float | str | timedelta | None = None,
        started_at: float | None = None,
        poll_policy: dict[str, Any] | None = None,
        **_: Any,  # arguments of a newer version, during a rolling upgrade
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # core's base class has no annotations
        self.jobs = [_plain(job) for job in jobs]
        self.modelslab_conn_id = modelslab_conn_id
        self.wake_at = whole_of(wake_at, "wake_at", least=1)
        self.defer_after = seconds_of(defer_after, "defer_after", least=0)
        self.max_wait = None if max_wait is None else seconds_of(max_wait, "max_wait", least=0)
        self.started_at = time.time() if started_at is None else started_at
        self.poll_policy = poll_policy

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, all plain JSON."""
        return (
            "airflow_provider_modelslab.triggers.batch.ModelsLabBatchTrigger",
            {
                "jobs": self.jobs,
                "modelslab_conn_id": self.modelslab_conn_id,
                "wake_at": self.wake_at,
                "defer_after": self.defer_after,
                "max_wait": self.max_wait,
                "started_at": self.started_at,
                "poll_policy": self.poll_policy,
            },
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} jobs={len(self.jobs)} modelslab_conn_id={self.modelslab_conn_id}>"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield exactly one event."""
        earliest = earliest_event()
        try:
            reported = [_ended_record(job) for job in (await self._wait())[:_MAX_ENDED]]
            event = {"status": "success", "ended": reported, "waiting": len(self.jobs) - len(reported)}
        except ModelsLabError as error:
            event = error.to_event()
        await sleep_until(earliest)
        yield TriggerEvent(event)

    async def _wait(self) -> list[Ended]:
        until = float("inf") if self.max_wait is None else self.started_at + self.max_wait
        if not self.jobs:
            await asyncio.sleep(0 if self.max_wait is None else max(0.0, until - time.time()))
            return []
        self.log.info(
            "Waiting for %d of %d jobs, or %.0f s after the first", self.wake_at, len(self.jobs), self.defer_after
        )
        by_connection: dict[str, list[Submitted]] = {self.modelslab_conn_id: []}
        for job in self.jobs:
            conn_id = job.get("conn_id", self.modelslab_conn_id)
            by_connection.setdefault(conn_id, []).append(_submitted(job))
        async with AsyncExitStack() as stack:
            pollers = {
                conn_id: await stack.enter_async_context(shared_poller(await client_of(conn_id)))
                for conn_id in by_connection
            }
            own = pollers.pop(self.modelslab_conn_id)
            policy = PollPolicy.from_dict(self.poll_policy)
            watch = await stack.enter_async_context(own.watch(by_connection[self.modelslab_conn_id], policy=policy))
            for conn_id, poller in pollers.items():
                branch = watch.at(poller, conn_id)
                for submitted in by_connection[conn_id]:
                    branch.add(submitted)
            return await watch.gather(min(self.wake_at, _MAX_ENDED), defer_after=self.defer_after, until=until)

    async def on_kill(self) -> None:
        """Log what a kill means (Airflow 3.3+); nothing is cancelled."""
        self.log.warning(
            "The wait for %d jobs was ended: the task was marked or cleared, or another triggerer took over. The jobs "
            "keep running at ModelsLab and are billed. If the task was marked, clear it to continue with them",
            len(self.jobs),
        )


def _plain(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job's part of the arguments, without other fields."""
    return {
        "job_id": str(job["job_id"]),
        "submitted_at": job["submitted_at"],
        "deadline": job["deadline"],
        "eta": job.get("eta"),
        **({"conn_id": str(job["conn_id"])} if job.get("conn_id") else {}),
    }


def _submitted(job: Mapping[str, Any]) -> Submitted:
    return Submitted(job["job_id"], job["submitted_at"], job["deadline"], job["eta"])


def _ended_record(job: Ended) -> dict[str, Any]:
    """The short form of an ended job in the event: the links to land and the seed. The rest came with the submit."""
    other = {} if job.conn_id is None else {"conn_id": job.conn_id}
    if isinstance(job.outcome, ModelsLabError):
        return {**job.outcome.to_event(), **other}
    if isinstance(job.outcome, BaseException):
        raise job.outcome
    return {
        "status": "success",
        "job_id": job.job_id,
        "links": list(job.outcome.links),
        "generation_time": job.outcome.generation_time,
        "meta": {name: job.outcome.meta[name] for name in ("seed",) if name in job.outcome.meta},
        **other,
    }
