"""Restyle everything below an S3 prefix in one task. Each clip is paid for once; a manifest lists all outcomes.

A rerun does only what is missing. The last task reads what became of each clip.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator

SOURCE = "{{ params.source or 's3://' ~ conn.modelslab_default.extra_dejson.bucket ~ '/incoming/' }}"
RETRIES: dict[str, Any] = {"retries": 2}
try:
    from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy
except ImportError:
    pass  # Airflow 3.3 and later have retry policies
else:
    RETRIES["retry_policy"] = ModelsLabRetryPolicy()

with DAG(
    dag_id="modelslab_batch",
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
        "pattern": Param(None, type=["null", "string"], description="a glob below the prefix; all videos by default"),
        "destination": Param("batch/", type="string", description="s3://bucket/prefix/, or a prefix"),
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
    # [START howto_operator_modelslab_batch]
    restyle = ModelsLabVideo2VideoBatchOperator(
        task_id="restyle",
        source=SOURCE,
        pattern="{{ params.pattern }}",
        destination="{{ params.destination }}",
        prompt="{{ params.prompt }}",
        model_id="{{ params.model_id }}",
        width="{{ params.width }}",
        height="{{ params.height }}",
        num_frames="{{ params.num_frames }}",
        num_inference_steps="{{ params.num_inference_steps }}",
        strength="{{ params.strength }}",
        seed="{{ params.seed }}",
        max_in_flight=10,
        max_failed="5%",
        deferrable=True,
    )
    # [END howto_operator_modelslab_batch]

    @task
    def use(summary: Any) -> list[str]:
        """The results that are there, new or from an earlier run, from the manifest with one line for each clip."""
        import json

        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
        from airflow_provider_modelslab.storage.uri import S3Uri

        manifest = S3Uri.parse(summary["manifest"])
        body = ModelsLabHook().get_s3_client().get_object(Bucket=manifest.bucket, Key=manifest.key)["Body"].read()
        clips = [json.loads(line) for line in body.splitlines()]
        return [clip["uri"] for clip in clips if clip["status"] in {"landed", "skipped"}]

    use(restyle.output)
