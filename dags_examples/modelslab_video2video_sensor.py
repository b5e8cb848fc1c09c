"""Submit in one task, wait in a sensor, and copy the result to S3 in a third task. Other tasks can run in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_modelslab.operators.land import ModelsLabVideo2VideoToS3Operator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.sensors.video2video import ModelsLabVideo2VideoSensor

RETRIES: dict[str, Any] = {"retries": 2}
try:
    from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy
except ImportError:
    pass  # Airflow 3.3 and later have retry policies
else:
    RETRIES["retry_policy"] = ModelsLabRetryPolicy()

CLIP = Path(__file__).parent / "media" / "clip.mp4"

with DAG(
    dag_id="modelslab_video2video_sensor",
    schedule=None,
    default_args=RETRIES,
    tags=["modelslab", "example"],
    doc_md=__doc__,
    params={
        "clip": Param(str(CLIP), type="string", description="http(s) link, s3:// object or local file"),
        "prompt": Param("a pencil drawing", type="string"),
        "model_id": Param("dark-sushi-mix", type="string"),
        "width": Param(384, type="integer", minimum=64, maximum=768, description="3:2, as the clip"),
        "height": Param(256, type="integer", minimum=64, maximum=768),
        "num_frames": Param(16, type="integer", minimum=1, maximum=25),
        "strength": Param(0.5, type="number", minimum=0, maximum=1),
        "seed": Param(None, type=["null", "integer"]),
    },
):
    # [START howto_operator_modelslab_video2video_submit]
    submit = ModelsLabVideo2VideoOperator(
        task_id="submit",
        init_video="{{ params.clip }}",
        prompt="{{ params.prompt }}",
        model_id="{{ params.model_id }}",
        width="{{ params.width }}",
        height="{{ params.height }}",
        num_frames="{{ params.num_frames }}",
        strength="{{ params.strength }}",
        seed="{{ params.seed }}",
        output_type="gif",
        wait_for_completion=False,
    )
    # [END howto_operator_modelslab_video2video_submit]
    # [START howto_sensor_modelslab_video2video]
    wait = ModelsLabVideo2VideoSensor(
        task_id="wait",
        job=submit.output,
        mode="reschedule",
        poke_interval=15,
        timeout=3600,
    )
    # [END howto_sensor_modelslab_video2video]
    # [START howto_operator_modelslab_video2video_to_s3]
    ModelsLabVideo2VideoToS3Operator(task_id="land", job=wait.output, destination="drawn/")
    # [END howto_operator_modelslab_video2video_to_s3]
