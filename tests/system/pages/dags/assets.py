"""Tasks whose results are assets, and Dags that start when they are there."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, AssetAlias, task

from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

ATTRIBUTES: dict[str, Any] = {"model_id": "tiny", "prompt": "a fox", "num_frames": 4, "seed": 7, "poll_interval": 0.2}
DECLARED, OBJECTS, PREFIXES, CLIPS = Asset("one_video"), *map(AssetAlias, ("videos", "prefixes", "clips"))

with DAG("assets_of_a_clip", schedule=None):
    ModelsLabVideo2VideoOperator(
        task_id="restyle",
        init_video="{{ dag_run.conf.clip }}",
        destination="assets/one/",
        deferrable=True,
        outlets=[DECLARED, OBJECTS],
        **ATTRIBUTES,
    )

with DAG("assets_of_a_batch", schedule=None, render_template_as_native_obj=True):
    for name, alias, per_clip in (("prefix", PREFIXES, False), ("clips", CLIPS, True)):
        ModelsLabVideo2VideoBatchOperator(
            task_id=name,
            source="{{ dag_run.conf.source }}",
            destination=f"assets/{name}/",
            deferrable=True,
            defer_after=0.1,
            outlets=[alias],
            asset_per_clip=per_clip,
            **ATTRIBUTES,
        )


def told(events: Any) -> dict[str, Any]:
    return {key.uri: [event.extra for event in given] for key, given in events.items() if isinstance(key, Asset)}


for dag_id, schedule in (("after_the_asset", DECLARED), ("after_the_alias", OBJECTS), ("after_the_prefix", PREFIXES)):
    with DAG(dag_id, schedule=schedule):

        @task
        def see(triggering_asset_events: Any = None) -> dict[str, Any]:
            return told(triggering_asset_events)

        see()
