"""All parts with EdgeExecutor: PostgreSQL, Airflow, and one worker for each queue, which only calls the API server.

Edge locks the rows of its jobs, which SQLite does not do: there a worker that asks again before it has an answer may
get the same job twice, and the second process fails the try.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tools.stack.postgres import PostgresServer, postgres_installed
from tools.stack.process import WAIT_TIMEOUT_S, ServerProcess, wait_until
from tools.stack.whole import WholeStack

__all__ = ["QUEUES", "EdgeStack", "missing"]

QUEUES = {"default": 4, "gpu": 1}
"""How many tasks the worker of each queue takes at once; on ``gpu`` one for each card."""

_ON_WORKERS = (
    "AIRFLOW__CORE__EXECUTOR",
    "AIRFLOW__EDGE__JOB_POLL_INTERVAL",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API_AUTH__JWT_LEEWAY",
)


def missing() -> list[str]:
    """What is not installed of all that this needs, in words."""
    needs = {
        "PostgreSQL's server": postgres_installed(),
        "apache-airflow-providers-edge3": find_spec("airflow.providers.edge3"),
        "psycopg": find_spec("psycopg"),
    }
    return [name for name, found in needs.items() if not found]


class EdgeStack(WholeStack):
    """Like :class:`~tools.stack.whole.WholeStack`, with another executor.

    Each worker has an ``AIRFLOW_HOME`` of its own, no database, and only the settings of docs/howto/executors.md.

    :param folder: state and logs; PostgreSQL's data are elsewhere, see there.
    :param dags_folder: where the Dags are.
    :param bucket: the bucket of the ModelsLab connection.
    :param airflow_env: environment variables for Airflow.
    """

    def __init__(
        self, folder: Path, *, dags_folder: Path, bucket: str, airflow_env: dict[str, str] | None = None
    ) -> None:
        self.postgres = PostgresServer(folder / "postgres" / "postgres.log")
        settings = {
            **self.postgres.airflow_settings,
            "AIRFLOW__CORE__EXECUTOR": "airflow.providers.edge3.executors.EdgeExecutor",
            "AIRFLOW__EDGE__API_ENABLED": "True",
            "AIRFLOW__EDGE__JOB_POLL_INTERVAL": "1",
            # A token lives for 10 s by default, and a heartbeat that is refused on a busy machine ends its worker.
            "AIRFLOW__API_AUTH__JWT_LEEWAY": "120",
        }
        super().__init__(folder, dags_folder=dags_folder, bucket=bucket, airflow_env=settings | (airflow_env or {}))

    def launch(self, *, endpoint: bool = True) -> None:
        """Start the database, then all other parts without waiting for any."""
        self.postgres.start()
        super().launch(endpoint=endpoint)

    def start_airflow(self, *, key: str | None = None, prefix: str = "", public_url: str | None = None) -> None:
        """Wait for Airflow, start a worker for each queue, and make the two connections."""
        super().start_airflow(key=key, prefix=prefix, public_url=public_url)
        workers = [self.add_worker(queue) for queue in QUEUES]
        for worker in workers:
            self.wait_for_worker(worker)

    def add_worker(self, queue: str, name: str | None = None) -> str:
        """Start a worker of this queue, under a name of its own when there is, or was, one; the name."""
        name = name or f"worker-{queue}"
        env = self.airflow.remote_env(self.folder / name, *_ON_WORKERS)
        env["AIRFLOW__EDGE__API_URL"] = f"{self.airflow.url}/edge_worker/v1/rpcapi"
        arguments = ("--queues", queue, "--concurrency", str(QUEUES[queue]), "--edge-hostname", name)
        self.airflow.add("edge", name, "worker", *arguments, env=env)
        return name

    def wait_for_worker(self, name: str, timeout: float = WAIT_TIMEOUT_S) -> None:
        """Wait until the API server knows that a worker takes tasks."""
        parts: list[ServerProcess] = [self.airflow.parts[name], *self.airflow.parts.values()]

        def ready() -> bool:
            answer = self.airflow.get("/edge_worker/ui/worker")
            known = answer.json()["workers"] if answer.ok else []
            return any(worker["worker_name"] == name and worker["state"] in {"idle", "running"} for worker in known)

        wait_until(ready, parts, what=name, timeout=timeout, interval=0.5)

    def stop(self) -> None:
        """Stop all parts."""
        super().stop()
        self.postgres.stop()
