"""What the links and the gallery open of a task: its own connection, its own job, its own clip; never another's."""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, task

from airflow_provider_modelslab.api.errors import JobFailedError
from airflow_provider_modelslab.ledger.model import number_of
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.plugins.authorization.records import NOT_SUBMITTED, read_ledger
from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage
from airflow_provider_modelslab.plugins.task_results import TaskResult
from airflow_provider_modelslab.sensors.video2video import ModelsLabVideo2VideoSensor
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri
from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger
from tests.support.plugin_site import CONN, LINK, REQUEST, Site

if TYPE_CHECKING:
    pass


def declared(site: Site, make: Callable[[], object]) -> uuid.UUID:
    with DAG("films", schedule=None) as dag:
        make()
    return site.tables.add_dag(dag)


def restyle(**arguments: Any) -> ModelsLabVideo2VideoOperator:
    given = {"task_id": "restyle", "modelslab_conn_id": CONN, "init_video": "{{ params.clip }}", **REQUEST}
    return ModelsLabVideo2VideoOperator(**(given | arguments))


# -- the connection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rendered", [True, False])
def test_an_xcom_does_not_choose_the_connection(site: Site, rendered: bool) -> None:
    secret = f"s3://{site.bucket}/secret/ceo.mp4"
    site.put("secret/ceo.mp4")
    site.put("secret/ceo.mp4.json", {"schema_version": 1, "uri": secret, "request": {"prompt": "top secret"}})
    forged = {"schema_version": 1, "status": "landed", "job_id": "1", "conn_id": "team_b", "uri": secret}
    run_id = site.tables.add_task(
        version=declared(site, lambda: restyle(destination="{{ params.out }}")),
        fields={"modelslab_conn_id": CONN, "destination": "ceo.mp4"} if rendered else None,
        xcoms={"return_value": forged, "modelslab_links": {"result": secret, "conn_id": "team_b", "job_id": "1"}},
    )
    both = ["'team_b'", f"'{CONN}'"]
    refused = site.links(run_id)
    assert (refused.status_code, re.findall("'.*?'", refused.json()["detail"])) == (502, both)
    shown = site.gallery.get("/api/dags/films/tasks/restyle/-1", params={"run_id": run_id}).json()
    assert re.findall("'.*?'", shown["problem"]) == both
    assert "top secret" not in json.dumps(shown)
    for what in ("result", "job"):
        clicked = site.click(run_id, what)
        assert (clicked.status_code, re.findall("'.*?'", clicked.json()["detail"])) == (502, both)
    assert site.endpoint.requests == []


def test_a_connection_that_nobody_knows_any_more_is_not_guessed(site: Site) -> None:
    facts = {"modelslab_links": {"result": f"s3://{site.bucket}/out/a.mp4", "conn_id": CONN}}
    version = declared(site, lambda: restyle(modelslab_conn_id="{{ params.conn }}"))
    for known in (version, None):
        run_id = site.tables.add_task(version=known, xcoms=facts)
        clicked = site.click(run_id, "result")
        assert (clicked.status_code, clicked.json()["Connection"]) == (502, CONN)


def test_a_sensor_reads_with_the_connection_of_its_job(site: Site) -> None:
    job = {"schema_version": 1, "status": "submitted", "job_id": 4711, "conn_id": CONN}
    facts = {"modelslab_links": {"job_id": "4711", "conn_id": CONN}}
    kind = "ModelsLabVideo2VideoSensor"
    fields = {"job": job, "modelslab_conn_id": "modelslab_default"}
    run_id = site.tables.add_task(operator=kind, fields=fields, xcoms=facts)
    assert site.click(run_id, "job").json()["Connection"] == CONN


# -- the job ----------------------------------------------------------------------------------------------------------


def facts_of(job_id: str, conn_id: str = CONN, **more: str) -> dict[str, Any]:
    return {"modelslab_links": {"job_id": job_id, "conn_id": conn_id, **more}}


def test_an_xcom_does_not_choose_the_job(site: Site) -> None:
    run_id = site.tables.add_task(fields={"modelslab_conn_id": CONN}, xcoms=facts_of("4711"))
    site.submit(run_id, site.put("out/in.mp4"))
    refused = site.click(run_id, "job")
    assert (refused.status_code, refused.json()["title"]) == (404, "Not shown")
    assert refused.json()["Job"] == "4711"
    assert site.endpoint.requests == []


def test_a_job_that_the_ledger_names_is_shown(site: Site) -> None:
    """Before the task waits, while it does, and also where Airflow has forgotten the rendered fields."""
    version = declared(site, restyle)
    for fields in ({"modelslab_conn_id": CONN}, None):
        run_id = site.tables.add_task(state="deferred", version=version, fields=fields, xcoms=facts_of("own-1"))
        site.submit(run_id, site.put("out/in.mp4"))
        assert site.click(run_id, "job").json()["Link 1"] == LINK


