"""Many clips in one task."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator

with DAG("ours", schedule=None) as dag:
    ModelsLabVideo2VideoBatchOperator(
        task_id="restyle",
        source="{{ dag_run.conf['source'] }}",
        destination="{{ dag_run.conf['destination'] }}",
        prompt="an oil painting, warm colours",
        model_id="echo",
        seed=7,
        max_in_flight=15,  # what the queue of the largest plan takes
        deferrable=True,
    )
