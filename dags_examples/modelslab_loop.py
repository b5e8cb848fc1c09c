"""Make a video again with another seed until it passes a check. Uses a task loop of Airflow 3.4 and later.

Each iteration pays for its own job, and its result has its own name in S3. Retries and clears of an iteration pay for
nothing twice. The check here looks at the size of the file; a real one would ask a model, or a person.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task, task_group

from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

RETRIES: dict[str, Any] = {"retries": 2}
try:
    from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy
except ImportError:
    pass  # Airflow 3.3 and later have retry policies
else:
    RETRIES["retry_policy"] = ModelsLabRetryPolicy()

CLIP = Path(__file__).parent / "media" / "clip.mp4"

if hasattr(task_group(lambda: None), "loop"):  # Airflow 3.4
    with DAG(
        dag_id="modelslab_loop",
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
            "min_bytes": Param(10_000, type="integer", minimum=0, description="a result of this size passes the check"),
        },
    ):
        # [START howto_loop_modelslab_video2video]
        def regenerate() -> None:
            """One try at the video."""
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
                seed="{{ (params.seed or 0) + loop.index }}",
                deferrable=True,
            )

            @task
            def check(manifest: Any, **context: Any) -> dict[str, Any]:
                """The URI of the result, and whether it is accepted."""
                return {"uri": manifest["uri"], "accepted": manifest["bytes"] >= context["params"]["min_bytes"]}

            check(restyle.output)

        def accepted(*, loop: Any) -> bool:
            """Whether the loop ends."""
            return bool(loop.result["accepted"])

        tries: Any = task_group(regenerate)
        tries.loop(max_iterations=3, until=accepted)
        # [END howto_loop_modelslab_video2video]