def test_a_job_that_the_sidecar_names_is_shown(site: Site) -> None:
    fields = {"modelslab_conn_id": CONN, "destination": "a.mp4"}
    place = site.put("out/a.mp4")
    site.put("out/a.mp4.json", {"schema_version": 1, "uri": place, "job_id": "own-1"})
    run_id = site.tables.add_task(fields=fields, xcoms=facts_of("own-1", result=place))
    assert site.click(run_id, "job").json()["title"] == "The job is done"
    forged = site.put("out/b.mp4")
    site.put("out/b.mp4.json", {"schema_version": 1, "uri": forged, "job_id": "own-1"})
    run_id = site.tables.add_task(fields=fields, xcoms=facts_of("own-1", result=forged))
    assert site.click(run_id, "job").json()["title"] == "Not shown"


@pytest.mark.parametrize("job", ["4711", 4711, {"job_id": "4711", "conn_id": CONN}])
@pytest.mark.parametrize("kind", ["ModelsLabVideo2VideoSensor", "ModelsLabVideo2VideoToS3Operator"])
def test_a_job_that_was_handed_to_the_task_is_shown(site: Site, kind: str, job: Any) -> None:
    fields = {"job": job, "modelslab_conn_id": CONN}
    run_id = site.tables.add_task(operator=kind, state="up_for_reschedule", fields=fields, xcoms=facts_of("4711"))
    assert site.click(run_id, "job").json()["title"] == "The job is done"
    run_id = site.tables.add_task(operator=kind, fields=fields, xcoms=facts_of("4712"))
    assert site.click(run_id, "job").json()["title"] == "Not shown"


def test_a_job_that_the_dag_names_is_shown(site: Site) -> None:
    for job, title in ((4711, "The job is done"), ("{{ params.job }}", "Not shown")):
        version = declared(site, lambda: ModelsLabVideo2VideoSensor(task_id="wait", job=job, modelslab_conn_id=CONN))  # noqa: B023
        kind = "ModelsLabVideo2VideoSensor"
        run_id = site.tables.add_task(task_id="wait", operator=kind, version=version, xcoms=facts_of("4711"))
        assert site.click(run_id, "job", "wait").json()["title"] == title
    run_id = site.tables.add_task(task_id="wait", version=version, xcoms=facts_of("{{ params.job }}"))
    assert site.click(run_id, "job", "wait").json()["title"] == "Not shown"


def test_without_a_bucket_the_triggerer_tells_which_job_is_awaited(site: Site, fernet: None) -> None:
    waits = ModelsLabVideo2VideoTrigger("own-1", modelslab_conn_id="no_bucket", submitted_at=1.0, deadline=2.0)
    fields, facts = {"modelslab_conn_id": "no_bucket"}, facts_of("own-1", "no_bucket")
    run_id = site.tables.add_task(state="deferred", trigger=waits, fields=fields, xcoms=facts)
    assert site.click(run_id, "job").json()["title"] == "The job is done"
    run_id = site.tables.add_task(fields=fields, xcoms=facts)
    assert site.click(run_id, "job").json()["title"] == "Not shown"


