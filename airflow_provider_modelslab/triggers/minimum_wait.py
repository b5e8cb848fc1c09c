"""The shortest wait: Airflow fails a task that is resumed before its executor has reported the end of the first part.

The executor reports the end of the process that deferred with a delay: LocalExecutor's supervisor sleeps up to
``[workers] min_heartbeat_interval`` (5 s), and the scheduler reads reports once in each of its loops. If the task is
queued or running again by then, Airflow 3.1 to 3.3 assume that it was killed and fail it (apache/airflow#71580 and
#72716, open in November 2026). So no event is sent earlier than ``[modelslab] min_deferral`` after the wait began.
"""

from __future__ import annotations

import asyncio

from airflow.providers.common.compat.sdk import conf

__all__ = ["earliest_event", "min_deferral", "sleep_until"]

_DEFAULT = 10.0


def min_deferral() -> float:
    """``[modelslab] min_deferral`` in seconds, 10 by default, never less than 0.

    :raises AirflowConfigException: when it is no number.
    """
    return max(0.0, float(conf.getfloat("modelslab", "min_deferral", fallback=_DEFAULT)))


def earliest_event() -> float:
    """When a wait that begins now may end, by the running loop's clock.

    :raises AirflowConfigException: as :func:`min_deferral`.
    """
    return asyncio.get_running_loop().time() + min_deferral()


async def sleep_until(moment: float) -> None:
    """Sleep until a moment of the running loop's clock; not at all when it has passed."""
    left = moment - asyncio.get_running_loop().time()
    if left > 0:
        await asyncio.sleep(left)
