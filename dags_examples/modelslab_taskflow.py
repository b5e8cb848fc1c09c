"""Write a function that returns a request. The task submits it, waits without a worker and stores the result in S3.

What the function returns goes before the attributes that the decorator has. It is checked before anything is sent. The
decorator takes all arguments of the operator, and the task can be mapped. The second task does a whole list as one
batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

CLIP = Path(__file__).parent / "media" / "clip.mp4"

with DAG(
    dag_id="modelslab_taskflow",
    schedule=None,
    tags=["modelslab", "example"],
    doc_md=__doc__,
    params={
        "clip": Param(str(CLIP), type="string", description="http(s) link, s3:// object or local file"),
        "model_id": Param("dark-sushi-mix", type="string"),
        "size": Param(512, type="integer", minimum=64, maximum=768),
        "num_frames": Param(16, type="integer", minimum=1, maximum=25),
        "num_inference_steps": Param(20, type="integer", minimum=1, maximum=50),
    },
    render_template_as_native_obj=True,
):
    # [START howto_decorator_modelslab_video2video]
    COMMON: dict[str, Any] = {
        "model_id": "{{ params.model_id }}",
        "width": "{{ params.size }}",
        "height": "{{ params.size }}",
        "num_frames": "{{ params.num_frames }}",
        "num_inference_steps": "{{ params.num_inference_steps }}",
        "deferrable": True,
        "retries": 2,
    }

    @task.modelslab_video2video(destination="taskflow/", strength=0.6, **COMMON)
    def restyle(style: str, params: dict[str, Any]) -> dict[str, Any]:
        """One clip in one style."""
        return {"init_video": params["clip"], "prompt": f"{style}, warm colours", "seed": len(style)}

    styles = restyle.expand(style=["an oil painting", "a woodcut"])
    # [END howto_decorator_modelslab_video2video]

    # [START howto_decorator_modelslab_video2video_batch]
    @task.modelslab_video2video_batch(destination="taskflow_batch/", prompt="at night", **COMMON)
    def again(made: Any) -> list[dict[str, Any]]:
        """Restyle each result once more."""
        return [{"init_video": video["uri"], "seed": video["seed"]} for video in made]

    again(styles)
    # [END howto_decorator_modelslab_video2video_batch]
