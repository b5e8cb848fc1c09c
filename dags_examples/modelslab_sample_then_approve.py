"""Restyle a sample of a prefix and wait for a person's approval. Then restyle the rest. No clip is paid for twice.

The person looks at the sample in the gallery and answers under *Required Actions*. After *Reject* the run ends and
nothing more is paid for. On Airflow 3.1 and 3.2 the triggerer waits for the answer, so it has to run; later versions
need none for that. On 3.1 the form also shows the params of the Dag; what is typed there has no effect.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Param

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
    dag_id="modelslab_sample_then_approve",
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
        "destination": Param("sampled/", type="string", description="s3://bucket/prefix/, or a prefix"),
        "sample": Param(5, type="integer", minimum=1, description="clips that are made before anybody is asked"),
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
    # [START howto_modelslab_sample_then_approve]
    COMMON: dict[str, Any] = {  # the same for both, or the rest would be another batch
        "source": SOURCE,
        "destination": "{{ params.destination }}",
        "prompt": "{{ params.prompt }}",
        "model_id": "{{ params.model_id }}",
        "width": "{{ params.width }}",
        "height": "{{ params.height }}",
        "num_frames": "{{ params.num_frames }}",
        "num_inference_steps": "{{ params.num_inference_steps }}",
        "strength": "{{ params.strength }}",
        "seed": "{{ params.seed }}",
        "deferrable": True,
    }
    sample = ModelsLabVideo2VideoBatchOperator(task_id="sample", sample="{{ params.sample }}", **COMMON)
    approve = ApprovalOperator(
        task_id="approve",
        subject="Restyle the rest of {{ params.source }}?",
        body=(
            "{% set made = ti.xcom_pull(task_ids='sample') %}"
            "{{ made.found }} clips are made, {{ made.ignored.get('not in the sample', 0) }} are left. "
            "[The sample in the gallery](modelslab/gallery/?dag_id={{ dag.dag_id | urlencode }}"
            "&run_id={{ run_id | urlencode }}&task_id=sample&map_index=-1)"
        ),
    )
    rest = ModelsLabVideo2VideoBatchOperator(
        task_id="rest", **COMMON
    )  # finds the sample, and does not pay for it again
    sample >> approve >> rest
    # [END howto_modelslab_sample_then_approve]
