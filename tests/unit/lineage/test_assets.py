from __future__ import annotations

import logging
from typing import Any, cast

import pytest
from airflow.sdk import Asset, AssetAlias, Context
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_modelslab.lineage.assets import emit_assets

LANDED = [("s3://clips/out/a b.mp4", {"uri": "s3://clips/out/a b.mp4", "seed": 7})]


def context_with(events: object) -> Context:
    return cast("Context", {"outlet_events": events})


def test_declared_assets_get_the_metadata_and_aliases_get_assets() -> None:
    events, declared, alias = OutletEventAccessors(), Asset("s3://clips/out/"), AssetAlias("videos")
    events[declared].extra["seed"] = "the author's own"
    emit_assets([declared, alias], context_with(events), {"seed": 7, "bytes": 9}, LANDED)
    assert events[declared].extra == {"seed": "the author's own", "bytes": 9}
    (event,) = events[alias].asset_alias_events
    assert (event.source_alias_name, event.dest_asset_key.uri) == ("videos", "s3://clips/out/a%20b.mp4")
    assert event.extra == LANDED[0][1]


def test_without_outlets_or_events_nothing_is_told() -> None:
    events = OutletEventAccessors()
    emit_assets([], context_with(events), {"seed": 7}, LANDED)
    assert len(events) == 0
    emit_assets([Asset("one")], cast("Context", {}), {"seed": 7}, LANDED)


def test_an_event_that_cannot_be_told_fails_no_task(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(OutletEventAccessors):
        def __getitem__(self, key: Any) -> Any:
            if key == Asset("bad"):
                raise LookupError("no such asset")
            return super().__getitem__(key)

    events = Refusing()
    with caplog.at_level(logging.WARNING):
        emit_assets([Asset("bad"), Asset("good")], context_with(events), {"seed": 7}, [])
    assert events[Asset("good")].extra == {"seed": 7}
    assert "LookupError: no such asset" in caplog.text
