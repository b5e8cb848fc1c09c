"""A real Airflow in one folder: API server, scheduler, Dag processor and triggerer, LocalExecutor, SQLite.

Used by the demo, the system tests and the benchmarks. Everything it writes stays below its home; ports are free ones.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from subprocess import STDOUT, CalledProcessError, run
from typing import Any, Self

import requests

from tools.stack.process import PartFailedError, ServerProcess, free_port, wait_until

__all__ = ["AirflowStack"]

_PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")


class AirflowStack:
    """One Airflow installation.

    :param home: ``AIRFLOW_HOME``; a later stack on the same home finds the database migrated.
    :param dags_folder: where the Dags are.
    :param env: environment variables for all parts and for tasks, for example ``AIRFLOW__SECTION__OPTION``.
    """

    def __init__(self, home: Path, *, dags_folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.home = home.resolve()
        self.logs = self.home / "logs"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {**os.environ, **self._settings(dags_folder.resolve()), **(env or {})}
        self.parts = {name: self._part(name) for name in _PARTS}
        self._session = requests.Session()
        self._session.trust_env = False

    def _settings(self, dags_folder: Path) -> dict[str, str]:
        signing, fernet = self._secrets()
        options = {
            ("core", "dags_folder"): dags_folder,
            ("core", "load_examples"): False,
            ("core", "executor"): "LocalExecutor",
            ("core", "parallelism"): 4,
            ("core", "dags_are_paused_at_creation"): False,
            ("core", "execution_api_server_url"): f"{self.url}/execution/",
            ("core", "simple_auth_manager_all_admins"): True,
            ("core", "fernet_key"): fernet,
            ("core", "test_connection"): "Enabled",
            ("api", "host"): "127.0.0.1",
            ("api", "port"): self.port,
            ("api", "base_url"): self.url,
            ("api_auth", "jwt_secret"): signing,
            ("dag_processor", "refresh_interval"): 5,
            ("dag_processor", "min_file_process_interval"): 10,
            ("database", "sql_alchemy_conn"): f"sqlite:///{self.home}/airflow.db",
            ("logging", "base_log_folder"): self.logs,
            ("logging", "worker_log_server_port"): free_port(),
            ("logging", "trigger_log_server_port"): free_port(),
            ("scheduler", "enable_health_check"): False,
            ("usage_data_collection", "enabled"): False,
            # How long a supervisor may sleep before it sees that its task has ended.
            ("workers", "min_heartbeat_interval"): 1,
        }
        named = {
            f"AIRFLOW__{section.upper()}__{name.upper()}": str(value) for (section, name), value in options.items()
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {"AIRFLOW_HOME": str(self.home), "PATH": path, "PYTHONWARNINGS": "ignore", **named}

    def _secrets(self) -> tuple[str, str]:
        """Random once for a home, so that what one run encrypted the next can read."""
        file = self.home / "secrets.json"
        if not file.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            fernet = urlsafe_b64encode(secrets.token_bytes(32)).decode()
            file.write_text(json.dumps([secrets.token_urlsafe(32), fernet]))
        signing, fernet = json.loads(file.read_text())
        return signing, fernet

    def _part(self, name: str) -> ServerProcess:
        command = [sys.executable, "-m", "airflow", name]
        return ServerProcess(f"Airflow's {name}", command, log=self.home / f"{name}.log", env=self.env)

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self, timeout: float = 180.0) -> Self:
        """Migrate the database when it is new, start all parts and wait until Airflow calls them healthy.

        :raises PartFailedError: naming the part and its log.
        """
        self._migrate()
        for part in self.parts.values():
            part.start()
        wait_until(self._healthy, list(self.parts.values()), what="Airflow", timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop all parts and the tasks they run."""
        self._session.close()
        for part in self.parts.values():
            part.terminate()
        for part in self.parts.values():
            part.stop(grace=5)

    def _migrate(self) -> None:
        done = self.home / "migrated-with"
        wanted = version("apache-airflow-core")
        if done.exists() and done.read_text() == wanted:
            return
        log = self.home / "migrate.log"
        try:
            with log.open("wb") as output:
                run(
                    [sys.executable, "-m", "airflow", "db", "migrate"],
                    env=self.env,
                    check=True,
                    stdout=output,
                    stderr=STDOUT,
                )
        except CalledProcessError as error:
            raise PartFailedError("Airflow's database", f"was not migrated ({error})", log) from error
        done.write_text(wanted)

    def _healthy(self) -> bool:
        try:
            answer = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=5)
        except requests.RequestException:
            return False
        if answer.status_code != 200:
            return False
        state = answer.json()
        return all(
            (state.get(part) or {}).get("status") == "healthy"
            for part in ("metadatabase", "scheduler", "triggerer", "dag_processor")
        )

    # -- the REST API ---------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: object = None, *, accept: tuple[int, ...] = (200, 201, 204)) -> Any:
        """Call ``/api/v2/<path>``.

        :return: the JSON answer; ``None`` for an empty one.
        :raises PartFailedError: for a status outside ``accept``.
        """
        if "Authorization" not in self._session.headers:
            token = self._session.get(f"{self.url}/auth/token", timeout=30).json()["access_token"]
            self._session.headers["Authorization"] = f"Bearer {token}"
        answer = self._session.request(method, f"{self.url}/api/v2/{path}", json=body, timeout=60)
        if answer.status_code not in accept:
            raise PartFailedError(
                "Airflow's API",
                f"{method} {path} gave HTTP {answer.status_code}: {answer.text[:500]}",
                self.parts["api-server"].log,
            )
        return answer.json() if answer.content else None

    def set_connection(self, conn_id: str, **fields: Any) -> None:
        """Create the connection, or replace it; a dict as ``extra`` becomes JSON."""
        if isinstance(fields.get("extra"), dict):
            fields["extra"] = json.dumps(fields["extra"])
        self.call("DELETE", f"connections/{conn_id}", accept=(204, 404))
        self.call("POST", "connections", {"connection_id": conn_id, **fields})

    def wait_for_dag(self, dag_id: str, *, since: datetime | None = None, timeout: float = 120.0) -> None:
        """Wait until the Dag has been parsed (again, after ``since``).

        :raises PartFailedError: when it is not, with the import errors that Airflow knows of.
        """

        def parsed() -> bool:
            dag = self.call("GET", f"dags/{dag_id}", accept=(200, 404))
            at = dag.get("last_parsed_time")
            return bool(at) and (since is None or datetime.fromisoformat(at) >= since)

        try:
            wait_until(parsed, list(self.parts.values()), what=f"the Dag {dag_id}", timeout=timeout, interval=0.5)
        except PartFailedError as error:
            problems = self.call("GET", "importErrors")["import_errors"]
            told = "\n".join(f"{problem['filename']}:\n{problem['stack_trace']}" for problem in problems)
            raise PartFailedError(
                error.part, f"could not be loaded\n{told}", self.parts["dag-processor"].log
            ) from error

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run; returns its id."""
        run_id = f"manual_{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        self.call(
            "POST", f"dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        )
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """``queued``, ``running``, ``success`` or ``failed``."""
        return str(self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        return list(self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task returned; ``None`` when it returned nothing."""
        entry = self.call(
            "GET",
            f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
            f"?deserialize=true&map_index={map_index}",
            accept=(200, 404),
        )
        return entry.get("value")

    def task_log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The log files of all tries of a task, one after the other."""
        folder = self.logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return "\n".join(file.read_text(errors="replace") for file in sorted(folder.rglob("*.log*")))

    def finish(self, dag_id: str, run_id: str, timeout: float = 180.0) -> str:
        """Wait for the end of a run; returns its state."""
        wait_until(
            lambda: self.run_state(dag_id, run_id) in {"success", "failed"},
            list(self.parts.values()),
            what=f"the run {run_id} of {dag_id}",
            timeout=timeout,
            interval=0.5,
        )
        return self.run_state(dag_id, run_id)
