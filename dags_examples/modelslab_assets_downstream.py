"""Start when a video is in S3, with no sensor and no polling: a Dag scheduled on the asset of `modelslab_assets`.

The event that started the run says which video it is. Several events may start one run together, so there is a list.

Publish by `sha256`, so that twice does no harm: a video that had landed before comes again, with `reused` true. Do not
leave it out: where a worker died between the landing and its event, this is the only one.
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
        """The videos that have landed, as the events tell of them; an event made by hand may tell of none."""
        return [event.extra for event in triggering_asset_events[RESTYLED] if "uri" in event.extra]

    # [END howto_assets_modelslab_downstream]

    publish()
