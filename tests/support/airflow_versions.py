"""What tests use of Airflow that lies elsewhere in the oldest version that is supported."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

__all__ = [
    "AIRFLOW",
    "AirflowRescheduleException",
    "DagSerialization",
    "examples_bag",
]

# Pre-releases of a version are of that version.
AIRFLOW = Version(version("apache-airflow-core")).release[:2]

if TYPE_CHECKING or AIRFLOW >= (3, 2):
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk.exceptions import AirflowRescheduleException
    from airflow.serialization.serialized_objects import DagSerialization
else:
    from airflow.exceptions import AirflowRescheduleException
    from airflow.models.dagbag import DagBag
    from airflow.sdk.execution_time import task_runner
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

    from tests.support.supervisor import Supervisor

    # Outside a task, 3.1 looks a connection up in the environment only if it has someone to ask afterwards.
    if not hasattr(task_runner, "SUPERVISOR_COMMS"):
        task_runner.SUPERVISOR_COMMS = Supervisor()


def examples_bag(folder: Path) -> Any:
    """The Dags of a folder as the Dag processor reads them; 3.1 had no ``bundle_name``."""
    named: dict[str, Any] = {"bundle_name": "examples"} if AIRFLOW >= (3, 2) else {}
    return DagBag(dag_folder=str(folder), bundle_path=folder, **named)
