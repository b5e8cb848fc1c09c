"""Tasks whose lineage events are looked at."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

COMMON: dict[str, Any] = {
    "model_id": "tiny",
    "prompt": "a fox",
    "num_frames": 4,
    "poll_interval": 0.2,
    "deferrable": True,
}

with DAG("lineage", schedule=None):
    clip = ModelsLabVideo2VideoOperator(
        task_id="clip",
        init_video="{{ dag_run.conf.clip }}",
        seed="{{ 7 }}",
        webhook="http://127.0.0.1:9/hook?token=not-to-be-told",
        destination="one/",
        **COMMON,
    )
    batch = ModelsLabVideo2VideoBatchOperator(
        task_id="batch", source="{{ dag_run.conf.source }}", destination="many/", defer_after=0.1, **COMMON
    )

    @task.modelslab_video2video(destination="function/", **COMMON)
    def function(dag_run: Any = None) -> dict[str, Any]:
        """What the decorator leaves open."""
        return {"init_video": dag_run.conf["clip"], "seed": 9}

    fails = ModelsLabVideo2VideoOperator(
        task_id="fails",
        init_video="{{ dag_run.conf.clip }}",
        destination="fails/",
        extra_parameters={"x_faults": {"job_failed": {}}},
        **COMMON,
    )
    # One after the other, or on a small machine four processes start at once.
    clip >> batch >> function() >> fails
