"""What people write without this package: submit, look until it is done, download and upload, one of each per clip.

``HttpSensor`` does not defer with a ``response_check``, so it is rescheduled. Nothing here remembers what was paid for:
a submit that is run again is paid for again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, task

BATCH = json.loads(Path(os.environ["BENCHMARK_BATCH"]).read_text())
HEADERS = {"Content-Type": "application/json"}
KEY = "{{ conn.video_endpoint.password }}"


def body(link: str) -> str:
    """What is submitted for a clip."""
    asked = {"key": KEY, "init_video": link, "prompt": "an oil painting, warm colours", "model_id": "echo", "seed": 7}
    return json.dumps(asked)


def is_done(response: Any) -> bool:
    """Whether the job has ended well; fails the task when it has failed."""
    answer = response.json()
    if answer["status"] in {"error", "failed"}:
        raise RuntimeError(answer["message"])
    return bool(answer["status"] == "success")


with DAG("today", schedule=None) as dag:
    submitted = HttpOperator.partial(
        task_id="submit",
        http_conn_id="video_endpoint",
        endpoint="enterprise/video/video2video",
        headers=HEADERS,
        response_filter=lambda response: response.json(),
    ).expand(data=[body(f"{BATCH['public_url']}/{key}") for key in BATCH["today"]])

    waited = HttpSensor.partial(
        task_id="wait",
        http_conn_id="video_endpoint",
        method="POST",
        request_params=json.dumps({"key": KEY}),
        headers=HEADERS,
        response_check=is_done,
        mode="reschedule",
        poke_interval=10,
    ).expand(endpoint=submitted.output.map(lambda answer: f"enterprise/video/fetch/{answer['id']}"))

    @task
    def land(answer: dict[str, Any]) -> str:
        """Copy the result to S3."""
        import requests
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        # By the time the job is done its links are where the submit's answer said they would be.
        link = (answer["output"] or answer["future_links"])[0]
        response = requests.get(link, timeout=60)
        response.raise_for_status()
        key = f"out/today/{answer['id']}.mp4"
        S3Hook("aws_of_today").load_bytes(response.content, key, BATCH["bucket"], replace=True)
        return f"s3://{BATCH['bucket']}/{key}"

    waited >> land.expand(answer=submitted.output)
