"""Restyle everything below an S3 prefix on your own GPU. One task loads the model once and uses it for all clips.

Make the pool first, with a slot for each GPU; a task whose pool is not there waits for ever:

    airflow pools set gpus 1 "one slot for each GPU"
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator

with DAG(
    dag_id="modelslab_local_batch",
    schedule=None,
    tags=["modelslab", "example"],
    doc_md=__doc__,
    params={
        "source": Param("s3://my-bucket/incoming/2026-11-22/", type="string", description="a prefix, or a manifest"),
        "destination": Param("restyled/2026-11-22/", type="string", description="s3://bucket/prefix/, or a prefix"),
        "prompt": Param("a poster in purple", type="string"),
        "model_id": Param("demo", type="string"),
        "size": Param(256, type="integer", minimum=64, maximum=768),
        "num_frames": Param(16, type="integer", minimum=1, maximum=25),
        "num_inference_steps": Param(20, type="integer", minimum=1, maximum=50),
    },
    render_template_as_native_obj=True,
):
    # [START howto_operator_modelslab_local_batch]
    LocalVideo2VideoBatchOperator(
        task_id="restyle",
        source="{{ params.source }}",
        destination="{{ params.destination }}",
        prompt="{{ params.prompt }}",
        model_id="{{ params.model_id }}",
        width="{{ params.size }}",
        height="{{ params.size }}",
        num_frames="{{ params.num_frames }}",
        num_inference_steps="{{ params.num_inference_steps }}",
        max_failed="5%",
        pool="gpus",
        queue="gpu",
        retries=2,
    )
    # [END howto_operator_modelslab_local_batch]
