"""The endpoint in a process of its own whose jobs wait until a test lets them end."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import requests

from tools.stack.process import ServerProcess, wait_until

__all__ = ["GatedEndpoint"]

_ROOT = Path(__file__).resolve().parents[2]


class GatedEndpoint:
    """Real clips of plain colours, real webhooks and bills; any key is accepted, and sees its own jobs alone.

    :param folder: its state and log.
    :param is_reading: whether it reads the clips, once a test lets it.
    :param env: more environment variables.
    """

    def __init__(self, folder: Path, *, is_reading: bool = False, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._gate = folder / "gate"
        self._ready = folder / "ready"
        self.log = folder / "endpoint.log"
        command = [sys.executable, "-m", "tests.support.endpoint_process"]
        command += [str(folder / "state"), str(self._gate), str(self._ready)]
        command += ["reading"] if is_reading else []
        env = {**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1", **(env or {})}
        self._process = ServerProcess("the endpoint with a gate", command, log=self.log, env=env, cwd=_ROOT)

    def start(self) -> Self:
        """Start it, with the gate shut."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process.start()
        wait_until(self._ready.exists, [self._process], what="the endpoint with a gate")
        return self

    def stop(self) -> None:
        """Stop it."""
        self._process.stop()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``."""
        return self._ready.read_text()

    def open(self) -> None:
        """Let all jobs end."""
        self._gate.touch()

    def shut(self) -> None:
        """Let no more jobs end."""
        self._gate.unlink(missing_ok=True)

    def submit(self, key: str, **attributes: Any) -> str:
        """Submit a job as somebody outside Airflow would; its id."""
        body: dict[str, Any] = {
            "key": key,
            "model_id": "tiny",
            "prompt": "x",
            "init_video": "https://example.com/clip.mp4",
        }
        body |= {"instant_response": True, "seed": None, **attributes}
        return str(self._call("enterprise/video/video2video", body)["id"])

    def fetch(self, key: str, job_id: str) -> dict[str, Any]:
        """Look at a job."""
        return self._call(f"enterprise/video/fetch/{job_id}", {"key": key})

    def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False
            answer: dict[str, Any] = session.post(f"{self.url}/api/v1/{path}", json=body, timeout=60).json()
            return answer
