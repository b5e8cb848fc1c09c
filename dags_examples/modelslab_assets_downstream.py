"""A Dag that starts when `modelslab_assets` has stored a video. It is scheduled on an asset: no sensor, no polling.

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
        """The videos that the events name. An event that a person created may name none."""
        return [event.extra for event in triggering_asset_events[RESTYLED] if "uri" in event.extra]

    # [END howto_assets_modelslab_downstream]

    publish()
