"""Nothing that a task, a person or a bucket hands to the API server gives a 500: one task's trouble costs one card."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.ledger.listing import result_folder
from airflow_provider_modelslab.links.videos import VIDEO_KEY
from airflow_provider_modelslab.plugins.gallery import app as gallery_app
from airflow_provider_modelslab.plugins.gallery import store as gallery_store
from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage, UnreadableError, read_json
from airflow_provider_modelslab.plugins.media import app as media_app
from airflow_provider_modelslab.plugins.media.access import require_reader, user_of
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.airflow_tables import AirflowTables, RawJson
from tests.support.connections import set_aws, set_modelslab
from tests.support.odd_records import odd_gzips, odd_lines, odd_records
from tests.support.odd_values import DEEP, LINKS, NUMBERS, TEXTS
from tests.support.s3 import S3Server
from tests.unit.plugins.test_json_values import LINE, STATE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("MODELSLAB_ODD_EXAMPLES", "1600")) // 80
BUCKET = "odd-records"
CONN = "odd"
WHAT = ("result", "source", "manifest", "sidecar", "job")
ANSWERS = {200, 400, 404, 422, 502}
ATTEMPT = {"dag_id": "films", "task_id": "restyle", "run_id": "", "map_index": -1, "try_number": 1}

some = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example costs some 30 calls, too many to shrink one
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Site:
    """Airflow's tables, an S3 store, and the two applications over them, as an administrator sees them."""

    def __init__(self, tables: AirflowTables, s3: S3Client) -> None:
        self.tables = tables
        self.s3 = s3
        apps = []
        for module in (gallery_app, media_app):
            app = module.make_app()
            app.dependency_overrides |= {require_reader: lambda: None, user_of: lambda: None}
            apps.append(TestClient(app))
        self.gallery, self.media = apps

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    def add(self, task_id: str = "restyle", **written: Any) -> None:
        """A task of the run at hand."""
        self.tables.add_task_instance("films", self.run_id, task_id, **written)

    def start(self) -> str:
        self.run_id = self.tables.add_run("films")
        return self.run_id

    def visit(self, task_id: str = "restyle") -> set[int]:
        """All routes of a task, and the list of what was made lately; the statuses."""
        path = f"/api/dags/films/tasks/{task_id}/-1"
        asked: list[tuple[str, dict[str, Any]]] = [
            ("", {}),
            ("/links", {"clips": "0,1000"}),
            ("/links", {"sample": 4}),
            ("/clips/1000", {}),
            ("/retry", {}),
            ("/media/0/result", {}),
            ("/media/1000/source", {}),
        ]
        found = [self.gallery.get(path + what, params={"run_id": self.run_id, **query}) for what, query in asked]
        named: dict[str, Any] = {"dag_id": "films", "run_id": self.run_id, "task_id": task_id}
        for what in WHAT:
            for accept in ("text/html", "application/json"):
                query = {**named, "what": what}
                found.append(self.media.get("/", params=query, headers={"Accept": accept}, follow_redirects=False))
        assert self.gallery.get("/api/recent").status_code == 200
        return {answer.status_code for answer in found}


@pytest.fixture
def site(tables: AirflowTables, s3: S3Client, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Site:
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET)
    set_aws(monkeypatch, s3_server)
    # Nobody listens there: an answer of the endpoint is not what is tested.
    own = {"bucket": BUCKET, "prefix": "out", "endpoint_url": s3_server.endpoint_url}
    set_modelslab(monkeypatch, "http://127.0.0.1:9", conn_id=CONN, **own)
    monkeypatch.setattr(gallery_store, "_stores", {})
    for module in (gallery_app, media_app):
        monkeypatch.setattr(module, "create_session", tables.session)
    monkeypatch.setattr(gallery_app, "readable_dags", lambda _: {"films"})
    monkeypatch.setattr(gallery_app, "visible", lambda dag_ids, _: set(dag_ids))
    return Site(tables, s3)


FIELDS = {"modelslab_conn_id": CONN, "prompt": "a boat", "init_video": f"s3://{BUCKET}/out/in.mp4", "job": None}


def single(run_id: str) -> dict[str, Any]:
    """What a task of one clip writes."""
    uri = f"s3://{BUCKET}/out/films/restyle/{run_id}.mp4"
    request = {"prompt": "a boat", "init_video": FIELDS["init_video"], "lora_models": ["a"]}
    landed = {"uri": uri, "sidecar_uri": f"{uri}.json", "bytes": 10, "sha256": "ab", "content_type": "video/mp4"}
    made = {"seed": 1, "generation_time_s": 2.5, "request": request, "submitted_at": "2026-11-01T00:00:00+00:00"}
    manifest = {"schema_version": 1, "status": "landed", "job_id": "7", "conn_id": CONN, "links": [], **landed, **made}
    links = {"source": FIELDS["init_video"], "result": uri, "manifest": f"{uri}.json", "job_id": "7", "conn_id": CONN}
    return {
        "manifest": manifest,
        "links": links,
        "sidecar": {"schema_version": 1, "job_id": "7", "meta": {"width": 8, "fps": 8}, **landed, **made},
        "claim": {"attempt": {**ATTEMPT, "run_id": run_id}, "source": "ab", "claimed_at": "2026-11-01T00:00:00+00:00"},
        "job": {"job_id": "7", "submitted_at": 1.0, "eta": 5, "request": request, "meta": {"seed": 1}},
        "failed": {"error": {"code": "job_failed", "message": "no luck"}},
    }


