"""Restyle everything below an S3 prefix on your own GPU. One task loads the model once and uses it for all clips.

Make the pool first, with a slot for each GPU; a task whose pool is not there waits for ever:

    airflow pools set gpus 1 "one slot for each GPU"
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator

SOURCE = "{{ params.source or 's3://' ~ conn.modelslab_default.extra_dejson.bucket ~ '/incoming/' }}"
RETRIES: dict[str, Any] = {"retries": 2}
try:
    from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy
except ImportError:
    pass  # Airflow 3.3 and later have retry policies
else:
    RETRIES["retry_policy"] = ModelsLabRetryPolicy()

with DAG(
    dag_id="modelslab_local_batch",
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
        "destination": Param("local_batch/", type="string", description="s3://bucket/prefix/, or a prefix"),
        "prompt": Param("a poster in purple", type="string"),
        "model_id": Param("demo", type="string"),
        "width": Param(288, type="integer", minimum=64, maximum=768, description="3:2, as the clip"),
        "height": Param(192, type="integer", minimum=64, maximum=768),
        "num_frames": Param(16, type="integer", minimum=1, maximum=25),
        "num_inference_steps": Param(20, type="integer", minimum=1, maximum=50),
        "strength": Param(0.5, type="number", minimum=0, maximum=1),
        "seed": Param(None, type=["null", "integer"]),
    },
    render_template_as_native_obj=True,
):
    # [START howto_operator_modelslab_local_batch]
    LocalVideo2VideoBatchOperator(
        task_id="restyle",
        source=SOURCE,
        destination="{{ params.destination }}",
        prompt="{{ params.prompt }}",
        model_id="{{ params.model_id }}",
        width="{{ params.width }}",
        height="{{ params.height }}",
        num_frames="{{ params.num_frames }}",
        num_inference_steps="{{ params.num_inference_steps }}",
        strength="{{ params.strength }}",
        seed="{{ params.seed }}",
        max_failed="5%",
        pool="gpus",
        queue="gpu",
    )
    # [END howto_operator_modelslab_local_batch]
