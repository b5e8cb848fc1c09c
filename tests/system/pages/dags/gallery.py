"""Runs for the gallery's pages: one clip, a batch; told by the run's conf what to make of what."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task, task_group

from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

_COMMON: dict[str, Any] = {
    "model_id": "{{ dag_run.conf.get('model_id', 'dark-sushi-mix') }}",
    "prompt": "{{ dag_run.conf['prompt'] }}",
    "negative_prompt": "{{ dag_run.conf.get('negative_prompt', '') }}",
    "extra_parameters": "{{ dag_run.conf.get('extra') }}",
    "seed": "{{ dag_run.conf.get('seed', 7) }}",
    "strength": "{{ dag_run.conf.get('strength', 0.6) }}",
    "width": "{{ dag_run.conf.get('width', 192) }}",
    "height": "{{ dag_run.conf.get('height', 128) }}",
    "num_frames": 16,
    "fps": 8,
    "poll_interval": 0.5,
    "retries": 0,
}

with DAG("gallery_single", schedule=None, render_template_as_native_obj=True):
    ModelsLabVideo2VideoOperator(
        task_id="restyle", init_video="{{ dag_run.conf['source'] }}", deferrable=True, **_COMMON
    )
    EmptyOperator(task_id="nothing")

with DAG("gallery_batch", schedule=None, render_template_as_native_obj=True):
    ModelsLabVideo2VideoBatchOperator(
        task_id="restyle_all",
        source="{{ dag_run.conf['source'] }}",
        destination="{{ dag_run.conf['destination'] }}",
        max_failed="{{ dag_run.conf.get('max_failed', 0) }}",
        **_COMMON,
    )

if hasattr(task_group(lambda: None), "loop"):  # Airflow 3.4
    with DAG("gallery_loop", schedule=None, render_template_as_native_obj=True):

        def regenerate() -> None:
            """One try at the video."""
            given = {**_COMMON, "seed": "{{ loop.index }}"}
            restyle = ModelsLabVideo2VideoOperator(
                task_id="restyle", init_video="{{ dag_run.conf['source'] }}", deferrable=True, **given
            )

            @task
            def check(manifest: Any) -> dict[str, Any]:
                return {"accepted": manifest["seed"] >= 1}

            check(restyle.output)

        def accepted(*, loop: Any) -> bool:
            """Whether the loop ends."""
            return bool(loop.result["accepted"])

        tries: Any = task_group(regenerate)
        tries.loop(max_iterations=3, until=accepted)