@pytest.mark.slow
@some
@given(st.data())
def test_a_task_of_one_clip(site: Site, data: st.DataObject) -> None:
    run_id = site.start()
    usual = single(run_id)
    site.put(f"out/films/restyle/{run_id}.mp4", b"clip")
    site.put(f"out/films/restyle/{run_id}.mp4.json", data.draw(odd_records(usual["sidecar"])).encode())
    target = S3Uri(BUCKET, f"out/films/restyle/{run_id}.mp4")
    root = S3Profile(bucket=BUCKET, prefix="out").ledger_root(None)
    assert root is not None
    folder = result_folder(root, target).key
    for name in ("0001-claim", "0001-job", "0001-failed"):
        site.put(f"{folder}/{name}.json", data.draw(odd_records(usual[name[5:]])).encode())
    site.put(f"{folder}/{data.draw(st.sampled_from(('notes', '1', '-', 'a-b', '0001', '٣-claim')))}.json", b"notes")
    returned = data.draw(st.none() | odd_records(usual["manifest"]))
    xcoms = {"modelslab_links": RawJson(data.draw(odd_records(usual["links"])))}
    xcoms |= {} if returned is None else {"return_value": RawJson(returned)}
    state = data.draw(st.sampled_from(("success", "failed", "running")))
    site.add(state=state, fields=RawJson(data.draw(odd_records(FIELDS))), xcoms=xcoms)
    assert site.visit() <= ANSWERS


@pytest.mark.slow
@some
@given(st.data())
def test_a_batch(site: Site, data: st.DataObject) -> None:
    run_id = site.start()
    manifest = f"out/_modelslab/batches/films/restyle/{run_id}.jsonl"
    summary = {
        "schema_version": 1,
        "found": 2,
        "landed": 1,
        "failed": 1,
        "bytes": 10,
        "seconds": 2.5,
        "conn_id": CONN,
        "manifest": f"s3://{BUCKET}/{manifest}",
        "retry": f"s3://{BUCKET}/{manifest[:-1]}.retry.jsonl",
    }
    line = {**LINE, "uri": f"s3://{BUCKET}/out/0.mp4"}
    site.put(manifest, data.draw(odd_lines(line)))
    site.put(manifest.replace(".jsonl", ".retry.jsonl"), data.draw(odd_lines({"destination": line["uri"]})))
    site.put(
        "out/0.mp4.json",
        data.draw(odd_records({"schema_version": 1, "uri": line["uri"], "request": {"seed": 1}})).encode(),
    )
    state = data.draw(odd_records(STATE)).encode()
    site.put(manifest.replace(".jsonl", ".try1.state.json.gz"), data.draw(odd_gzips(state)))
    returned = data.draw(st.none() | odd_records(summary))
    xcoms = {} if returned is None else {"return_value": RawJson(returned)}
    site.add(
        operator="ModelsLabVideo2VideoBatchOperator",
        state=data.draw(st.sampled_from(("success", "failed", "running"))),
        fields={"modelslab_conn_id": CONN},
        xcoms=xcoms,
    )
    assert site.visit() <= ANSWERS


@pytest.mark.parametrize("deep", DEEP[-2:] + DEEP[2:4])
def test_what_the_database_holds_and_python_cannot_parse(site: Site, deep: str) -> None:
    site.start()
    huge = RawJson(json.dumps(["x" * 2_000_000]))
    video = {"schema_version": 1, "kind": "single", "seed": 1}
    site.add("odd", xcoms={"return_value": RawJson(deep), VIDEO_KEY: RawJson(deep)}, fields=RawJson(deep))
    site.add("huge", xcoms={"return_value": huge, VIDEO_KEY: huge})
    site.add("sound", xcoms={"return_value": single(site.run_id)["manifest"], VIDEO_KEY: video})
    items = [item for item in site.gallery.get("/api/recent").json()["items"] if item["run_id"] == site.run_id]
    assert [(item["task_id"], item["seed"]) for item in items] == [("sound", 1)]
    for task_id in ("huge", "odd", "sound"):
        assert site.visit(task_id) <= ANSWERS


