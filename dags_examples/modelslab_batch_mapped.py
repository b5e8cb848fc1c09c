"""Spread a prefix over workers. One task finds, checks and names the clips. Each mapped task restyles one chunk.

Without ``clips_per_task`` each mapped task is one clip, with the operator of one clip; see the comment below.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator

SOURCE = "{{ params.source or 's3://' ~ conn.modelslab_default.extra_dejson.bucket ~ '/incoming/' }}"
RETRIES: dict[str, Any] = {"retries": 2}
try:
    from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy
except ImportError:
    pass  # Airflow 3.3 and later have retry policies
else:
    RETRIES["retry_policy"] = ModelsLabRetryPolicy()

with DAG(
    dag_id="modelslab_batch_mapped",
    schedule=None,
    default_args=RETRIES,
    tags=["modelslab", "example"],
    doc_md=__doc__,
    params={
        "source": Param(
            None,
            type=["null", "string"],
            description="a prefix or a manifest; incoming/ in the connection's bucket by default",
        ),
        "destination": Param("batch_mapped/", type="string", description="s3://bucket/prefix/, or a prefix"),
        "prompt": Param("an oil painting, warm colours", type="string"),
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
    # [START howto_operator_modelslab_batch_mapped]
    clips = ModelsLabPlanClipsOperator(
        task_id="clips",
        source=SOURCE,
        destination="{{ params.destination }}",
        clips_per_task=200,
    )
    ModelsLabVideo2VideoBatchOperator.partial(
        task_id="restyle",
        destination="{{ params.destination }}",
        prompt="{{ params.prompt }}",
        model_id="{{ params.model_id }}",
        width="{{ params.width }}",
        height="{{ params.height }}",
        num_frames="{{ params.num_frames }}",
        num_inference_steps="{{ params.num_inference_steps }}",
        strength="{{ params.strength }}",
        seed="{{ params.seed }}",
        max_in_flight=5,
        max_active_tis_per_dagrun=2,  # 2 tasks x 5 jobs: at most the account's queue
        deferrable=True,
    ).expand_kwargs(clips.output)
    # With one clip for each task: no clips_per_task above, and here
    #     ModelsLabVideo2VideoOperator.partial(task_id="restyle", prompt=..., model_id=...).expand_kwargs(clips.output)
    # [END howto_operator_modelslab_batch_mapped]
