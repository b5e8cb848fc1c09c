"""A submit that is refused until the worker gives up, and accepted when the task runs again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import ChainRetryPolicy, ExceptionRetryPolicy, RetryRule
from airflow.sdk import DAG

from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy

with DAG("rate_limited", schedule=None):
    ModelsLabVideo2VideoOperator(
        task_id="clip",
        modelslab_conn_id="modelslab_echo",
        init_video=str(Path(__file__).parent / "media" / "clip.mp4"),
        model_id="echo",
        prompt="a fox",
        track_id="rate-limited",
        extra_parameters={"x_faults": {"rate_limit": {"submits": 6, "retry_after": 0}}},  # 5 submits in one run
        deferrable=False,
        poll_interval=0.5,
        retries=1,
        retry_delay=1,
        retry_policy=ChainRetryPolicy(
            [
                ModelsLabRetryPolicy(rate_limit_delay=timedelta(seconds=1)),
                ExceptionRetryPolicy([RetryRule(Exception, retry_delay=timedelta(hours=1))]),
            ]
        ),
    )
