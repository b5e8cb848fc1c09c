"""One task for each clip, each with the operator for one clip."""

from __future__ import annotations

import json
import os
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

BATCH = json.loads(Path(os.environ["BENCHMARK_BATCH"]).read_text())

with DAG("mapped", schedule=None) as dag:
    ModelsLabVideo2VideoOperator.partial(
        task_id="restyle",
        destination=f"s3://{BATCH['bucket']}/out/mapped/",
        prompt="an oil painting, warm colours",
        model_id="echo",
        seed=7,
        deferrable=True,
    ).expand(init_video=[f"s3://{BATCH['bucket']}/{key}" for key in BATCH["mapped"]])
