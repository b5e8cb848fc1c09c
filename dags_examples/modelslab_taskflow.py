"""Write a function that returns a request. The task submits it, waits without a worker and stores the result in S3.

What the function returns goes before the attributes that the decorator has. It is checked before anything is sent. The
decorator takes all arguments of the operator, and the task can be mapped. The second task does a whole list as one
batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

RETRIES: dict[str, Any] = {"retries": 2}
try:
    from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy
except ImportError:
    pass  # Airflow 3.3 and later have retry policies
else:
    RETRIES["retry_policy"] = ModelsLabRetryPolicy()

CLIP = Path(__file__).parent / "media" / "clip.mp4"

with DAG(
    dag_id="modelslab_taskflow",
    schedule=None,
    default_args=RETRIES,
    tags=["modelslab", "example"],
    doc_md=__doc__,
    params={
        "clip": Param(str(CLIP), type="string", description="http(s) link, s3:// object or local file"),
        "model_id": Param("dark-sushi-mix", type="string"),
        "width": Param(384, type="integer", minimum=64, maximum=768, description="3:2, as the clip"),
        "height": Param(256, type="integer", minimum=64, maximum=768),
        "num_frames": Param(16, type="integer", minimum=1, maximum=25),
        "num_inference_steps": Param(20, type="integer", minimum=1, maximum=50),
        "strength": Param(0.5, type="number", minimum=0, maximum=1),
        "seed": Param(None, type=["null", "integer"]),
    },
    render_template_as_native_obj=True,
):
    # [START howto_decorator_modelslab_video2video]
    COMMON: dict[str, Any] = {
        "model_id": "{{ params.model_id }}",
        "width": "{{ params.width }}",
        "height": "{{ params.height }}",
        "num_frames": "{{ params.num_frames }}",
        "num_inference_steps": "{{ params.num_inference_steps }}",
        "strength": "{{ params.strength }}",
        "deferrable": True,
    }

    @task.modelslab_video2video(destination="taskflow/", **COMMON)
    def restyle(style: str, params: dict[str, Any]) -> dict[str, Any]:
        """One clip in one style."""
        return {"init_video": params["clip"], "prompt": f"{style}, warm colours", "seed": params["seed"] or len(style)}

    styles = restyle.expand(style=["an oil painting", "a woodcut"])
    # [END howto_decorator_modelslab_video2video]

    # [START howto_decorator_modelslab_video2video_batch]
    @task.modelslab_video2video_batch(destination="taskflow_batch/", prompt="at night", **COMMON)
    def again(made: Any) -> list[dict[str, Any]]:
        """Restyle each result once more."""
        return [{"init_video": video["uri"], "seed": video["seed"]} for video in made]

    again(styles)
    # [END howto_decorator_modelslab_video2video_batch]
