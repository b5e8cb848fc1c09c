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

from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.plugins.authorization.dag_arguments import UNKNOWN, read_declared
from airflow_provider_modelslab.plugins.gallery import app as gallery_app
from airflow_provider_modelslab.plugins.gallery.data import describe_single, media_of
from airflow_provider_modelslab.plugins.gallery.recent import PAGE_SIZE, read_recent, tasks_with_videos
from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage
from airflow_provider_modelslab.plugins.media.access import require_reader
from airflow_provider_modelslab.plugins.task_results import read_task
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from tests.support.airflow_tables import AirflowTables

NEWEST = datetime(2026, 11, 1, tzinfo=UTC)
Add = Callable[..., None]

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
        state: str = "success",
        operator: str = "ModelsLabVideo2VideoOperator",
        returned: Any = MANIFEST,
        at: datetime | None = None,
        rendered: bool = True,
        version: uuid.UUID | None = None,
    ) -> None:
        """A run with one task; the higher the number, the older.

        :param rendered: Airflow still knows how the task's fields were rendered.
        :param version: of the Dag.
        """
        run_id = tables.add_run(dag_id, f"run_{number}", at=at or NEWEST - timedelta(minutes=number))
        tables.add_task_instance(
            dag_id,
            run_id,
            "restyle",
            operator=operator,
            state=state,
            version=version,
            fields={"prompt": f"a boat {number}", "model_id": "demo"} if rendered else None,
            xcoms={} if returned is None else {"return_value": returned},
        )

    return add


def test_newest_first_and_only_what_landed_in_readable_dags(session: Session, add: Add) -> None:
    add(5)
    add(1)
    add(2, state="failed", returned=None)
    add(3, dag_id="secret")
    add(4, operator="BashOperator", returned="text")
    page = read_recent(session, {"films"})
    assert [item["run_id"] for item in page["items"]] == ["run_1", "run_5"]
    assert page["next"] is None
    first = page["items"][0]
    assert (first["kind"], first["prompt"], first["model_id"], first["seed"]) == ("single", "a boat 1", "demo", 3)


def test_pages_lose_and_repeat_nothing_where_runs_share_a_moment(session: Session, add: Add) -> None:
    count = 3 * PAGE_SIZE + 5
    for number in range(count):
        add(number, at=NEWEST if number < 2 * PAGE_SIZE + 3 else None)
    seen: list[str] = []
    after = None
    while True:
        page = read_recent(session, {"films"}, after)
        seen += [item["run_id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert len(seen) == count
    assert len(set(seen)) == count


@pytest.mark.parametrize("batch", ["", "_batch"])
@pytest.mark.parametrize("where", ["", "local_"])
def test_tasks_of_all_decorators_show(session: Session, add: Add, where: str, batch: str) -> None:
    add(1, operator=f"@task.modelslab_{where}video2video{batch}")
    add(2, operator="@task.bash")
    assert [item["run_id"] for item in read_recent(session, {"films"})["items"]] == ["run_1"]


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
    ],
)
@pytest.mark.parametrize("rendered", [True, False])
def test_one_odd_xcom_spoils_nothing(session: Session, add: Add, odd: dict[str, Any], rendered: bool) -> None:
    add(1, returned=MANIFEST | odd, rendered=rendered)
    add(2)
    first, second = read_recent(session, {"films"})["items"]
    json.dumps(first, allow_nan=False)
    assert (first["kind"], first["prompt"]) == ("single", "a boat 1" if rendered else None)
    assert second["seed"] == 3
    found = read_task(session, "films", "run_1", "restyle")
    assert found is not None
    for store in (None, GalleryStorage(boto3.client("s3", region_name="eu-central-1"), S3Profile(bucket="clips"))):
        shown = describe_single(found, store)
        json.dumps(shown, allow_nan=False)
        assert set(media_of(found, shown)) <= {"result"}


def test_what_a_custom_backend_has_lost_is_an_item_without_facts(
    session: Session, add: Add, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from airflow.sdk.bases.xcom import BaseXCom

    class Elsewhere(BaseXCom):
        @staticmethod
        def deserialize_value(result: Any) -> Any:
            return json.loads((tmp_path / result.value).read_text())

    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "tests.Elsewhere")
    monkeypatch.setattr("airflow.sdk.execution_time.xcom.resolve_xcom_backend", lambda: Elsewhere)
    (tmp_path / "here.json").write_text(json.dumps(MANIFEST))
    add(1, returned="gone.json")
    add(2, returned="here.json")
    gone, here = read_recent(session, {"films"})["items"]
    assert (gone["kind"], gone["seed"], gone["prompt"]) == ("single", None, "a boat 1")
    assert here["seed"] == 3
    assert read_task(session, "films", "run_1", "restyle") is not None


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
