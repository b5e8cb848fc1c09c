"""The runner against what Airflow's own processes do with such Dags."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, BaseHook
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, Param, Variable, task, task_group

from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.testing import DagRun, DagRunner

DAY = datetime(2026, 11, 23, 4, tzinfo=UTC)


class Returns(BaseOperator):
    """Returns its template."""

    template_fields = ("value",)

    def __init__(self, value: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value = value

    def execute(self, context: Any) -> Any:
        return self.value


class Waits(BaseOperator):
    """Defers itself twice; the trigger's event is a moment, which is no JSON."""

    def execute(self, context: Any) -> None:
        self.defer(trigger=TimeDeltaTrigger(timedelta()), method_name="once", kwargs={"seen": [1]})

    def once(self, context: Any, event: datetime, seen: list[int]) -> None:
        self.defer(trigger=TimeDeltaTrigger(timedelta()), method_name="twice", kwargs={"seen": [*seen, 2]})

    def twice(self, context: Any, event: datetime, seen: list[int]) -> list[Any]:
        return [*seen, event.tzinfo is not None]


def run(dag: DAG | BaseOperator, **options: Any) -> DagRun:
    return DagRunner().run(dag, logical_date=DAY, **options)


def states(ended: DagRun) -> dict[str, str]:
    return {done.task_id: done.state for done in ended.tasks}


def failing(times: int, error: Exception) -> Callable[[], str]:
    """A function that raises so many times, then returns."""
    left = [error] * times

    def work() -> str:
        if left:
            raise left.pop()
        return "done"

    return work


def test_templates_see_params_dates_and_xcoms() -> None:
    params = {"clip": "a.mp4", "size": Param(64, type="integer")}
    with DAG("d", schedule=None, params=params, render_template_as_native_obj=True) as dag:
        first = Returns(task_id="first", value={"clip": "{{ params.clip }}", "size": "{{ params.size }}"})
        Returns(task_id="second", value="{{ ds }} {{ ti.xcom_pull('first')['clip'] }} {{ run_id }}") << first
    ended = run(dag, conf={"clip": "b.mp4"}, run_id="r")
    assert ended.state == "success"
    assert ended.result("first") == {"clip": "b.mp4", "size": 64}
    assert ended.result("second") == "2026-11-23 b.mp4 r"


def test_params_that_the_dag_does_not_accept_are_refused_before_anything_runs() -> None:
    with DAG("d", schedule=None, params={"size": Param(64, type="integer")}) as dag:
        Returns(task_id="first")
    with pytest.raises(Exception, match="size") as caught:
        run(dag, conf={"size": "large"})
    assert type(caught.value).__name__ == "ParamValidationError"


def test_an_operator_runs_without_a_dag() -> None:
    ended = run(Returns(task_id="alone", value="{{ ds_nodash }}"))
    assert ended.result("alone") == "20261123"


def test_mapped_tasks_run_for_each_index_and_a_later_task_reads_all() -> None:
    with DAG("d", schedule=None) as dag:

        @task
        def names() -> list[str]:
            return ["a", "b", "c"]

        @task
        def shout(name: str, mark: str) -> str:
            return name.upper() + mark

        @task
        def join(all_names: Any) -> list[Any]:
            return [len(all_names), all_names[1], *all_names[1:], *all_names]

        join(shout.partial(mark="!").expand(name=names()))
    ended = run(dag)
    assert ended.results("shout") == ["A!", "B!", "C!"]
    assert ended.result("shout", 2) == "C!"
    assert ended.result("join") == [3, "B!", "B!", "C!", "A!", "B!", "C!"]


def test_operators_are_mapped_over_products_and_lists_of_arguments() -> None:
    with DAG("d", schedule=None) as dag:
        rows = Returns(task_id="rows", value=[{"value": 1}, {"value": 2}])
        Returns.partial(task_id="listed").expand_kwargs(rows.output)
        Returns.partial(task_id="literal").expand(value=["x", "{{ ds }}"])
        Returns.partial(task_id="none").expand(value=[])
    ended = run(dag)
    assert ended.results("listed") == [1, 2]
    assert ended.results("literal") == ["x", "2026-11-23"]
    assert ended.results("none") == []
    assert ended.state == "success"


def test_multiple_outputs_are_xcoms_of_their_own() -> None:
    with DAG("d", schedule=None) as dag:

        @task(multiple_outputs=True)
        def both() -> Any:
            return {"left": 1, "right": 2}

        outputs: Any = both()
        Returns(task_id="right", value=outputs["right"])
    ended = run(dag)
    assert (ended.result("right"), ended.result("both", key="left")) == (2, 1)


