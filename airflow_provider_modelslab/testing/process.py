"""A server in a process group of its own: started with a log file, waited for, and stopped with all its children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["WAIT_TIMEOUT_S", "PartFailedError", "ServerProcess", "free_port", "wait_until"]

WAIT_TIMEOUT_S = 600.0
"""How long a real server may take, on a machine that is busy with other things. One that dies ends the wait at once."""


class PartFailedError(RuntimeError):
    """A server did not start, or it ended.

    :param part: which one, in words.
    :param log: where its output is.
    """

    def __init__(self, part: str, problem: str, log: Path | None = None) -> None:
        tail = ""
        if log is not None and log.exists():
            lines = log.read_text(errors="replace").splitlines()[-15:]
            tail = f"\nIts log is {log}; it ends with:\n  " + "\n  ".join(lines)
        super().__init__(f"{part}: {problem}{tail}")
        self.part = part
        self.log = log


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is this process's own until it ends.

    Nobody listens there, so connections are refused, until a server of ours is told to. The socket that stays bound
    keeps the system from giving the port to anybody who asks for any port; a server that sets ``SO_REUSEADDR``, as they
    all do, can listen beside it.
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    port: int = probe.getsockname()[1]
    probe.detach()  # stays open: the end of the process closes it
    return port


class ServerProcess:
    """One server process.

    :param name: what to call it in messages.
    :param command: program and arguments.
    :param log: file that gets stdout and stderr.
    :param env: the whole environment; the caller's by default.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.env = env
        self.cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._has_sigterm = False

    @property
    def pid(self) -> int:
        """The process id, which is the id of its group too.

        :raises PartFailedError: when it does not run.
        """
        if self._process is None:
            raise PartFailedError(self.name, "is not running", self.log)
        return self._process.pid

    @property
    def started(self) -> bool:
        """Whether it was started, and not stopped since; it may have ended by itself."""
        return self._process is not None

    def start(self) -> None:
        """Start it; returns at once."""
        self._has_sigterm = False
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the caller's own command, without a shell
                self.command, stdout=log, stderr=subprocess.STDOUT, env=self.env, cwd=self.cwd, start_new_session=True
            )

    def require_alive(self) -> None:
        """Say what happened when it has ended.

        :raises PartFailedError: with the end of its log.
        """
        if self._process is None:
            raise PartFailedError(self.name, "is not running", self.log)
        status = self._process.poll()
        if status is not None:
            raise PartFailedError(self.name, f"ended with status {status}", self.log)

    def kill(self) -> None:
        """Send SIGKILL to the whole group, as the out-of-memory killer or a lost machine would."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop the whole group where it is, as a machine that is suspended does; it does not notice."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen group go on."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Send SIGTERM to the group, once; returns at once.

        To many servers a second one means that they are not to tidy up.
        """
        if not self._has_sigterm:
            self._signal(signal.SIGTERM)
        self._has_sigterm = True

    def stop(self, grace: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after ``grace`` seconds; does nothing when it does not run."""
        if self._process is None:
            return
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return


def wait_until(
    ready: Callable[[], bool],
    processes: Sequence[ServerProcess],
    *,
    what: str,
    timeout: float = WAIT_TIMEOUT_S,
    interval: float = 0.2,
) -> None:
    """Poll until ``ready()``, while all processes live.

    :raises PartFailedError: when one of them dies, or after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        for process in processes:
            process.require_alive()
        if time.monotonic() > deadline:
            raise PartFailedError(what, f"was not ready after {timeout:.0f} s", processes[0].log if processes else None)
        time.sleep(interval)
