"""Restyle one clip on your own GPU and at the endpoint. A pool for each limits how many jobs run at once.

Make the two pools first; tasks of a pool that is not there wait for ever:

    airflow pools set gpus 1 "one slot for each GPU"
    airflow pools set --include-deferred modelslab 5 "jobs that the account may have in its queue"

Under CeleryExecutor or EdgeExecutor a worker on the machine with the GPU takes the queue `gpu`; under
KubernetesExecutor the pod of the task asks for a GPU. Other executors leave queue and pod aside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

RETRIES: dict[str, Any] = {"retries": 2}
try:
    from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy
except ImportError:
    pass  # Airflow 3.3 and later have retry policies
else:
    RETRIES["retry_policy"] = ModelsLabRetryPolicy()

CLIP = Path(__file__).parent / "media" / "clip.mp4"

# [START howto_executor_config_gpu_pod]
ON_ONE_GPU: dict[str, Any] = {}
try:
    from kubernetes.client import models as k8s
except ImportError:
    pass  # this Airflow starts no pods
else:
    main = k8s.V1Container(name="base", resources=k8s.V1ResourceRequirements(limits={"nvidia.com/gpu": "1"}))
    ON_ONE_GPU["pod_override"] = k8s.V1Pod(spec=k8s.V1PodSpec(containers=[main]))
# [END howto_executor_config_gpu_pod]

with DAG(
    dag_id="modelslab_gpu_pool",
    schedule=None,
    default_args=RETRIES,
    tags=["modelslab", "example"],
    doc_md=__doc__,
    params={
        "clip": Param(str(CLIP), type="string", description="http(s) link, s3:// object or local file"),
        "prompt": Param("a charcoal sketch", type="string"),
        "model_id": Param("epicrealismnaturalsi", type="string", description="own_gpu needs safetensors"),
        "width": Param(384, type="integer", minimum=64, maximum=768, description="3:2, as the clip"),
        "height": Param(256, type="integer", minimum=64, maximum=768),
        "num_frames": Param(16, type="integer", minimum=1, maximum=25),
        "num_inference_steps": Param(20, type="integer", minimum=1, maximum=50),
        "strength": Param(0.5, type="number", minimum=0, maximum=1),
        "seed": Param(None, type=["null", "integer"]),
    },
):
    # [START howto_operator_modelslab_gpu_pool]
    clip: dict[str, Any] = {
        "init_video": "{{ params.clip }}",
        "prompt": "{{ params.prompt }}",
        "model_id": "{{ params.model_id }}",
        "width": "{{ params.width }}",
        "height": "{{ params.height }}",
        "num_frames": "{{ params.num_frames }}",
        "num_inference_steps": "{{ params.num_inference_steps }}",
        "strength": "{{ params.strength }}",
        "seed": "{{ params.seed }}",
    }
    LocalVideo2VideoOperator(
        task_id="own_gpu",
        **clip,
        destination="own_gpu/",
        pool="gpus",
        queue="gpu",
        executor_config=ON_ONE_GPU,
    )
    # [END howto_operator_modelslab_gpu_pool]
    # [START howto_operator_modelslab_endpoint_pool]
    ModelsLabVideo2VideoOperator(
        task_id="endpoint",
        **clip,
        destination="endpoint/",
        pool="modelslab",
        deferrable=True,
    )
    # [END howto_operator_modelslab_endpoint_pool]
