"""The call paths from ``execute`` of the two operators to the POST of the submit, from real runs of their tasks.

The tasks run in this process against the endpoint, served by a process of its own, and an S3 server over TLS.
"""

from __future__ import annotations

import inspect
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import urlsplit

from tools.house.call_paths import CallPaths
from tools.make_clip import DEFAULT_PATH
from tools.stack.endpoint import EndpointProcess
from tools.stack.s3 import S3Server

if TYPE_CHECKING:
    import requests
    from airflow.sdk import BaseOperator

__all__ = ["SubmitPath", "submit_paths"]

PACKAGE = "airflow_provider_modelslab"
_BUCKET = "clips"
_KEY = "key-of-the-local-endpoint"


@dataclass(frozen=True)
class SubmitPath:
    """The package's frames between the task and the POST, as ``module:function``.

    :param wrappers: those above ``execute``, such as decorators.
    :param frames: from ``execute`` to the function that has requests send.
    """

    wrappers: tuple[str, ...]
    frames: tuple[str, ...]


def submit_paths() -> tuple[SubmitPath, SubmitPath]:
    """Those of ``ModelsLabVideo2VideoOperator`` and of ``ModelsLabVideo2VideoBatchOperator``.

    :raises LookupError: when a task sends no submit that its ``execute`` leads to.
    :raises PartFailedError: when the endpoint or the S3 server does not start.
    """
    with _connected():
        # Airflow reads its settings when it is imported.
        from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
        from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

        common: dict[str, Any] = {"model_id": "dark-sushi-mix", "prompt": "a fox", "num_frames": 2, "deferrable": False}
        common |= {"instant_response": False}  # the result comes with the answer, so there is nothing to poll
        folder = f"s3://{_BUCKET}/in/"
        single = ModelsLabVideo2VideoOperator(
            task_id="single", init_video=f"{folder}clip.mp4", destination="out.mp4", **common
        )
        batch = ModelsLabVideo2VideoBatchOperator(task_id="batch", source=folder, destination="out/", **common)
        return _path_of(single), _path_of(batch)


def _path_of(task: BaseOperator) -> SubmitPath:
    """Run the task; of several submits the one with the longest path counts."""
    from tests.support.tasks import execute

    recorder = CallPaths(PACKAGE, _is_submit)
    with recorder.recording():
        execute(task)
    code = inspect.unwrap(type(task).execute).__code__
    paths = []
    for path in recorder.paths:
        depth = next((number for number, frame in enumerate(path) if frame.code is code), None)
        if depth is None:
            raise LookupError(f"{task.task_id}: execute does not lead to the submit: {' > '.join(map(str, path))}")
        wrappers = tuple(str(frame) for frame in path[:depth] if not frame.module.startswith(f"{PACKAGE}.testing."))
        paths.append(SubmitPath(wrappers, tuple(map(str, path[depth:]))))
    if not paths:
        raise LookupError(f"{task.task_id}: the task has ended without a submit")
    return max(paths, key=lambda path: len(path.frames))


def _is_submit(request: requests.PreparedRequest) -> bool:
    return request.method == "POST" and urlsplit(request.url or "").path.endswith("/video2video")


@contextmanager
def _connected() -> Iterator[None]:
    """Both servers, a clip, and an Airflow of its own with connections to them."""
    with tempfile.TemporaryDirectory() as name, S3Server(Path(name, "s3")) as server:
        folder = Path(name)
        s3 = server.client()
        s3.create_bucket(Bucket=_BUCKET)
        s3.upload_file(str(DEFAULT_PATH), _BUCKET, "in/clip.mp4")
        s3.close()
        endpoint = EndpointProcess(folder / "endpoint", key=_KEY, arguments=("--engine", "echo"))
        try:
            with mock.patch.dict(os.environ, _environment(folder, endpoint.start().url, server), clear=True):
                yield
        finally:
            endpoint.stop()


def _environment(folder: Path, endpoint_url: str, server: S3Server) -> dict[str, str]:
    profile = {"bucket": _BUCKET, "region": server.region, "endpoint_url": server.endpoint_url}
    modelslab = {"conn_type": "modelslab", "host": endpoint_url, "password": _KEY, "extra": profile}
    trust = {"verify": str(server.ca_path)}
    aws = {"conn_type": "aws", "login": server.access_key, "password": server.secret_key, "extra": trust}
    users_own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    return users_own | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW_CONN_MODELSLAB_DEFAULT": json.dumps(modelslab),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        # Loopback is reached directly, whatever proxy the machine has.
        "no_proxy": "127.0.0.1",
        "NO_PROXY": "127.0.0.1",
    }
