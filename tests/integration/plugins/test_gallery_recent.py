"""What was made lately, asked of Airflow's own tables."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import boto3
import pytest
from airflow.sdk import DAG
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from airflow_provider_modelslab.links.videos import VIDEO_KEY
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.plugins.authorization.dag_arguments import UNKNOWN, read_declared
from airflow_provider_modelslab.plugins.gallery import app as gallery_app
from airflow_provider_modelslab.plugins.gallery import recent
from airflow_provider_modelslab.plugins.gallery.data import describe_single, media_of
from airflow_provider_modelslab.plugins.gallery.recent import PAGE_SIZE, Filters, read_recent, tasks_with_videos
from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage
from airflow_provider_modelslab.plugins.media.access import require_reader
from airflow_provider_modelslab.plugins.task_results import read_task
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from tests.support.airflow_tables import AirflowTables

NEWEST = datetime(2026, 11, 1, tzinfo=UTC)
Add = Callable[..., None]

VIDEO = {
    "schema_version": 1,
    "kind": "single",
    "uri": "s3://bucket/a.mp4",
    "model_id": "demo",
    "seed": 3,
    "seconds": 2.5,
}
MANIFEST = {"schema_version": 1, "status": "landed", "job_id": "1", "uri": "s3://bucket/a.mp4", "seed": 3}


@pytest.fixture
def tables() -> Iterator[AirflowTables]:
    found = AirflowTables()
    yield found
    found.close()


@pytest.fixture
def session(tables: AirflowTables) -> Iterator[Session]:
    """A database in memory with the tables that are read."""
    with tables.session() as opened:
        yield opened


@pytest.fixture
def add(tables: AirflowTables) -> Add:
    def add(
        number: int,
        *,
        dag_id: str = "films",
        operator: str = "ModelsLabVideo2VideoOperator",
        state: str = "success",
        returned: Any = MANIFEST,
        video: Any = None,
        run_after: datetime | None = None,
        at: datetime | None = None,
        rendered: bool = True,
        version: uuid.UUID | None = None,
    ) -> None:
        """A run with one task that landed a video; the higher the number, the longer ago.

        :param video: changes of what the task records of it.
        :param run_after: when the run was to begin.
        :param at: when the video landed.
        :param rendered: Airflow still knows how the task's fields were rendered.
        :param version: of the Dag.
        """
        run_id = tables.add_run(dag_id, f"run_{number}", at=run_after or NEWEST)
        record = {**VIDEO, "prompt": f"a boat {number}", **(video or {})}
        xcoms = {"return_value": returned} | ({} if returned is None else {VIDEO_KEY: record})
        tables.add_task_instance(
            dag_id,
            run_id,
            "restyle",
            operator=operator,
            state=state,
            version=version,
            fields={"prompt": f"a boat {number}", "model_id": "demo"} if rendered else None,
            xcoms=xcoms,
            written_at=at or NEWEST - timedelta(minutes=number),
        )

    return add


def runs(page: dict[str, Any]) -> list[str]:
    return [item["run_id"].removeprefix("run_") for item in page["items"]]


def test_newest_landing_first_and_only_in_readable_dags(session: Session, tables: AirflowTables, add: Add) -> None:
    """A backfill's runs are years old when they land."""
    add(5)
    add(1, run_after=NEWEST - timedelta(days=2000))
    add(3, dag_id="secret")
    tables.add_task(task_id="submit", xcoms={"return_value": MANIFEST | {"status": "submitted"}})
    page = read_recent(session, {"films"})
    assert runs(page) == ["1", "5"]
    assert page["next"] is None
    first = page["items"][0]
    assert first["landed_at"] == (NEWEST - timedelta(minutes=1)).isoformat()
    assert (first["kind"], first["prompt"], first["model_id"], first["seed"]) == ("single", "a boat 1", "demo", 3)


def batch(**counts: int) -> dict[str, Any]:
    whole = {"found": sum(counts.values()), "landed": 0, "skipped": 0, "failed": 0, "pending": 0} | counts
    return {"kind": "batch", "uri": "s3://bucket/all.jsonl", "counts": whole}