@pytest.mark.parametrize(
    ("error", "retries", "expected"),
    [
        (ValueError("no"), 2, ("success", 3)),
        (ValueError("no"), 1, ("failed", 2)),
        (AirflowFailException("no"), 5, ("failed", 1)),
    ],
)
def test_a_try_that_fails_is_followed_by_the_next(error: Exception, retries: int, expected: tuple[str, int]) -> None:
    with DAG("d", schedule=None) as dag:
        task(task_id="work", retries=retries)(failing(2, error))() >> Returns(task_id="after", value=1)
    ended = run(dag)
    work = ended.task("work")
    assert (work.state, work.tries) == expected
    if expected[0] == "success":
        assert ended.result("work") == "done"
        return
    assert states(ended)["after"] == "upstream_failed"
    assert ended.state == "failed"
    with pytest.raises(type(error), match="no"):
        ended.result("work")
    with pytest.raises(RuntimeError):
        ended.result("after")
    with pytest.raises(KeyError):
        ended.result("another")


@pytest.mark.parametrize(
    ("error", "rule", "expected"),
    [
        (AirflowSkipException(), "all_success", "skipped"),
        (AirflowSkipException(), "none_failed", "success"),
        (AirflowSkipException(), "all_done", "success"),
        (AirflowFailException(), "none_failed", "upstream_failed"),
        (AirflowFailException(), "all_done", "success"),
    ],
)
def test_trigger_rules(error: Exception, rule: str, expected: str) -> None:
    with DAG("d", schedule=None) as dag:
        task(task_id="work")(failing(1, error))() >> Returns(task_id="after", trigger_rule=rule)
    assert states(run(dag))["after"] == expected


def test_what_needs_the_scheduler_is_refused() -> None:
    with DAG("rule", schedule=None) as rule:
        Returns(task_id="first", trigger_rule="one_success")
    with DAG("group", schedule=None) as group:

        @task_group
        def each(value: int) -> None:
            Returns(task_id="inner", value=value)

        each.expand(value=[1, 2])
    for dag in (rule, group):
        with pytest.raises(ValueError, match=r"dag\.test"):
            run(dag)


def test_a_task_waits_in_triggers_as_often_as_it_likes() -> None:
    ended = run(Waits(task_id="waits"))
    assert ended.result("waits") == [1, 2, True]
    assert (ended.task("waits").deferrals, ended.task("waits").tries) == (2, 1)


def test_a_sensor_that_reschedules_itself_is_poked_again() -> None:
    answers = iter([False, False, True])

    class Ready(BaseSensorOperator):
        def poke(self, context: Any) -> bool:
            return next(answers)

    ended = run(Ready(task_id="ready", mode="reschedule", poke_interval=60))
    assert (ended.task("ready").state, ended.task("ready").tries) == ("success", 1)


def test_a_run_can_be_cleared_and_tries_count_on() -> None:
    runner = DagRunner()
    dag = DAG("d", schedule=None)
    Returns(task_id="number", value="{{ ti.try_number }} of {{ ti.max_tries + 1 }}", retries=1, dag=dag)
    first = runner.run(dag)
    assert first.result("number") == "1 of 2"
    assert runner.run(dag, run_id=first.run_id).result("number") == "2 of 3"
    assert runner.run(dag).result("number") == "1 of 2"  # another run


def test_connections_and_variables_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", '{"conn_type": "http", "host": "example.com"}')
    monkeypatch.setenv("AIRFLOW_VAR_STYLE", "oil")

    def look_up() -> list[str | None]:
        return [BaseHook.get_connection("mine").host, Variable.get("style"), Variable.get("none", default=None)]

    with DAG("d", schedule=None) as dag:
        task(look_up)()
        Returns(task_id="templates", value="{{ var.value.style }} {{ conn.mine.host }}")
    ended = run(dag)
    assert ended.result("look_up") == ["example.com", "oil", None]
    assert ended.result("templates") == "oil example.com"


def test_a_result_that_airflow_cannot_store_fails_the_task() -> None:
    with DAG("d", schedule=None) as dag:
        Returns(task_id="odd", value=iter([1]))
    ended = run(dag)
    assert ended.state == "failed"
    with pytest.raises(TypeError):
        ended.result("odd")


def test_operators_of_the_package_poll_often_and_others_are_left_alone() -> None:
    class Interval(ModelsLabVideo2VideoOperator):
        def execute(self, context: Any) -> Any:
            return [self.poll_interval, self.max_poll_interval]

    class Theirs(BaseOperator):
        poll_interval = 30.0

        def execute(self, context: Any) -> float:
            return self.poll_interval

    def all_of(tasks: Iterable[BaseOperator]) -> list[Any]:
        return [DagRunner(poll_interval=0.5).run(one).result(one.task_id) for one in tasks]

    request: dict[str, Any] = {"model_id": "m", "prompt": "p", "init_video": "u"}
    ours = Interval(task_id="ours", poll_interval=0.1, **request)
    assert all_of([ours, Theirs(task_id="theirs")]) == [[0.1, 0.5], 30.0]
