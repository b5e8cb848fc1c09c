"""Restyle one clip and create an asset event. The event starts the Dag `modelslab_assets_downstream`.

The outlets of a task become asset events when it ends, also when it was deferred in between. Nothing has to be done for
them to say what was made:

- an `Asset`, which the scheduler knows beforehand: its event's `extra` has the manifest's `uri`, `bytes`, `sha256`,
  `seed`, `model_id`, `job_id`, and `reused`: true where the result of an earlier try was found and nothing was made.
- an `AssetAlias`: the landed object becomes an asset of its own, with the same `extra`.

Of a batch the `extra` has the counts and where its manifest lies; an alias gets the prefix, or, with
`asset_per_clip=True`, each result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, AssetAlias, Param

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
    dag_id="modelslab_assets",
    schedule=None,
    default_args=RETRIES,
    tags=["modelslab", "example"],
    doc_md=__doc__,
    params={
        "clip": Param(str(CLIP), type="string", description="http(s) link, s3:// object or local file"),
        "prompt": Param("an oil painting, warm colours", type="string"),
        "model_id": Param("dark-sushi-mix", type="string"),
        "width": Param(384, type="integer", minimum=64, maximum=768, description="3:2, as the clip"),
        "height": Param(256, type="integer", minimum=64, maximum=768),
        "num_frames": Param(16, type="integer", minimum=1, maximum=25),
        "num_inference_steps": Param(20, type="integer", minimum=1, maximum=50),
        "strength": Param(0.5, type="number", minimum=0, maximum=1),
        "seed": Param(None, type=["null", "integer"]),
    },
):
    # [START howto_assets_modelslab_video2video]
    ModelsLabVideo2VideoOperator(
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
        destination="restyled/",
        deferrable=True,
        outlets=[Asset("modelslab_restyled"), AssetAlias("modelslab_restyled_objects")],
    )
    # [END howto_assets_modelslab_video2video]
