"""A task instance in a run of a test, and the names that its templates and operators know."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from airflow_provider_modelslab.testing import tasks
from airflow_provider_modelslab.testing.xcoms import RETURNED, XComs

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.testing.dags import DagRun, TaskRun

__all__ = ["RunTaskInstance", "context_of", "params_of"]


def _uuid7() -> UUID:
    """An id as Airflow makes them for task instances: it begins with the time."""
    return UUID(int=(time.time_ns() // 1_000_000 << 80) | (7 << 76) | (2 << 62) | random.getrandbits(62))


@dataclass
class RunTaskInstance(tasks.TaskInstance):
    """A task instance that shares the XComs of its run."""

    id: UUID = field(default_factory=_uuid7)
    run_xcoms: XComs = field(default_factory=XComs)
    task: Any = None

    @classmethod
    def of(cls, run: DagRun, done: TaskRun, try_number: int, max_tries: int) -> RunTaskInstance:
        """The one of a try."""
        dag_run = SimpleNamespace(
            dag_id=run.dag_id,
            run_id=run.run_id,
            conf=run.conf,
            logical_date=run.logical_date,
            run_after=run.logical_date,
            start_date=run.logical_date,
            run_type="manual",
        )
        ids = (run.dag_id, done.task_id, run.run_id)
        return cls(*ids, done.map_index, try_number, max_tries, dag_run=dag_run, run_xcoms=run.xcoms)

    def xcom_push(self, key: str, value: Any) -> None:
        """Store an XCom of this task instance."""
        self.run_xcoms.push(self.task_id, self.map_index, key, value)

    def xcom_pull(
        self,
        task_ids: str | Sequence[str] | None = None,
        dag_id: str | None = None,
        key: str = RETURNED,
        include_prior_dates: bool = False,
        *,
        map_indexes: Any = None,
        default: Any = None,
        run_id: str | None = None,
    ) -> Any:
        """The XCom of a task of this run; a list for several tasks, and for a mapped task without ``map_indexes``.

        :raises ValueError: for another Dag or another run, which a test does not have.
        """
        if dag_id not in (None, self.dag_id) or run_id not in (None, self.run_id):
            raise ValueError(f"The test has run {self.run_id} of {self.dag_id} only; got {run_id} of {dag_id}")
        if task_ids is not None and not isinstance(task_ids, str):
            return [self._pull(task_id, key, map_indexes, default) for task_id in task_ids]
        return self._pull(task_ids or self.task_id, key, map_indexes, default)

    def _pull(self, task_id: str, key: str, map_indexes: Any, default: Any) -> Any:
        if isinstance(map_indexes, int):
            wanted: Sequence[int] = [map_indexes]
        elif isinstance(map_indexes, Sequence):
            wanted = map_indexes
        else:
            wanted = self.run_xcoms.indexes(task_id, key)
            if not wanted:
                return default
        values = [value if there else default for there, value in (self._one(task_id, key, at) for at in wanted)]
        single = isinstance(map_indexes, int) or list(wanted) == [-1]
        return values[0] if single else values

    def _one(self, task_id: str, key: str, map_index: int) -> tuple[bool, Any]:
        return self.run_xcoms.pull(task_id, key, map_index)


def context_of(task: Any, run: DagRun, ti: RunTaskInstance) -> Context:
    """The names that templates and operators know."""
    from airflow.sdk.execution_time import context as accessors

    stamp = run.logical_date.astimezone(UTC)
    day, moment = stamp.strftime("%Y-%m-%d"), stamp.isoformat()
    context = {
        "conn": accessors.ConnectionAccessor(),
        "dag": task.get_dag(),
        "dag_run": ti.dag_run,
        "data_interval_end": run.logical_date,
        "data_interval_start": run.logical_date,
        "ds": day,
        "ds_nodash": day.replace("-", ""),
        "inlets": task.inlets,
        "logical_date": run.logical_date,
        "macros": accessors.MacrosAccessor(),
        "outlet_events": accessors.OutletEventAccessors(),
        "outlets": task.outlets,
        "params": params_of(task, run),
        "run_id": run.run_id,
        "task": task,
        "task_instance": ti,
        "task_instance_key_str": f"{run.dag_id}__{task.task_id}__{day.replace('-', '')}",
        "ti": ti,
        "ts": moment,
        "ts_nodash": stamp.strftime("%Y%m%dT%H%M%S"),
        "var": {
            "json": accessors.VariableAccessor(deserialize_json=True),
            "value": accessors.VariableAccessor(deserialize_json=False),
        },
    }
    return cast("Context", context)


def params_of(task: Any, run: DagRun) -> Mapping[str, Any]:
    """The params of the Dag and the task, with the run's ``conf`` over them.

    :raises airflow.sdk.exceptions.ParamValidationError: for what the Dag does not accept.
    """
    from airflow.sdk.definitions.param import process_params

    dag = task.get_dag()
    return process_params(dag, task, dict(run.conf), suppress_exception=False) if dag else {}
