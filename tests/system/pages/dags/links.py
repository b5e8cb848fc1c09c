"""Tasks whose links are looked at: one clip, whose job waits behind a gate, and a batch that is done at once."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

with DAG(dag_id="links", schedule=None):
    ModelsLabVideo2VideoOperator(
        task_id="restyle",
        modelslab_conn_id="modelslab_links",
        init_video="s3://pages-tests/links/inputs/clip.mp4",
        prompt="a woodcut",
        model_id="tiny",
        num_frames=4,
        width=64,
        height=64,
        destination="restyled/",
        deferrable=True,
        poll_interval=0.5,
        max_poll_interval=0.5,
    )

with DAG(dag_id="links_batch", schedule=None):
    ModelsLabVideo2VideoBatchOperator(
        task_id="all",
        source=["s3://pages-tests/links/inputs/clip.mp4"],
        prompt="a woodcut",
        model_id="tiny",
        num_frames=4,
        width=64,
        height=64,
        destination="s3://pages-tests/links/batch/",
        poll_interval=0.2,
    )