def test_a_batch_that_failed_is_there_if_something_landed(session: Session, add: Add) -> None:
    add(1, state="failed", video=batch(landed=3, failed=2))
    add(2, state="failed", video=batch(failed=5))
    add(3, video=batch(landed=5))
    page = read_recent(session, {"films"})
    assert runs(page) == ["1", "3"]
    assert [item["outcome"] for item in page["items"]] == ["partial", "landed"]
    assert page["items"][0]["counts"]["failed"] == 2


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (Filters(words=("BOAT", "2")), ["2"]),
        (Filters(words=("films", "run_3")), ["3"]),
        (Filters(words=("a%",)), []),
        (Filters(dag="ILM"), ["1", "2", "3"]),
        (Filters(dag="loops"), ["4"]),
        (Filters(dag="secret"), []),
        (Filters(model="sushi"), ["2"]),
        (Filters(outcome="partial"), ["3"]),
        (Filters(outcome="landed"), ["1", "2", "4"]),
        (Filters(since=NEWEST - timedelta(minutes=2)), ["1", "2"]),
        (Filters(until=NEWEST - timedelta(minutes=2)), ["3", "4"]),
        (Filters(since=NEWEST - timedelta(minutes=3), until=NEWEST - timedelta(minutes=1), model="demo"), ["3"]),
    ],
)
def test_filters(session: Session, add: Add, filters: Filters, found: list[str]) -> None:
    add(1)
    add(2, video={"model_id": "dark-sushi-mix"})
    add(3, video=batch(landed=1, failed=1))
    add(4, dag_id="loops")
    add(5, dag_id="secret")
    assert runs(read_recent(session, {"films", "loops"}, None, filters)) == found


def test_pages_lose_and_repeat_nothing_where_videos_land_at_once(session: Session, add: Add) -> None:
    count = 3 * PAGE_SIZE + 5
    for number in range(count):
        add(number, at=NEWEST if number < 2 * PAGE_SIZE + 3 else None)
    for filters in (Filters(), Filters(words=("boat",))):
        seen: list[str] = []
        after = None
        while True:
            page = read_recent(session, {"films"}, after, filters)
            seen += runs(page)
            after = page["next"]
            if after is None:
                break
        assert len(seen) == count
        assert len(set(seen)) == count


def test_a_search_reads_so_many_videos_and_goes_on_when_asked(
    session: Session, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "_CHUNK", 4)
    monkeypatch.setattr(recent, "MAX_SCANNED", 8)
    for number in range(20):
        add(number, video={"model_id": "rare"} if number == 13 else None)
    first = read_recent(session, {"films"}, None, Filters(model="rare"))
    assert first["items"] == []
    second = read_recent(session, {"films"}, first["next"], Filters(model="rare"))
    assert runs(second) == ["13"]
    assert read_recent(session, {"films"}, second["next"], Filters(model="rare")) == {"items": [], "next": None}


@pytest.mark.parametrize(
    "odd",
    [
        {"request": "x"},
        {"uri": 5, "sidecar_uri": [], "links": 5, "conn_id": {}},
        {"uri": "s3://", "model_id": {"a": 1}},
        {"seed": float("nan"), "generation_time_s": float("inf")},
        {"job_id": None, "request": []},
        {"status": {}},
        {"status": []},
        {"kind": [], "counts": 5},
        {"prompt": ["a"], "model_id": 5},
    ],
)
@pytest.mark.parametrize("rendered", [True, False])
def test_one_odd_xcom_spoils_nothing(session: Session, add: Add, odd: dict[str, Any], rendered: bool) -> None:
    add(1, returned=MANIFEST | odd, video=odd, rendered=rendered)
    add(2)
    shown = read_recent(session, {"films"}, None, Filters(words=("a",)))["items"]
    json.dumps(shown, allow_nan=False)
    assert shown[-1]["run_id"] == "run_2"
    found = read_task(session, "films", "run_1", "restyle")
    assert found is not None
    for store in (None, GalleryStorage(boto3.client("s3", region_name="eu-central-1"), S3Profile(bucket="clips"))):
        single = describe_single(found, store)
        json.dumps(single, allow_nan=False)
        assert set(media_of(found, single)) <= {"result"}


def test_what_a_custom_backend_has_lost_is_left_out(
    session: Session, add: Add, tables: AirflowTables, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from airflow.sdk.bases.xcom import BaseXCom

    class Elsewhere(BaseXCom):
        @staticmethod
        def deserialize_value(result: Any) -> Any:
            return json.loads((tmp_path / result.value).read_text())

    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "tests.Elsewhere")
    monkeypatch.setattr("airflow.sdk.execution_time.xcom.resolve_xcom_backend", lambda: Elsewhere)
    (tmp_path / "here.json").write_text(json.dumps(VIDEO))
    for name in ("gone", "here"):
        tables.add_task_instance("films", tables.add_run("films", name), "restyle", xcoms={VIDEO_KEY: f"{name}.json"})
    (here,) = read_recent(session, {"films"})["items"]
    assert (here["run_id"], here["seed"]) == ("here", 3)
    assert read_task(session, "films", "gone", "restyle") is not None


