"""No task waits. One Dag submits and ends. The endpoint's webhook starts a second Dag, which stores the video in S3.

Needs ``[modelslab] webhook_conn_ids = modelslab_default``, and ``webhook_url`` and ``webhook_token`` in the extra of
that connection.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, Param, task

from airflow_provider_modelslab.operators.land import ModelsLabVideo2VideoToS3Operator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

RETRIES: dict[str, Any] = {"retries": 2}
try:
    from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy
except ImportError:
    pass  # Airflow 3.3 and later have retry policies
else:
    RETRIES["retry_policy"] = ModelsLabRetryPolicy()

CLIP = Path(__file__).parent / "media" / "clip.mp4"
CONNECTION = "modelslab_default"

# [START howto_webhook_modelslab_asset]
READY = Asset(f"x-modelslab://{CONNECTION}/finished")
# [END howto_webhook_modelslab_asset]

with DAG(
    dag_id="modelslab_webhook_submit",
    schedule=None,
    default_args=RETRIES,
    tags=["modelslab", "example"],
    doc_md=__doc__,
    params={
        "clip": Param(str(CLIP), type="string", description="http(s) link, s3:// object or local file"),
        "prompt": Param("a paper collage", type="string"),
        "model_id": Param("dark-sushi-mix", type="string"),
        "width": Param(384, type="integer", minimum=64, maximum=768, description="3:2, as the clip"),
        "height": Param(256, type="integer", minimum=64, maximum=768),
        "strength": Param(0.5, type="number", minimum=0, maximum=1),
        "seed": Param(None, type=["null", "integer"]),
    },
):
    # [START howto_webhook_modelslab_submit]
    ModelsLabVideo2VideoOperator(
        task_id="submit",
        modelslab_conn_id=CONNECTION,
        init_video="{{ params.clip }}",
        prompt="{{ params.prompt }}",
        model_id="{{ params.model_id }}",
        width="{{ params.width }}",
        height="{{ params.height }}",
        strength="{{ params.strength }}",
        seed="{{ params.seed }}",
        instant_response=True,
        wait_for_completion=False,
    )
    # [END howto_webhook_modelslab_submit]

# [START howto_webhook_modelslab_land]
with DAG(
    dag_id="modelslab_webhook_land",
    schedule=[READY],
    default_args=RETRIES,
    tags=["modelslab", "example"],
    doc_md=__doc__,
):

    @task
    def ready(triggering_asset_events: Any = None) -> list[dict[str, str]]:
        """The jobs of all events that started this run. Videos that are ready at the same time may share a run."""
        events = [event.extra for event in triggering_asset_events[READY]]
        return [{"job_id": extra["job_id"], "conn_id": extra["conn_id"]} for extra in events if "job_id" in extra]

    ModelsLabVideo2VideoToS3Operator.partial(task_id="land", destination="ready/").expand(job=ready())
# [END howto_webhook_modelslab_land]
