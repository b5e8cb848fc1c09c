"""A PostgreSQL of its own for tests: a new database on a unix socket, gone when it stops."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Self

from tools.stack.process import PartFailedError, ServerProcess, wait_until

__all__ = ["PostgresServer", "postgres_installed"]

# Nothing here outlives the server, so nothing has to reach the disk before it goes on.
_OPTIONS = {"listen_addresses": "", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def postgres_program(name: str) -> str | None:
    """Where a program of PostgreSQL is: in PATH, or the newest of those that Debian keeps outside of it."""
    kept = [path for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}") if path.parts[-3].isdigit()]
    newest = max(kept, key=lambda path: int(path.parts[-3]), default=None)
    return shutil.which(name) or (str(newest) if newest else None)


def postgres_installed() -> bool:
    """Whether the programs are there that :class:`PostgresServer` needs."""
    return all(postgres_program(name) for name in ("initdb", "postgres", "pg_isready"))


class PostgresServer:
    """Needs PostgreSQL's server programs (``tools/services/install.sh``).

    Nothing listens on TCP, and only its own user, or root, can reach the socket. The server refuses to run as root, and
    then runs as ``postgres``, or ``nobody``. Data and socket are in a temporary folder: that user cannot enter most
    folders of root, and a socket's path must fit 107 bytes.

    :param log: what the server writes.
    """

    def __init__(self, log: Path) -> None:
        program = _required("postgres")
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._data = self._folder / "data"
        self._log = log
        self._as_user = self._unprivileged()
        options = [argument for name, value in _OPTIONS.items() for argument in ("-c", f"{name}={value}")]
        command = [*self._as_user, program, "-D", str(self._data), "-k", str(self._folder), *options]
        self.process = ServerProcess("PostgreSQL", command, log=log, env=_environment(), cwd=self._folder)

    @property
    def url(self) -> str:
        """For SQLAlchemy with psycopg: the database that every new server has."""
        return f"postgresql+psycopg://airflow@/postgres?host={self._folder}"

    @property
    def airflow_settings(self) -> dict[str, str]:
        """The environment variables that make it Airflow's database."""
        # Airflow's default for the second is asyncpg, one more driver; psycopg does both.
        return dict.fromkeys(
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"), self.url
        )

    def start(self, timeout: float = 60.0) -> Self:
        """Make the database and start the server; returns when it takes connections.

        :raises PartFailedError: when it does not within ``timeout`` seconds, with the end of its log.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [*self._as_user, _required("initdb"), "-D", str(self._data), "-U", "airflow", "--auth=trust"]
        command += ["--encoding=UTF8", "--no-locale", "--no-sync"]
        with self._log.open("ab") as log:
            made = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=_environment(), cwd=self._folder, check=False
            )
        if made.returncode:
            raise PartFailedError("PostgreSQL", f"initdb ended with status {made.returncode}", self._log)
        self.process.start()
        wait_until(self._answers, [self.process], what="PostgreSQL", timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop it without waiting for its clients, and remove its data; does nothing when it does not run."""
        with suppress(PartFailedError, ProcessLookupError):
            os.kill(self.process.pid, signal.SIGINT)
        self.process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _unprivileged(self) -> list[str]:
        """What to put before a command; the folder then belongs to the one who runs it."""
        if os.geteuid() != 0:
            return []
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        os.chown(self._folder, user.pw_uid, user.pw_gid)
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

    def _answers(self) -> bool:
        command = [_required("pg_isready"), "--quiet", "--host", str(self._folder), "--username", "airflow"]
        return subprocess.run(command, env=_environment(), check=False).returncode == 0


def _required(name: str) -> str:
    found = postgres_program(name)
    if found is None:
        raise PartFailedError(name, "is not installed; run tools/services/install.sh")
    return found


def _environment() -> dict[str, str]:
    """The caller's, without what would point PostgreSQL elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}
