"""Airflow's own tables, in memory, with the rows that the pages of the plugins read; threads may share them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, create_engine, insert, literal, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from tests.support.airflow_versions import AIRFLOW, DagSerialization

if TYPE_CHECKING:
    from airflow.sdk import DAG

NOW = datetime(2026, 11, 1, tzinfo=UTC)

BY_TASK_INSTANCE_ID = AIRFLOW >= (3, 4)
"""XComs and rendered fields belong to a task instance's id, and each iteration of a loop has one."""


class RawJson(str):
    """A text to be stored in a column of JSON as it is."""

    __slots__ = ()


class AirflowTables:
    """One database."""

    def __init__(self) -> None:
        from airflow.models import import_all_models
        from airflow.models.base import Base

        self._engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        import_all_models()
        Base.metadata.create_all(self._engine)
        self._runs = 0

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """As Airflow's ``create_session``."""
        with Session(self._engine) as opened:
            yield opened
            opened.commit()

    def add_dag(self, dag: DAG) -> uuid.UUID:
        """Serialise a Dag; its version."""
        from airflow.models.serialized_dag import SerializedDagModel

        version = uuid.uuid4()
        row = {"id": uuid.uuid4(), "dag_id": dag.dag_id, "dag_version_id": version, "dag_hash": version.hex}
        row |= {"created_at": NOW, "last_updated": NOW, "data": DagSerialization.to_dict(dag)}
        self._insert(SerializedDagModel, row)
        return version

    def add_task(
        self,
        dag_id: str = "films",
        task_id: str = "restyle",
        *,
        operator: str = "ModelsLabVideo2VideoOperator",
        state: str = "success",
        version: uuid.UUID | None = None,
        fields: Mapping[str, Any] | None = None,
        xcoms: Mapping[str, Any] | None = None,
        trigger: Any = None,
    ) -> str:
        """A run with one task; the run's id.

        :param fields: as they were rendered; ``None`` where Airflow has forgotten that.
        :param xcoms: by key.
        :param trigger: what the task waits for.
        """
        run_id = self.add_run(dag_id)
        self.add_task_instance(
            dag_id,
            run_id,
            task_id,
            operator=operator,
            state=state,
            version=version,
            fields=fields,
            xcoms=xcoms,
            trigger=trigger,
        )
        return run_id

    def add_run(self, dag_id: str, run_id: str | None = None, *, at: datetime = NOW) -> str:
        """A run without tasks; its id."""
        from airflow.models.dagrun import DagRun

        self._runs += 1
        run_id = run_id or f"run_{self._runs}"
        run = {"id": self._runs, "dag_id": dag_id, "run_id": run_id, "run_after": at, "state": "success"}
        run |= {"run_type": "manual", "span_status": "ended", "clear_number": 0, "log_template_id": 1}
        self._insert(DagRun, run)
        return run_id

    def add_task_instance(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *,
        map_index: int = -1,
        region: uuid.UUID | None = None,
        operator: str = "ModelsLabVideo2VideoOperator",
        state: str = "success",
        version: uuid.UUID | None = None,
        fields: Mapping[str, Any] | RawJson | None = None,
        xcoms: Mapping[str, Any] | None = None,
        trigger: Any = None,
        written_at: datetime = NOW,
    ) -> None:
        """A task instance in a run.

        :param written_at: of its XComs.
        :param region: of Airflow 3.4, where it is not the Dag's own; ``map_index`` is then the index in it.
        """
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.trigger import Trigger

        key = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
        own = {"id": uuid.uuid4(), "operator": operator, "state": state, "dag_version_id": version, "pool_slots": 1}
        if operator.startswith("@"):
            own["custom_operator_name"] = operator
        if trigger is not None:
            with self.session() as session:
                row = Trigger.from_object(trigger)
                session.add(row)
                session.flush()
                own["trigger_id"] = row.id
        own |= {"try_number": 1, "max_tries": 0, "pool": "default", "start_date": NOW, "end_date": NOW}
        if BY_TASK_INSTANCE_ID:
            place = {"region_index": map_index, "working_set": True}
            self._insert(TaskInstance, key | own | place | ({} if region is None else {"region_id": region}))
        else:
            self._insert(TaskInstance, key | own)
        self._add_written(own["id"], key, fields, xcoms or {}, written_at)

    def _add_written(
        self,
        id: Any,  # noqa: A002 - as the column
        key: Mapping[str, Any],
        fields: Mapping[str, Any] | RawJson | None,
        xcoms: Mapping[str, Any],
        written_at: datetime,
    ) -> None:
        from airflow.models import xcom
        from airflow.models.dagrun import DagRun
        from airflow.models.renderedtifields import RenderedTaskInstanceFields

        if BY_TASK_INSTANCE_ID:
            table, owner = xcom.XComModelV2, {"task_instance_id": id}
        else:
            with self.session() as session:
                number = session.scalar(select(DagRun.id).where(DagRun.run_id == key["run_id"]))
            table, owner = xcom.XComModel, {**key, "dag_run_id": number}
        if fields is not None:
            owned = {name: value for name, value in owner.items() if name != "dag_run_id"}
            self._insert(RenderedTaskInstanceFields, owned | {"rendered_fields": fields})
        for name, value in xcoms.items():
            self._insert(table, owner | {"key": name, "value": value, "timestamp": written_at})

    def _insert(self, model: Any, values: Mapping[str, Any]) -> None:
        """Insert a row, without the columns that this version does not have."""
        columns = model.__table__.columns
        row = {name: value for name, value in values.items() if name in columns}
        for name, value in row.items():
            if isinstance(value, uuid.UUID) and columns[name].type.python_type is str:  # Airflow 3.1
                row[name] = str(value)
        row |= {name: literal(str(value), Text) for name, value in row.items() if isinstance(value, RawJson)}
        with self.session() as session:
            session.execute(insert(model.__table__).values(**row))
