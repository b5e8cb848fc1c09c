"""Start when a video is in S3, with no sensor and no polling: a Dag scheduled on the asset of `modelslab_assets`.

The event that started the run says which video it is. Several events may start one run together, so there is a list.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, task

RESTYLED = Asset("modelslab_restyled")

with DAG(
    dag_id="modelslab_assets_downstream",
    schedule=[RESTYLED],
    tags=["modelslab", "example"],
    doc_md=__doc__,
):
    # [START howto_assets_modelslab_downstream]
    @task
    def publish(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        """The videos that are new, as the events tell of them."""
        videos = [event.extra for event in triggering_asset_events[RESTYLED]]
        return [video for video in videos if not video["reused"]]

    # [END howto_assets_modelslab_downstream]

    publish()
