"""Submit in one task, wait in a sensor, and copy the result to S3 in a third task. Other tasks can run in between."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, Param

from airflow_provider_modelslab.operators.land import ModelsLabVideo2VideoToS3Operator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.sensors.video2video import ModelsLabVideo2VideoSensor

CLIP = Path(__file__).parent / "media" / "clip.mp4"

with DAG(
    dag_id="modelslab_video2video_sensor",
    schedule=None,
    tags=["modelslab", "example"],
    doc_md=__doc__,
    default_args={"retries": 2},
    params={
        "clip": Param(str(CLIP), type="string", description="http(s) link, s3:// object or local file"),
        "prompt": Param("a pencil drawing", type="string"),
        "model_id": Param("dark-sushi-mix", type="string"),
        "size": Param(512, type="integer", minimum=64, maximum=768),
        "num_frames": Param(16, type="integer", minimum=1, maximum=25),
    },
):
    # [START howto_operator_modelslab_video2video_submit]
    submit = ModelsLabVideo2VideoOperator(
        task_id="submit",
        init_video="{{ params.clip }}",
        prompt="{{ params.prompt }}",
        model_id="{{ params.model_id }}",
        width="{{ params.size }}",
        height="{{ params.size }}",
        num_frames="{{ params.num_frames }}",
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