_ODD = st.sampled_from((*NUMBERS, *TEXTS, *LINKS, "-1", "-2", str(2**31), "2147483647", "a,b", "1,,2", "0/0", "\x00"))
_IDS = st.sampled_from(("films", "restyle", "a\x00b", "x" * 251, "日本語", "../..", "", " ", "%00", "a/b"))
_AFTER = st.sampled_from(
    (
        *("2026-11-01T00:00:00/0", "2026-11-01T00:00:00+00:00/-1", "0001-01-01T00:00:00+23:59/0", "/", "2026-11-01"),
        *("9999-12-31T23:59:59-23:59/1", "2026-11-01T00:00:00+00:00/" + "9" * 40, "2026-11-01T00:00:00+00:00/٣"),
    )
)


@some
@given(st.data())
def test_odd_queries(site: Site, data: st.DataObject) -> None:
    draw = data.draw
    run_id, task_id, dag_id = draw(_IDS), draw(_IDS), draw(_IDS)
    names = st.sampled_from(("clips", "sample", "renew", "version", "loop_index", "map_index", "what"))
    query = {**draw(st.dictionaries(names, _ODD, max_size=3)), "run_id": run_id}
    query = {name: value.encode("utf-8", "replace").decode() for name, value in query.items()}
    index = quote(draw(st.sampled_from(("-1", "0")) | _ODD).encode("utf-8", "replace").decode(), safe="")
    path = f"/api/dags/{quote(dag_id, safe='')}/tasks/{quote(task_id, safe='')}/{index}"
    for what in ("", "/links", f"/clips/{index}", "/retry"):
        assert site.gallery.get(path + what, params=query).status_code in ANSWERS
    asked = {"what": draw(st.sampled_from(WHAT)), "dag_id": dag_id, "task_id": task_id, **query}
    assert site.media.get("/", params=asked).status_code in ANSWERS
    after = draw(_AFTER | _ODD).encode("utf-8", "replace").decode()
    assert site.gallery.get("/api/recent", params={"after": after}).status_code in {200, 400, 422}
    filters = st.sampled_from(("q", "dag", "model", "outcome", "since", "until"))
    query = draw(st.dictionaries(filters, _ODD | _AFTER, max_size=3))
    query = {name: value.encode("utf-8", "replace").decode() for name, value in query.items()}
    assert site.gallery.get("/api/recent", params=query).status_code in {200, 400, 422}


@pytest.mark.parametrize(
    "after", ["2026-11-01T00:00:00/0", "0001-01-01T00:00:00+23:59/0", "2026-11-01T00:00:00+00:00/-1"]
)
def test_an_after_that_no_page_told_is_refused(site: Site, after: str) -> None:
    assert site.gallery.get("/api/recent", params={"after": after}).status_code == 400


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_that_no_database_holds_is_refused(site: Site, time: str) -> None:
    for name in ("since", "until"):
        assert site.gallery.get("/api/recent", params={name: time}).status_code == 400


def test_a_map_index_that_no_database_holds_is_refused(site: Site) -> None:
    for index in ("2147483648", "-2", "9" * 40):
        assert site.gallery.get(f"/api/dags/films/tasks/restyle/{index}", params={"run_id": "r"}).status_code == 422
        query = {"dag_id": "films", "run_id": "r", "task_id": "restyle", "what": "result", "map_index": index}
        assert site.media.get("/", params=query).status_code == 422


# -- sizes ------------------------------------------------------------------------------------------------------------


def test_a_gzip_is_unpacked_as_far_as_it_may_be_long(site: Site) -> None:
    store = GalleryStorage(site.s3, S3Profile(bucket=BUCKET))
    site.put("bomb.state.json.gz", gzip.compress(b" " * 2**27, 9))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableError):
            store.read(S3Uri(BUCKET, "bomb.state.json.gz"), read_json, limit=2**20)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_an_object_is_read_as_far_as_it_may_be_long(site: Site) -> None:
    store = GalleryStorage(site.s3, S3Profile(bucket=BUCKET))
    site.put("out/large.mp4.json", b" " * (2**20 + 1))
    site.put("out/small.mp4.json", b" " * 2**20)
    for read in (store.read_uncached, lambda uri: store.read(uri, read_json, limit=2**20)):
        with pytest.raises(UnreadableError):
            read(S3Uri(BUCKET, "out/large.mp4.json"))
        assert read(S3Uri(BUCKET, "out/small.mp4.json")) is not None
    assert store.sidecar(S3Uri(BUCKET, "out/large.mp4")) == {}


def test_an_object_of_very_many_values_is_not_read(site: Site) -> None:
    site.put("values.json", b"[" + b"[]," * 1_000_001 + b"0]")
    with pytest.raises(UnreadableError):
        GalleryStorage(site.s3, S3Profile(bucket=BUCKET)).read(S3Uri(BUCKET, "values.json"), read_json)


def test_what_was_read_is_kept_within_a_budget(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_store, "_MAX_BYTES", 3000)
    store = GalleryStorage(site.s3, S3Profile(bucket=BUCKET))
    places = [S3Uri(BUCKET, f"budget/{number}.json") for number in range(5)]
    for place in places:
        site.put(place.key, b" " * 1000)
        store.read(place, read_json, limit=2000)
    assert {uri for uri, _ in store._parsed} == set(places[2:])
