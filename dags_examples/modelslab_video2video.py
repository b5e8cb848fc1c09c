"""Restyle one clip. No worker is held during the wait. The result is in S3 before the next task starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

RETRIES: dict[str, Any] = {"retries": 2}
try:
    from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy
except ImportError:
    pass  # Airflow 3.3 and later have retry policies
else:
    RETRIES["retry_policy"] = ModelsLabRetryPolicy()

CLIP = Path(__file__).parent / "media" / "clip.mp4"

with DAG(
    dag_id="modelslab_video2video",
    schedule=None,
    default_args=RETRIES,
    tags=["modelslab", "example"],
    doc_md=__doc__,
    params={
        "clip": Param(str(CLIP), type="string", description="http(s) link, s3:// object or local file"),
        "prompt": Param("an oil painting, warm colours", type="string"),
        "model_id": Param("dark-sushi-mix", type="string"),
        "destination": Param("restyled/", type="string", description="s3://bucket/prefix/, or below the connection's"),
        "width": Param(384, type="integer", minimum=64, maximum=768, description="3:2, as the clip"),
        "height": Param(256, type="integer", minimum=64, maximum=768),
        "num_frames": Param(16, type="integer", minimum=1, maximum=25),
        "num_inference_steps": Param(20, type="integer", minimum=1, maximum=50),
        "strength": Param(0.5, type="number", minimum=0, maximum=1),
        "seed": Param(None, type=["null", "integer"]),
    },
):
    # [START howto_operator_modelslab_video2video]
    restyle = ModelsLabVideo2VideoOperator(
        task_id="restyle",
        init_video="{{ params.clip }}",
        prompt="{{ params.prompt }}",
        model_id="{{ params.model_id }}",
        width="{{ params.width }}",
        height="{{ params.height }}",
        num_frames="{{ params.num_frames }}",
        num_inference_steps="{{ params.num_inference_steps }}",
        strength="{{ params.strength }}",
        seed="{{ params.seed }}",
        destination="{{ params.destination }}",
        deferrable=True,
    )
    # [END howto_operator_modelslab_video2video]

    @task
    def use(manifest: Any) -> dict[str, Any]:
        """The result is in S3 by now; its sidecar tells how it was made."""
        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
        from airflow_provider_modelslab.storage.sidecar import read_sidecar
        from airflow_provider_modelslab.storage.uri import S3Uri

        s3 = ModelsLabHook(manifest["conn_id"]).get_s3_client()
        uri = S3Uri.parse(manifest["uri"])
        size = s3.head_object(Bucket=uri.bucket, Key=uri.key)["ContentLength"]
        sidecar = read_sidecar(s3, uri) or {}
        return {"uri": manifest["uri"], "bytes": size, "seed": sidecar.get("seed")}

    use(restyle.output)
