"""The real operator, in task processes that die (or stop and wait) once, at the point that the run's conf names.

``{"die": {"at": <one of POINTS>, "marker": <a file>, "how": "kill" or "wait"}}``: a process that comes to the point
when there is no such file writes its id to it. Then it is killed with SIGKILL, or waits until there is a file of this
name with ``.go`` behind it. For the task loop it is a list with one of these for each iteration.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airflow.sdk import DAG, Context, task_group

from airflow_provider_modelslab.compat import loop_index
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.storage.base64_stream import VideoStream


def die(asked: Mapping[str, str]) -> None:
    """Once; the next process that comes here goes on."""
    marker = Path(asked["marker"])
    try:
        with marker.open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return
    if asked.get("how") == "wait":
        while not marker.with_name(f"{marker.name}.go").exists():
            time.sleep(0.05)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def dying(original: Callable[..., Any], when: str, entry: str | None, asked: Mapping[str, str]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(self: object, *args: Any, **kwargs: Any) -> Any:
        here = entry is None or str(args[0]).endswith(f"-{entry}")
        if here and when == "before":
            die(asked)
        result = original(self, *args, **kwargs)
        if here and when == "after":
            die(asked)
        return result

    return wrapped


@contextmanager
def mortal(context: Context) -> Iterator[None]:
    """Have this process die where it was told to."""
    asked = (context["dag_run"].conf or {}).get("die")
    if isinstance(asked, list):
        asked = asked[loop_index(context) or 0]
    if asked is None:
        yield
        return
    owner, name, when, entry = POINTS[asked["at"]]
    with (
        patch.object(owner, name, dying(getattr(owner, name), when, entry, asked)),
        patch.object(ModelsLabHook, "submit_lease", lambda _: 3600.0),  # its claim outlives every wait of a test
    ):
        yield


class Mortal:
    """Goes before an operator among the base classes: both of its runs may die."""

    def execute(self, context: Context) -> dict[str, Any]:
        with mortal(context):
            return super().execute(context)  # type: ignore[misc,no-any-return]

    def execute_complete(self, context: Context, *args: Any, **kwargs: Any) -> dict[str, Any]:
        with mortal(context):
            return super().execute_complete(context, *args, **kwargs)  # type: ignore[misc,no-any-return]


class MortalOperator(Mortal, ModelsLabVideo2VideoOperator):
    pass


class MortalBatchOperator(Mortal, ModelsLabVideo2VideoBatchOperator):
    pass


# Point: class, method, whether before or after it, and for which ledger entry where that matters.
POINTS = {
    "before claim": (S3LedgerStore, "create", "before", "claim"),
    "after claim": (ModelsLabHook, "submit", "before", None),
    "after submit": (ModelsLabHook, "submit", "after", None),
    "after id": (S3LedgerStore, "create", "after", "job"),
    "while landing": (VideoStream, "finish", "before", None),  # all bytes have come, none is to be seen in S3
    "object in S3": (S3LedgerStore, "create", "before", "landed"),
    "before XCom": (MortalOperator, "_finish", "after", None),
}


CLIP: dict[str, Any] = {
    "task_id": "clip",
    "modelslab_conn_id": "modelslab_echo",
    "model_id": "echo",
    "prompt": "{{ params.prompt }}",
    "width": 64,
    "height": 64,
    "num_frames": 4,
    "seed": 7,
    "extra_parameters": {"x_faults": "{{ params.faults }}"},
    "poll_interval": 0.5,
    "max_poll_interval": 1.0,
    "timeout": 900,
    "retries": 2,
    "retry_delay": 1,
}
DAG_ARGUMENTS: dict[str, Any] = {"max_active_runs": 50, "render_template_as_native_obj": True}
PARAMS = {"prompt": "a fox", "faults": []}

for dag_id, deferrable in (("paid_once", True), ("paid_once_blocking", False)):
    with DAG(dag_id, schedule=None, params=PARAMS, **DAG_ARGUMENTS):
        MortalOperator(init_video=str(Path(__file__).parent / "media" / "clip.mp4"), deferrable=deferrable, **CLIP)

with DAG("paid_once_batch", schedule=None, params={**PARAMS, "source": "s3://bucket/in/"}, **DAG_ARGUMENTS):
    MortalBatchOperator(
        source="{{ params.source }}", destination="batches/{{ run_id }}/", deferrable=True, defer_after=0.0, **CLIP
    )

if hasattr(task_group(lambda: None), "loop"):  # Airflow 3.4
    with DAG("paid_once_loop", schedule=None, params=PARAMS, **DAG_ARGUMENTS):

        def again() -> None:
            clip = str(Path(__file__).parent / "media" / "clip.mp4")
            MortalOperator(init_video=clip, deferrable=False, **CLIP | {"seed": "{{ loop.index }}"})

        three: Any = task_group(again)
        three.loop(max_iterations=3)
