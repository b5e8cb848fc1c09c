"""Airflow's own tables, in memory, with the rows that the pages of the plugins read; threads may share them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from tests.support.airflow_versions import DagSerialization

if TYPE_CHECKING:
    from airflow.sdk import DAG

NOW = datetime(2026, 11, 1, tzinfo=UTC)


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
        from airflow.models.dagrun import DagRun
        from airflow.models.renderedtifields import RenderedTaskInstanceFields
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.trigger import Trigger
        from airflow.models.xcom import XComModel

        self._runs += 1
        number, run_id = self._runs, f"run_{self._runs}"
        run = {"id": number, "dag_id": dag_id, "run_id": run_id, "run_after": NOW, "state": "success"}
        self._insert(
            DagRun, run | {"run_type": "manual", "span_status": "ended", "clear_number": 0, "log_template_id": 1}
        )
        key = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": -1}
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
        self._insert(TaskInstance, key | own)
        if fields is not None:
            self._insert(RenderedTaskInstanceFields, key | {"rendered_fields": dict(fields)})
        for name, value in (xcoms or {}).items():
            self._insert(XComModel, key | {"dag_run_id": number, "key": name, "value": value})
        return run_id

    def _insert(self, model: Any, values: Mapping[str, Any]) -> None:
        with self.session() as session:
            session.execute(model.__table__.insert().values(**values))
