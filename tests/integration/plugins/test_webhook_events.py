"""Events for videos that are ready, in Airflow's own tables: once for each job of each connection."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from airflow_provider_modelslab.plugins.webhook.asset_events import asset_uri, record_finished
from tests.support.airflow_tables import AirflowTables

SHARED = "x-videos://ready"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """Airflow with an asset that the connections share."""
    from airflow.models.asset import AssetActive, AssetModel

    monkeypatch.setenv("AIRFLOW__MODELSLAB__WEBHOOK_ASSET", SHARED)
    tables = AirflowTables()
    with tables.session() as opened:
        asset = AssetModel(name="ready", uri=SHARED, group="asset")
        opened.add(asset)
        opened.flush()
        opened.add(AssetActive.for_asset(asset))
        opened.flush()
        yield opened
    tables.close()


def note(session: Session, conn_id: str, job_id: str = "1") -> bool:
    return record_finished(asset_uri(conn_id), {"job_id": job_id, "conn_id": conn_id}, session)


def test_once_for_each_job_of_each_connection(session: Session) -> None:
    from airflow.models.asset import AssetEvent

    calls = [("a", "1"), ("a", "1"), ("b", "1"), ("a", "2"), ("b", "1")]
    assert [note(session, *call) for call in calls] == [True, False, True, True, False]
    told = [(event.extra["conn_id"], event.extra["job_id"]) for event in session.scalars(sa.select(AssetEvent))]
    assert sorted(told) == [("a", "1"), ("a", "2"), ("b", "1")]


@pytest.mark.parametrize(("hours", "again"), [(47, False), (49, True)])
def test_a_number_that_is_given_again_after_two_days_is_another_job(session: Session, hours: int, again: bool) -> None:
    from airflow.models.asset import AssetEvent

    assert note(session, "a")
    before = datetime.now(UTC) - timedelta(hours=hours)
    session.execute(sa.update(AssetEvent).values(timestamp=before))
    assert note(session, "a") is again


def test_where_no_dag_knows_the_asset_nothing_happens(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MODELSLAB__WEBHOOK_ASSET", "x-others://CONN_ID")
    assert not note(session, "a")