class Dear:
    """A backend for XComs that keeps them elsewhere."""

    asked: ClassVar[list[Any]] = []

    @classmethod
    def deserialize_value(cls, result: Any) -> Any:
        cls.asked.append(result.value)
        return result.value


def test_of_a_task_of_others_nothing_is_read(
    session: Session, tables: AirflowTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below Airflow 3.4 the tab is on all tasks."""
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "tests.Dear")
    monkeypatch.setattr("airflow.sdk.execution_time.xcom.resolve_xcom_backend", lambda: Dear)
    Dear.asked.clear()
    written: dict[str, Any] = {"fields": {"bash_command": "true"}, "xcoms": {"return_value": MANIFEST}}
    run_id = tables.add_task(task_id="others", operator="BashOperator", **written)
    found = read_task(session, "films", run_id, "others")
    assert found is not None
    assert (found.kind, found.state, found.returned, found.fields) == ("other", "success", None, {})
    assert Dear.asked == []


def test_a_subclass_is_known_by_its_links(session: Session, tables: AirflowTables) -> None:
    xcoms = {"return_value": MANIFEST, "modelslab_links": {"result": "s3://bucket/a.mp4"}}
    run_id = tables.add_task(operator="OurOwnOperator", xcoms=xcoms)
    found = read_task(session, "films", run_id, "restyle")
    assert found is not None
    assert (found.kind, found.manifest["seed"]) == ("single", 3)


def test_a_task_of_others_leads_to_those_with_videos(
    session: Session, tables: AirflowTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = tables.add_run("films", "run_mixed")
    operators = {"others": "BashOperator", "b": "@task.modelslab_video2video", "a": "LocalVideo2VideoBatchOperator"}
    for task_id, operator in operators.items():
        tables.add_task_instance("films", run_id, task_id, operator=operator)
    tables.add_task_instance("other_films", tables.add_run("other_films"), "c")
    assert tasks_with_videos(session, "films", run_id) == ["a", "b"]
    monkeypatch.setattr(gallery_app, "create_session", tables.session)
    app = gallery_app.make_app()
    app.dependency_overrides[require_reader] = lambda: None
    told = TestClient(app).get("/api/dags/films/tasks/others/-1", params={"run_id": run_id}).json()
    assert (told["kind"], told["videos"]) == ("other", ["a", "b"])


def test_what_no_page_told_is_refused(session: Session) -> None:
    for after in ("yesterday", "2026-11-01T00:00:00+00:00", "2026-11-01T00:00:00+00:00/x"):
        with pytest.raises(ValueError, match=r".+"):
            read_recent(session, {"films"}, after)


def test_one_task_instance(session: Session, add: Add) -> None:
    add(1)
    found = read_task(session, "films", "run_1", "restyle")
    assert found is not None
    assert found.kind == "single"
    assert found.manifest["uri"] == "s3://bucket/a.mp4"
    assert found.fields == {"prompt": "a boat 1", "model_id": "demo"}
    assert read_task(session, "films", "run_1", "restyle", 0) is None


def test_where_a_task_writes_is_read_from_its_dag_when_airflow_has_forgotten_how_it_was_rendered(
    session: Session, tables: AirflowTables, add: Add
) -> None:
    with DAG("films", schedule=None) as dag:
        request: dict[str, Any] = {"model_id": "demo", "prompt": "a boat"}
        clip = "https://clips.example/a.mp4"
        ModelsLabVideo2VideoOperator(task_id="restyle", init_video=clip, destination="s3://films/{{ ds }}/", **request)
        ModelsLabVideo2VideoOperator.partial(task_id="same", destination="s3://films/all/", **request).expand(
            init_video=[clip]
        )
        ModelsLabVideo2VideoOperator.partial(task_id="each", init_video=clip, **request).expand(
            destination=["s3://films/1/"]
        )
        ModelsLabVideo2VideoOperator(task_id="plain", init_video=clip, **request)
    version = tables.add_dag(dag)
    declared = {task: read_declared(session, version, task).text("destination") for task in (*dag.task_dict, "gone")}
    assert declared == {
        "restyle": "s3://films/{{ ds }}/",
        "same": "s3://films/all/",
        "each": UNKNOWN,
        "plain": None,
        "gone": UNKNOWN,
    }
    assert read_declared(session, uuid.uuid4(), "restyle").text("destination") == UNKNOWN
    assert read_declared(session, None, "restyle").text("destination") == UNKNOWN

    add(1, version=version)
    add(2, version=version, rendered=False)
    known, forgotten = (read_task(session, "films", f"run_{number}", "restyle") for number in (1, 2))
    assert known is not None
    assert forgotten is not None
    assert (known.destination, forgotten.destination) == (None, "s3://films/{{ ds }}/")
