"""Runs a Dag, or one operator, in this process: no scheduler, no database, no executor, no triggerer."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, cast

from airflow_provider_modelslab import compat
from airflow_provider_modelslab.testing import tasks
from airflow_provider_modelslab.testing.task_context import RunTaskInstance, context_of, params_of
from airflow_provider_modelslab.testing.xcoms import RETURNED, Supervisor, XComs

if TYPE_CHECKING:
    from airflow.sdk import DAG, BaseOperator, Context

__all__ = ["DagRun", "DagRunner", "TaskRun"]

log = logging.getLogger(__name__)

State = Literal["success", "failed", "skipped", "upstream_failed"]


@dataclass
class TaskRun:
    """What became of one task, or of one index of a mapped task.

    :param map_index: -1 where the task is not mapped.
    :param tries: how often it was started; a resumed task is not a new try.
    :param deferrals: how often it waited in the triggerer, in all tries.
    :param error: of the last try, where that failed.
    """

    task_id: str
    map_index: int = -1
    state: State = "upstream_failed"
    tries: int = 0
    deferrals: int = 0
    error: Exception | None = None


@dataclass
class DagRun:
    """A run that has ended."""

    dag_id: str
    run_id: str
    logical_date: datetime
    conf: Mapping[str, Any]
    tasks: list[TaskRun] = field(default_factory=list)
    xcoms: XComs = field(default_factory=XComs, repr=False)

    @property
    def state(self) -> Literal["success", "failed"]:
        """``failed`` when a task failed, or did not start since one before it failed."""
        bad = {"failed", "upstream_failed"}
        return "failed" if any(task.state in bad for task in self.tasks) else "success"

    def task(self, task_id: str, map_index: int = -1) -> TaskRun:
        """What became of a task.

        :raises KeyError: when the run has no such task.
        """
        for task in self.tasks:
            if (task.task_id, task.map_index) == (task_id, map_index):
                return task
        raise KeyError(f"{task_id!r} with map index {map_index}; the run has {[task.task_id for task in self.tasks]}")

    def result(self, task_id: str, map_index: int = -1, *, key: str = RETURNED) -> Any:
        """What a task returned, as a later task reads it; ``None`` for nothing.

        :param key: of another XCom that the task pushed.
        :raises Exception: the task's own, when it failed.
        :raises RuntimeError: when the task did not run.
        :raises KeyError: when the run has no such task.
        """
        task = self.task(task_id, map_index)
        if task.error is not None:
            raise task.error
        if task.state != "success":
            raise RuntimeError(f"{task_id} has no result: its state is {task.state}")
        return self.xcoms.pull(task_id, key, map_index)[1]

    def results(self, task_id: str) -> list[Any]:
        """What the indexes of a mapped task returned, in their order.

        :raises Exception: the first error, when one of them failed.
        """
        return [self.result(task_id, task.map_index) for task in self.tasks if task.task_id == task_id]


@dataclass
class DagRunner:
    """Runs the tasks of a Dag one after the other, with templates, XComs, params, mapped tasks, deferral and retries.

    A try that fails is followed by the next at once, as often as ``retries`` of the task says. Not there, since they
    need Airflow's scheduler: branches, trigger rules other than ``all_success``, ``all_done`` and ``none_failed``,
    mapped task groups, callbacks, pools and time-outs. For these use Airflow's ``dag.test()``.

    :param poll_interval: seconds between two polls of a job, in place of those of this package's operators and sensors
        where these are longer.
    """

    poll_interval: float = 0.02
    _tries: dict[tuple[str, str, str, int], int] = field(default_factory=dict, repr=False)

    def run(
        self,
        dag: DAG | BaseOperator,
        *,
        conf: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        logical_date: datetime | None = None,
    ) -> DagRun:
        """Run a Dag, or one operator.

        :param conf: as ``airflow dags trigger --conf``; it overrides the Dag's params.
        :param run_id: of an earlier run, to run it again as if all its tasks were cleared; a new one by default.
        :param logical_date: with a timezone; now by default.
        :raises ValueError: for a Dag with something that this cannot run.
        :raises airflow.sdk.exceptions.ParamValidationError: for params that the Dag does not accept.
        """
        from airflow.sdk import DAG

        ordered: Sequence[Any] = dag.topological_sort() if isinstance(dag, DAG) else [dag]
        moment = logical_date or datetime.now(UTC)
        run = DagRun(dag.dag_id, run_id or f"manual__{moment.isoformat()}", moment, dict(conf or {}))
        for task in ordered:
            _check(task, run)
        with compat.supervised_by(Supervisor(run.xcoms)):
            for task in ordered:
                kept_from = _kept_from(task, run)
                for index in _indexes(task, run, kept_from):
                    done = TaskRun(task.task_id, index)
                    run.tasks.append(done)
                    if kept_from:
                        done.state = kept_from
                    else:
                        self._run_task(task, run, done)
        return run

    def _run_task(self, task: Any, run: DagRun, done: TaskRun) -> None:
        from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

        known = (run.dag_id, run.run_id, done.task_id, done.map_index)
        before = self._tries.get(known, 0)
        for number in range(before + 1, before + task.retries + 2):
            self._tries[known] = number
            done.tries += 1
            ti = RunTaskInstance.of(run, done, number, before + task.retries)
            try:
                context = context_of(task, run, ti)
                returned = self._try(task, context, done)
                _push(cast("BaseOperator", context["task"]), ti, returned)
            except AirflowSkipException:
                done.state, done.error = "skipped", None
                return
            except Exception as error:
                log.info("Try %s of %s failed", number, done.task_id, exc_info=True)
                done.state, done.error = "failed", error
                if isinstance(error, AirflowFailException):
                    return
            else:
                done.state, done.error = "success", None
                return

    def _try(self, task: Any, context: Context, done: TaskRun) -> Any:
        """A try from its start to its end; each part has a copy of the operator, as each is a process in Airflow."""
        from airflow.providers.common.compat.sdk import TaskDeferred

        deferred: TaskDeferred | None = None
        while True:
            current = task.prepare_for_execution()
            try:
                if deferred is None:
                    return tasks.execute(current, context, adjust=self._poll_often)
                event = tasks.first_event(tasks.make_trigger(deferred))
                return tasks.resume(current, deferred, event, context, adjust=self._poll_often)
            except TaskDeferred as again:
                deferred = again
                done.deferrals += 1
            except compat.reschedule_exception():
                deferred = None

    def _poll_often(self, task: BaseOperator) -> None:
        if not any(base.__module__.startswith("airflow_provider_modelslab.") for base in type(task).__mro__):
            return
        for name in ("poll_interval", "max_poll_interval", "poke_interval"):
            if isinstance(given := getattr(task, name, None), int | float):
                setattr(task, name, min(given, self.poll_interval))


_RULES = ("all_success", "all_done", "none_failed")


def _check(task: Any, run: DagRun) -> None:
    """Refuse params that the Dag does not accept, and what would run otherwise in Airflow.

    :raises airflow.sdk.exceptions.ParamValidationError: for the first.
    :raises ValueError: naming the task.
    """
    params_of(task, run)
    if task.trigger_rule not in _RULES:
        raise ValueError(f"{task.task_id}: the trigger rule {task.trigger_rule} is not supported here: use dag.test()")
    if task.get_closest_mapped_task_group() is not None:
        raise ValueError(f"{task.task_id} is in a mapped task group, which is not supported here: use dag.test()")


def _kept_from(task: Any, run: DagRun) -> State | None:
    """The state of a task that does not start, by its trigger rule; ``None`` where it starts."""
    states = {done.state for done in run.tasks if done.task_id in task.upstream_task_ids}
    if task.trigger_rule == "all_done":
        return None
    if states & {"failed", "upstream_failed"}:
        return "upstream_failed"
    return "skipped" if "skipped" in states and task.trigger_rule == "all_success" else None


def _indexes(task: Any, run: DagRun, kept_from: State | None) -> Sequence[int]:
    """The map indexes of a task. A mapped task of length 0, which Airflow skips, has none."""
    if not task.is_mapped or kept_from:
        return [-1]
    context = context_of(task, run, RunTaskInstance.of(run, TaskRun(task.task_id), 1, 0))
    given = compat.expanded_arguments(task)
    if isinstance(given, Mapping):
        return range(math.prod(len(_resolved(value, context)) for value in given.values()))
    return range(len(_resolved(given, context)))


def _resolved(value: Any, context: Context) -> Any:
    return value.resolve(context) if hasattr(value, "resolve") else value


def _push(task: BaseOperator, ti: RunTaskInstance, returned: Any) -> None:
    """Store what a task returned, as Airflow's task runner does."""
    if returned is None or not task.do_xcom_push:
        return
    if getattr(task, "multiple_outputs", False) and isinstance(returned, Mapping):
        for key, value in returned.items():
            ti.xcom_push(key, value)
    ti.xcom_push(RETURNED, returned)