@pytest.fixture
def fernet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key for what Airflow encrypts."""
    from airflow.models import crypto
    from cryptography.fernet import Fernet

    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    if hasattr(crypto, "_fernet"):  # Airflow 3.1
        monkeypatch.setattr(crypto, "_fernet", None)
    else:
        crypto.get_fernet.cache_clear()


# -- the source -------------------------------------------------------------------------------------------------------


@pytest.fixture
def salaries(site: Site) -> str:
    """An object of others that the connection can read."""
    theirs = f"payroll-{secrets.token_hex(6)}"
    site.s3.create_bucket(Bucket=theirs)
    return site.put("2026/salaries.csv", bucket=theirs)


def rendered(clip: str, **more: str) -> dict[str, Any]:
    facts = {"modelslab_links": {"source": clip, "conn_id": CONN}}
    return {"fields": {"modelslab_conn_id": CONN, "init_video": clip, **more}, "xcoms": facts}


@pytest.mark.parametrize("state", ["failed", "running", "deferred", "success"])
@pytest.mark.parametrize("operator", ["ModelsLabVideo2VideoOperator", "LocalVideo2VideoOperator"])
def test_who_triggers_a_dag_cannot_have_an_object_signed(site: Site, salaries: str, state: str, operator: str) -> None:
    run_id = site.tables.add_task(state=state, operator=operator, version=declared(site, restyle), **rendered(salaries))
    source = site.links(run_id).json()["links"]["0"]["source"]
    assert source == {"why": source["why"]}
    assert source["why"] == NOT_SUBMITTED
    clicked = site.click(run_id, "source")
    assert (clicked.status_code, clicked.json()["title"]) == (404, "Not shown")
    missing = site.click(site.tables.add_task(**rendered(f"{salaries}.not-there")), "source")
    assert missing.json()["detail"] == clicked.json()["detail"]  # nor whether there is one


def test_a_clip_that_was_submitted_is_shown(site: Site, salaries: str) -> None:
    clip = salaries.replace("salaries.csv", "clip.mp4")
    site.put("2026/clip.mp4", bucket=S3Uri.parse(clip).bucket)
    refused = JobFailedError("out of memory")
    for state, fails in (("deferred", None), ("success", None), ("failed", refused)):
        run_id = site.tables.add_task(state=state, version=declared(site, restyle), **rendered(clip))
        site.submit(run_id, clip, fails)
        assert site.links(run_id).json()["links"]["0"]["source"]["url"].startswith("api/")
        assert site.click(run_id, "source").status_code == 200
    # Another object put in its place since was looked at by nobody.
    site.put("2026/clip.mp4", "other", bucket=S3Uri.parse(clip).bucket)
    assert "why" in site.links(run_id).json()["links"]["0"]["source"]


def test_a_clip_of_a_task_that_did_not_wait_is_shown(site: Site, salaries: str) -> None:
    given = rendered(salaries)
    given["xcoms"]["return_value"] = {
        "schema_version": 1, "status": "submitted", "job_id": "own-1", "conn_id": CONN,
        "request": REQUEST | {"init_video": salaries},
    }  # fmt: skip
    run_id = site.tables.add_task(version=declared(site, restyle), **given)
    assert "why" in site.links(run_id).json()["links"]["0"]["source"]
    site.submit(run_id, salaries)
    assert "url" in site.links(run_id).json()["links"]["0"]["source"]


def test_a_clip_that_the_dag_names_is_shown(site: Site, salaries: str) -> None:
    def clip_of(clip: str) -> dict[str, str]:
        return {"init_video": clip}

    decorator: Any = task.modelslab_video2video
    decorated = decorator(task_id="restyle", modelslab_conn_id=CONN, **REQUEST)(clip_of)

    def partial() -> Any:
        return ModelsLabVideo2VideoOperator.partial(task_id="restyle", modelslab_conn_id=CONN, **REQUEST)

    for make in (
        lambda: restyle(init_video=salaries),
        lambda: partial().expand(init_video=["s3://other/clip.mp4", salaries]),
        lambda: partial().expand_kwargs([{"init_video": salaries}]),
        lambda: decorated(salaries),
        lambda: decorated.expand(clip=[salaries]),
    ):
        run_id = site.tables.add_task(state="running", version=declared(site, make), **rendered(salaries))
        assert "url" in site.links(run_id).json()["links"]["0"]["source"]
        assert site.click(run_id, "source").status_code == 200


def test_a_clip_below_the_connections_prefix_is_shown(site: Site) -> None:
    for key, shown in (("out/in/clip.mp4", True), ("outer/clip.mp4", False), ("clip.mp4", False)):
        clip = site.put(key)
        run_id = site.tables.add_task(state="failed", version=declared(site, restyle), **rendered(clip))
        assert ("url" in site.links(run_id).json()["links"]["0"]["source"]) == shown
        assert (site.click(run_id, "source").status_code == 200) == shown
    # Not where only an XCom names it.
    only_told = rendered(site.put("out/in/other.mp4")) | {"fields": {"modelslab_conn_id": CONN}}
    assert site.click(site.tables.add_task(**only_told), "source").json()["title"] == "Not shown"


def test_planned_clips_of_a_batch(site: Site, salaries: str) -> None:
    theirs = S3Uri.parse(salaries).bucket

    def batch(source: Any) -> ModelsLabVideo2VideoBatchOperator:
        return ModelsLabVideo2VideoBatchOperator(task_id="all", modelslab_conn_id=CONN, source=source, **REQUEST)

    lines = [
        {"index": 0, "status": "failed", "source": salaries, "code": "validation"},
        {"index": 1, "status": "pending", "source": f"s3://{site.bucket}/out/in/clip.mp4"},
        {"index": 2, "status": "failed", "source": f"s3://{theirs}/2.mp4", "job_id": "2"},
        {"index": 3, "status": "landed", "source": f"s3://{theirs}/3.mp4", "job_id": "3"},
        {"index": 4, "status": "pending", "source": "https://clips.example/4.mp4"},
    ]
    told = [json.dumps({**line, "uri": f"s3://{site.bucket}/out/{line['index']}.mp4"}) for line in lines]
    for source, hidden in (("{{ params.clips }}", ["0"]), (f"s3://{theirs}/", []), ([salaries], [])):
        version = declared(site, lambda: batch(source))  # noqa: B023
        kind = "ModelsLabVideo2VideoBatchOperator"
        fields = {"modelslab_conn_id": CONN, "source": f"s3://{theirs}/"}
        run_id = site.tables.add_task(task_id="all", operator=kind, state="failed", version=version, fields=fields)
        place = f"out/_modelslab/batches/films/all/{run_id}.jsonl"
        site.s3.put_object(Bucket=site.bucket, Key=place, Body="\n".join(told).encode())
        links = site.links(run_id, "all", clips="0,1,2,3,4").json()["links"]
        assert [index for index, sides in links.items() if "why" in sides["source"]] == hidden


# -- a destination that tasks share -----------------------------------------------------------------------------------


SHARED = "shared.mp4"


def at_shared(clip: str, job_id: str) -> dict[str, Any]:
    """A task that lands its result at a destination which others have too, and whose XComs name a clip and a job."""
    told = {"source": clip, "job_id": job_id, "conn_id": CONN}
    fields = {"modelslab_conn_id": CONN, "init_video": clip, "destination": SHARED}
    return {"fields": fields, "xcoms": {"modelslab_links": told}}


def shown(site: Site, run_id: str, task_id: str = "restyle") -> tuple[str, bool]:
    """How the link to its job is answered, and whether there is one to its clip."""
    source = site.links(run_id, task_id).json()["links"]["0"]["source"]
    clicked = site.click(run_id, "source", task_id)
    assert ("url" in source) == (clicked.status_code == 200)
    return site.click(run_id, "job", task_id).json()["title"], "url" in source


@pytest.mark.parametrize("state", ["deferred", "failed", "success"])
@pytest.mark.parametrize("other", ["another run", "another task"])
def test_anothers_submission_at_a_shared_destination_proves_nothing(
    site: Site, salaries: str, state: str, other: str
) -> None:
    version = declared(site, lambda: restyle(destination="{{ params.out }}"))
    mine = site.tables.add_task(state=state, version=version, **at_shared(salaries, "own-1"))
    run_id, task_id = ("run_of_others", "restyle") if other == "another run" else (mine, "others")
    site.submit(run_id, salaries, task_id=task_id, key=SHARED, prompt="of others")
    assert shown(site, mine) == ("Not shown", False)
    page = site.gallery.get("/api/dags/films/tasks/restyle/-1", params={"run_id": mine}).json()
    assert "of others" not in json.dumps(page)
    assert "job_id" not in page["single"]["facts"]
    assert site.endpoint.requests == []


def test_a_tasks_own_submission_at_a_shared_destination_is_shown(site: Site, salaries: str) -> None:
    theirs = site.put("2026/theirs.mp4", bucket=S3Uri.parse(salaries).bucket)
    version = declared(site, lambda: restyle(destination="{{ params.out }}"))
    mine, other = (
        site.tables.add_task(state="failed", version=version, **at_shared(clip, job_id))
        for clip, job_id in ((salaries, "own-1"), (theirs, "own-2"))
    )
    assert site.submit(mine, salaries, key=SHARED) == 1
    # Another run has submitted another request since: the later submission is not the first task's.
    assert site.submit(other, theirs, key=SHARED, job_id="own-2", prompt="of others") == 2
    assert shown(site, mine) == ("The job is done", True)
    assert shown(site, other) == ("The job is done", True)
    page = site.gallery.get("/api/dags/films/tasks/restyle/-1", params={"run_id": mine}).json()["single"]
    assert (page["facts"]["job_id"], page["request"]["prompt"]) == ("own-1", REQUEST["prompt"])
    assert [own_numbers(site, run_id) for run_id in (mine, other)] == [{1}, {2}]


def test_a_job_that_a_task_waits_for_too_is_shown(site: Site, salaries: str) -> None:
    version = declared(site, lambda: restyle(destination="{{ params.out }}"))
    first, second, third = (
        site.tables.add_task(state="deferred", version=version, **at_shared(salaries, "own-1")) for _ in range(3)
    )
    site.submit(first, salaries, key=SHARED)
    found = site.attach(second, salaries, key=SHARED)
    assert (found.number, found.resumed, found.job.job_id) == (1, True, "own-1")
    assert [shown(site, run_id) for run_id in (first, second)] == [("The job is done", True)] * 2
    assert shown(site, third) == ("Not shown", False)  # the same request, and it has waited for nothing
    # Another task of the run that waits has not waited itself.
    assert own_numbers(site, second) == {1}
    assert own_numbers(site, second, "others") == set()


def own_numbers(site: Site, run_id: str, task_id: str = "restyle") -> set[int]:
    """The submissions at the shared destination that count as a task's own."""
    task = TaskResult("films", run_id, task_id, -1, "x", "deferred", 1, None, None, fields={"destination": SHARED})
    store = GalleryStorage(site.s3, S3Profile(bucket=site.bucket, prefix="out"))
    return {number_of(name) for name in read_ledger(task, store)}
