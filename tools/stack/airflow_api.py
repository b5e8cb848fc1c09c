"""Airflow's REST API as tests and the demo use it: runs, tasks, connections, variables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from tools.stack.process import PartFailedError

__all__ = ["AirflowApi"]


class AirflowApi:
    """Calls below ``/api/v2``, as the administrator of the simple auth manager.

    :param url: of the API server.
    :param log: its log, for messages.
    """

    def __init__(self, url: str, *, log: Path | None = None) -> None:
        self.url = url
        self._log = log
        self._session = requests.Session()
        self._session.trust_env = False
        # What only reads is asked again, like a DELETE: after a locked SQLite, and after a reset (when an
        # answer was 500, uvicorn logs the traceback and closes only then). A refused connection is not waited for.
        again = Retry(3, connect=0, status_forcelist=(500, 503), backoff_factor=0.2, raise_on_status=False)
        self._session.mount("http://", HTTPAdapter(max_retries=again))

    def close(self) -> None:
        """Close the connection to the API server."""
        self._session.close()

    def health(self) -> dict[str, str]:
        """The status of each part, ``healthy`` or not; empty while the API server does not answer."""
        try:
            answer = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=60)
        except requests.RequestException:
            return {}
        if answer.status_code != 200:
            return {}
        return {part: str((state or {}).get("status")) for part, state in answer.json().items()}

    def serves_tasks(self) -> bool:
        """Whether the API for tasks answers. It makes itself ready for its first request, which takes seconds."""
        try:
            return self._session.get(f"{self.url}/execution/health", timeout=60).status_code == 200
        except requests.RequestException:
            return False

    def alive(self, job_type: str) -> int:
        """How many parts of a kind report that they are alive: ``TriggererJob``, ``SchedulerJob``..."""
        return int(self.call("GET", f"jobs?job_type={job_type}&is_alive=true")["total_entries"])

    def call(self, method: str, path: str, body: object = None, *, accept: tuple[int, ...] = (200, 201, 204)) -> Any:
        """Call ``/api/v2/<path>``.

        :return: the JSON answer; ``None`` for an empty one.
        :raises PartFailedError: for a status outside ``accept``; GET and DELETE are tried up to four times.
        """
        if "Authorization" not in self._session.headers:
            token = self._session.get(f"{self.url}/auth/token", timeout=60).json()["access_token"]
            self._session.headers["Authorization"] = f"Bearer {token}"
        answer = self._session.request(method, f"{self.url}/api/v2/{path}", json=body, timeout=60)
        if answer.status_code not in accept:
            problem = f"{method} {path} gave HTTP {answer.status_code}: {answer.text[:500]}"
            raise PartFailedError("Airflow's API", problem, self._log)
        return answer.json() if answer.content else None

    def get(self, path: str) -> requests.Response:
        """The answer of a plugin's page or route to a user who is logged in; redirects are not followed."""
        self.call("GET", "dags?limit=1")  # logs in
        return self._session.get(f"{self.url}{path}", timeout=60, allow_redirects=False)

    # -- settings -------------------------------------------------------------------------------------------------

    def set_connection(self, conn_id: str, **fields: Any) -> None:
        """Create the connection, or replace it; a dict as ``extra`` becomes JSON."""
        if isinstance(fields.get("extra"), dict):
            fields["extra"] = json.dumps(fields["extra"])
        self.call("DELETE", f"connections/{conn_id}", accept=(204, 404))
        self.call("POST", "connections", {"connection_id": conn_id, **fields})

    def set_variable(self, name: str, value: object) -> None:
        """Create the variable, or replace it; anything but text becomes JSON."""
        text = value if isinstance(value, str) else json.dumps(value)
        self.call("DELETE", f"variables/{name}", accept=(204, 404))
        self.call("POST", "variables", {"key": name, "value": text})

    # -- runs -----------------------------------------------------------------------------------------------------

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

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """One task instance: ``state``, ``try_number``, the ``triggerer_job`` that waits for it..."""
        found: dict[str, Any] = self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")
        return found

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task returned; ``None`` when it returned nothing."""
        entry = self.call(
            "GET",
            f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{quote(key)}"
            f"?deserialize=true&map_index={map_index}",
            accept=(200, 404),
        )
        return entry.get("value")

    # -- what people do -------------------------------------------------------------------------------------------

    def clear(self, dag_id: str, run_id: str, *task_ids: str) -> None:
        """Clear tasks of a run, whatever their states, and let the run go on."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": list(task_ids)}
        self.call("POST", f"dags/{dag_id}/clearTaskInstances", body)

    def clear_instances(self, dag_id: str, run_id: str, instance_ids: Sequence[str]) -> None:
        """Clear task instances by their ids, which alone name an iteration of a loop (Airflow 3.4)."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_instance_ids": list(instance_ids)}
        self.call("POST", f"dags/{dag_id}/clearTaskInstances", body)

    def question(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """What a human-in-the-loop task asks: ``subject``, ``body``, ``options``."""
        found: dict[str, Any] = self.call("GET", self._question(dag_id, run_id, task_id))
        return found

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """Answer a human-in-the-loop task that waits; see :meth:`AirflowStack.wait_for_question`."""
        self.call("PATCH", self._question(dag_id, run_id, task_id), {"chosen_options": [option]})

    @staticmethod
    def _question(dag_id: str, run_id: str, task_id: str) -> str:
        return f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task ``failed``, ``success`` or ``skipped``."""
        self.call("PATCH", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": state})
