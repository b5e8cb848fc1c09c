"""A real Airflow in one folder: API server, scheduler, Dag processor and triggerer; LocalExecutor on SQLite by default.

Used by the demo, the system tests and the benchmarks. Everything it writes stays below its home; ports are free ones.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sqlite3
import sys
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from subprocess import STDOUT, CalledProcessError, run
from typing import Any, Self

import psutil  # type: ignore[import-untyped]  # no stubs; Airflow itself depends on it

from tools.stack.airflow_api import AirflowApi
from tools.stack.process import WAIT_TIMEOUT_S, PartFailedError, ServerProcess, free_port, python_module, wait_until

__all__ = ["AirflowStack"]

_PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_ON_EVERY_MACHINE = (
    "AIRFLOW__CORE__DAGS_FOLDER",
    "AIRFLOW__CORE__LOAD_EXAMPLES",
    "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED",
)
_NO_DATABASE = "sqlite:////proc/no-database/airflow.db"  # whoever opens it fails


class AirflowStack(AirflowApi):
    """One Airflow installation and its API.

    :param home: ``AIRFLOW_HOME``; a later stack on the same home finds the database migrated.
    :param dags_folder: where the Dags are.
    :param env: environment variables for all parts and for tasks, for example ``AIRFLOW__SECTION__OPTION``.
    :param port: of the API server; a free one by default.
    :param quick: whether the parts start and end sooner than with ``airflow`` itself, which tests and benchmarks run.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        quick: bool = False,
    ) -> None:
        self._quick = quick
        self.home = home.resolve()
        self.logs = self.home / "logs"
        self._database = self.home / "airflow.db"
        self.port = port or free_port()
        super().__init__(f"http://127.0.0.1:{self.port}", log=self.home / "api-server.log")
        self.env = {**os.environ, **self._settings(dags_folder.resolve()), **(env or {})}
        self.parts = {name: self._part(name, name) for name in _PARTS}
        self._orphans: list[psutil.Process] = []

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
            # On a busy machine Airflow's own time limits would fail what is only slow.
            ("core", "dagbag_import_timeout"): 600,
            ("dag_processor", "dag_file_processor_timeout"): 600,
            ("workers", "execution_api_timeout"): 60,
            ("connection_test", "timeout"): 600,
            ("api", "host"): "127.0.0.1",
            ("api", "port"): self.port,
            ("api", "base_url"): self.url,
            ("api_auth", "jwt_secret"): signing,
            ("dag_processor", "refresh_interval"): 5,
            ("dag_processor", "min_file_process_interval"): 10,
            # SQLite has one writer at a time; on a busy machine some wait for longer than its 5 s.
            ("database", "sql_alchemy_conn"): f"sqlite:///{self._database}?timeout=60",
            ("database", "check_migrations"): False,  # it is migrated before any part starts
            ("logging", "base_log_folder"): self.logs,
            ("logging", "worker_log_server_port"): free_port(),
            ("logging", "trigger_log_server_port"): free_port(),
            ("scheduler", "enable_health_check"): False,
            ("scheduler", "scheduler_idle_sleep_time"): 0.5,
            ("usage_data_collection", "enabled"): False,
            # How long a supervisor may sleep before it sees that its task has ended.
            ("workers", "min_heartbeat_interval"): 1,
            ("modelslab", "min_deferral"): 5,  # by default twice the interval's default
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

    def shell_exports(self) -> str:
        """Lines for a shell to ``source``: then the command ``airflow`` works on this Airflow. They hold secrets."""
        own = {name: value for name, value in self.env.items() if os.environ.get(name) != value and name != "PATH"}
        lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(own.items())]
        return "\n".join([*lines, f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"', ""])

    def remote_env(self, home: Path, *options: str) -> dict[str, str]:
        """The environment of a process on another machine: a home of its own, no database, few of Airflow's settings.

        :param options: settings that it shares with this Airflow besides the Dags' folder and the time limits:
            ``AIRFLOW__SECTION__OPTION``.
        """
        shared = {*_ON_EVERY_MACHINE, *options}
        env = {name: value for name, value in self.env.items() if not name.startswith("AIRFLOW_") or name in shared}
        return env | {"AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": _NO_DATABASE}

    def _part(
        self, kind: str, name: str, arguments: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> ServerProcess:
        command = [*python_module("airflow", quick=self._quick), kind, *arguments]
        servers = () if name == kind else ("WORKER", "TRIGGER")  # the first of its kind has the ports of the settings
        ports = {f"AIRFLOW__LOGGING__{server}_LOG_SERVER_PORT": str(free_port()) for server in servers}
        return ServerProcess(
            f"Airflow's {name}", command, log=self.home / f"{name}.log", env={**(env or self.env), **ports}
        )

    # -- life -----------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Migrate the database when it is new, and start all parts; :meth:`start` then only waits for them.

        :raises PartFailedError: when it cannot be migrated.
        """
        self._migrate()
        for part in self.parts.values():
            part.start()

    def start(self, timeout: float = WAIT_TIMEOUT_S) -> Self:
        """Start all parts and wait until Airflow calls them healthy.

        :raises PartFailedError: naming the part and its log.
        """
        if not any(part.started for part in self.parts.values()):
            self.launch()
        wait_until(self.serves_tasks, list(self.parts.values()), what="Airflow's API server", timeout=timeout)
        wait_until(self._healthy, list(self.parts.values()), what="Airflow", timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop all parts and the tasks they run."""
        self.close()
        for part in self.parts.values():
            self._orphans += _descendants(part)
            part.terminate()
        for part in self.parts.values():
            part.stop(grace=5)
        for orphan in self._orphans:
            with suppress(psutil.NoSuchProcess):
                orphan.kill()

    def kill(self, name: str) -> None:
        """Kill a part with SIGKILL; the others go on.

        Tasks run in process groups of their own, so those of a killed scheduler lose their supervisors and go on.
        """
        part = self.parts.pop(name)
        self._orphans += _descendants(part)
        part.kill()

    def lose(self, name: str) -> None:
        """Kill a part with SIGKILL and all processes below it at the same time, as a machine that is lost."""
        part = self.parts.pop(name)
        below = _descendants(part)
        part.kill()
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def freeze(self, name: str) -> None:
        """Stop a part where it is; ``parts[name].thaw()`` lets it go on. For the database in SQLite.

        Not while it holds a lock on SQLite: that would freeze the other parts as well, as no other database would.
        """
        with closing(sqlite3.connect(self._database, isolation_level=None)) as database:
            while True:
                self.parts[name].freeze()
                try:
                    database.execute("BEGIN EXCLUSIVE")
                except sqlite3.OperationalError:
                    self.parts[name].thaw()
                else:
                    database.rollback()
                    return

    def add(self, kind: str, name: str | None = None, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        """Start a part of this kind: in place of one that was killed, or beside it under another name.

        :param arguments: what follows ``airflow <kind>`` on the command line.
        :param env: its whole environment, see :meth:`remote_env`; by default that of the other parts.
        """
        name = name or kind
        self.parts[name] = self._part(kind, name, arguments, env)
        self.parts[name].start()

    def _migrate(self) -> None:
        done = self.home / "migrated-with"
        wanted = f"{version('apache-airflow-core')} {self.env['AIRFLOW__DATABASE__SQL_ALCHEMY_CONN']}"
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
        state = self.health()
        return all(state.get(part) == "healthy" for part in ("metadatabase", "scheduler", "triggerer", "dag_processor"))

    # -- waiting and reading --------------------------------------------------------------------------------------

    def wait_for_dag(self, dag_id: str, *, since: datetime | None = None, timeout: float = WAIT_TIMEOUT_S) -> None:
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

    def finish(self, dag_id: str, run_id: str, timeout: float = WAIT_TIMEOUT_S) -> str:
        """Wait for the end of a run; returns its state."""
        wait_until(
            lambda: self.run_state(dag_id, run_id) in {"success", "failed"},
            list(self.parts.values()),
            what=f"the run {run_id} of {dag_id}",
            timeout=timeout,
            interval=0.5,
        )
        return self.run_state(dag_id, run_id)

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, *states: str, timeout: float = WAIT_TIMEOUT_S
    ) -> None:
        """Wait until a task instance is in one of the states.

        :raises PartFailedError: when it is not, with the state in which it is and the end of its log.
        """

        def there() -> bool:
            return self.task(dag_id, run_id, task_id)["state"] in states

        what = f"{' or '.join(states)} of {task_id} in {run_id} of {dag_id}"
        try:
            wait_until(there, list(self.parts.values()), what=what, timeout=timeout, interval=0.5)
        except PartFailedError as error:
            state = self.task(dag_id, run_id, task_id)["state"]
            log = self.task_log(dag_id, run_id, task_id)[-3000:]
            raise PartFailedError(what, f"{error}\nThe task is {state}; its log ends with:\n{log}") from error

    def wait_for_question(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Wait until a human-in-the-loop task may be answered; what it asks.

        Airflow fails a task that goes on before its executor has reported the end of the process that asked. Only the
        scheduler's log tells when it has.
        """
        self.wait_for_task(dag_id, run_id, task_id, "awaiting_input", "deferred")
        log, ended = (
            self.parts["scheduler"].log,
            f"TaskInstance Finished: dag_id={dag_id}, task_id={task_id}, run_id={run_id},",
        )
        wait_until(
            lambda: ended in log.read_text(errors="replace"),
            list(self.parts.values()),
            what=f"the executor's report of {task_id} in {run_id} of {dag_id}",
            interval=0.5,
        )
        return self.question(dag_id, run_id, task_id)

    def asset_events(self, query: str, *, timeout: float = WAIT_TIMEOUT_S) -> list[dict[str, Any]]:
        """The asset events that a query of the API finds, oldest first.

        :raises PartFailedError: when the API does not tell in time.
        """
        found: dict[str, Any] = {}

        def read() -> bool:
            # Airflow 3.3.2 answers 500 as long as a run that an event started is queued, and so has no start date.
            with suppress(PartFailedError):
                found.update(self.call("GET", f"assets/events?{query}"))
            return "asset_events" in found

        wait_until(read, list(self.parts.values()), what="the asset events", timeout=timeout)
        return sorted(found["asset_events"], key=lambda event: int(event["id"]))

    def task_log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The log files of all tries of a task, one after the other."""
        folder = self.logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return "\n".join(file.read_text(errors="replace") for file in sorted(folder.rglob("*.log*")))


def _descendants(part: ServerProcess) -> list[psutil.Process]:
    """The processes below a part, which outlive it when they are in other process groups."""
    try:
        found: list[psutil.Process] = psutil.Process(part.pid).children(recursive=True)
    except (PartFailedError, psutil.NoSuchProcess):
        return []
    return found
