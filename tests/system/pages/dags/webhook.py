"""A task that would look at its job only after minutes, so that what wakes it earlier is the webhook."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

with DAG(dag_id="webhook_wait", schedule=None):
    ModelsLabVideo2VideoOperator(
        task_id="restyle",
        modelslab_conn_id="modelslab_push",
        init_video="https://example.com/clip.mp4",
        check_input=False,
        prompt="a woodcut",
        model_id="tiny",
        destination="woken/",
        instant_response=True,
        deferrable=True,
        poll_interval=600,
        max_poll_interval=600,
    )
