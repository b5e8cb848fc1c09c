"""A Redis of its own for tests: a queue in memory on a free port of 127.0.0.1."""

from __future__ import annotations

import secrets
import shutil
import socket
from pathlib import Path
from typing import Self

from tools.stack.process import PartFailedError, ServerProcess, free_port, wait_until

__all__ = ["RedisServer"]


class RedisServer:
    """Needs ``redis-server`` (``tools/services/install.sh``). It keeps nothing, and asks for a password.

    :param folder: for its configuration and its log.
    """

    def __init__(self, folder: Path) -> None:
        self._configuration = folder / "redis.conf"
        self._port = free_port()
        self._password = secrets.token_urlsafe(24)
        program = shutil.which("redis-server")
        if program is None:
            raise PartFailedError("redis-server", "is not installed; run tools/services/install.sh")
        command = [program, str(self._configuration)]
        self.process = ServerProcess("Redis", command, log=folder / "redis.log")

    @property
    def url(self) -> str:
        """For Celery, with the password."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def start(self, timeout: float = 30.0) -> Self:
        """Start it; returns when it listens.

        :raises PartFailedError: when it does not within ``timeout`` seconds, with the end of its log.
        """
        self._configuration.parent.mkdir(parents=True, exist_ok=True)
        # The messages carry the tasks' tokens, so neither the port nor the file is for other users of the machine.
        self._configuration.touch(mode=0o600)
        options = {"bind": "127.0.0.1", "port": self._port, "requirepass": self._password}
        options |= {"save": '""', "appendonly": "no", "dir": f'"{self._configuration.parent}"'}
        self._configuration.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        self.process.start()
        wait_until(self._listens, [self.process], what="Redis", timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop it; does nothing when it does not run."""
        self.process.stop()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(2)
            return probe.connect_ex(("127.0.0.1", self._port)) == 0
