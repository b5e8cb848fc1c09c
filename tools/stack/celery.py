"""All parts with CeleryExecutor: PostgreSQL, Redis, Airflow, and one worker for each queue, all on this machine."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from tools.stack.postgres import PostgresServer, postgres_installed
from tools.stack.process import WAIT_TIMEOUT_S, ServerProcess, wait_until
from tools.stack.redis import RedisServer
from tools.stack.whole import WholeStack

__all__ = ["QUEUES", "CeleryStack", "missing"]

QUEUES = {"default": 2, "gpu": 1}
"""How many tasks the worker of each queue takes at once; on ``gpu`` one for each card."""


def missing() -> list[str]:
    """What is not installed of all that this needs, in words."""
    needs = {
        "redis-server": shutil.which("redis-server"),
        "PostgreSQL's server": postgres_installed(),
        "apache-airflow-providers-celery": find_spec("airflow.providers.celery"),
        "psycopg": find_spec("psycopg"),
    }
    return [name for name, found in needs.items() if not found]


class CeleryStack(WholeStack):
    """Like :class:`~tools.stack.whole.WholeStack`, with another executor.

    :param folder: state and logs; PostgreSQL's data are elsewhere, see there.
    :param dags_folder: where the Dags are.
    :param bucket: the bucket of the ModelsLab connection.
    :param airflow_env: environment variables for Airflow.
    """

    def __init__(
        self, folder: Path, *, dags_folder: Path, bucket: str, airflow_env: dict[str, str] | None = None
    ) -> None:
        self.redis = RedisServer(folder / "redis")
        self.postgres = PostgresServer(folder / "postgres" / "postgres.log")
        settings = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            **self.postgres.airflow_settings,
            "AIRFLOW__CELERY__BROKER_URL": self.redis.url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{self.postgres.url}",
            "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
        }
        super().__init__(folder, dags_folder=dags_folder, bucket=bucket, airflow_env=settings | (airflow_env or {}))

    def launch(self, *, endpoint: bool = True) -> None:
        """Start the database and the broker, then all other parts without waiting for any."""
        self.postgres.start()
        self.redis.start()
        super().launch(endpoint=endpoint)

    def start_airflow(self, *, key: str | None = None, prefix: str = "", public_url: str | None = None) -> None:
        """Wait for Airflow, start a worker for each queue, and make the two connections."""
        super().start_airflow(key=key, prefix=prefix, public_url=public_url)
        workers = [self.add_worker(queue) for queue in QUEUES]
        for worker in workers:
            self.wait_for_worker(worker)

    def add_worker(self, queue: str, name: str | None = None) -> ServerProcess:
        """Start a worker of this queue, under a name of its own when there is, or was, one."""
        name = name or f"worker-{queue}"
        arguments = ("--queues", queue, "--concurrency", str(QUEUES[queue]), "--celery-hostname", f"{name}@%h")
        self.airflow.add("celery", name, "worker", *arguments)
        return self.airflow.parts[name]

    def wait_for_worker(self, worker: ServerProcess, timeout: float = WAIT_TIMEOUT_S) -> None:
        """Wait until a worker takes tasks."""
        parts = [worker, *self.airflow.parts.values()]

        def ready() -> bool:
            return " ready." in worker.log.read_text(errors="replace")

        wait_until(ready, parts, what=worker.name, timeout=timeout)

    def stop(self) -> None:
        """Stop all parts."""
        super().stop()
        self.redis.stop()
        self.postgres.stop()
