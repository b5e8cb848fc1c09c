"""A second API server on the same Airflow, at which people have to log in, for tests of what they may not see."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Self

import requests

from tools.stack.airflow import AirflowStack
from tools.stack.process import ServerProcess, free_port, wait_until

__all__ = ["GuardedServer"]

USERS = {"looker": "viewer", "outsider": ""}
"""Names and roles; somebody without a role may log in and see nothing."""

_PASSWORD = "password-of-everybody-here"


class GuardedServer:
    """The stack's own API server takes everybody for an administrator; this one asks.

    :param airflow: a running Airflow, whose database is shared.
    """

    def __init__(self, airflow: AirflowStack, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        passwords = folder / "passwords.json"
        passwords.write_text(json.dumps(dict.fromkeys(USERS, _PASSWORD)))
        settings = {
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "API__PORT": str(port),
            "API__BASE_URL": self.url,
        }
        env = airflow.env | {f"AIRFLOW__{name}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "airflow", "api-server", "--port", str(port), "--workers", "1"]
        self._process = ServerProcess("the API server with logins", command, log=folder / "guarded.log", env=env)

    def start(self) -> Self:
        """Start it and wait until it answers."""
        self._process.start()
        wait_until(self._answers, [self._process], what="the API server with logins")
        return self

    def stop(self) -> None:
        """Stop it."""
        self._process.stop(grace=5)

    def session(self, user: str | None = None) -> requests.Session:
        """Somebody's session, who follows no redirects by himself; nobody's by default. Close it after use."""
        session = requests.Session()
        session.trust_env = False
        if user is not None:
            answer = session.post(f"{self.url}/auth/token", json={"username": user, "password": _PASSWORD}, timeout=60)
            answer.raise_for_status()
            session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return session

    def _answers(self) -> bool:
        try:
            with self.session() as nobody:
                return nobody.get(f"{self.url}/api/v2/monitor/health", timeout=60).status_code == 200
        except requests.RequestException:
            return False
