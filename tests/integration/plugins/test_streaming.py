"""Clips that the API server sends: ranges, conditions, headers, and how much of it at a time."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import HTTPException
from starlette.requests import Request

from airflow_provider_modelslab.plugins.gallery.store import open_store
from airflow_provider_modelslab.plugins.media import stream
from airflow_provider_modelslab.plugins.media.access import require_reader
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.plugin_site import CONN, Site
from tests.support.s3 import refusing

if TYPE_CHECKING:
    pass

SIZE = 3 * stream.PIECE + 1000
BODY = bytes(range(256)) * (SIZE // 256 + 1)
BODY = BODY[:SIZE]


def land(site: Site, body: bytes = BODY, ending: str = "mp4", **more: Any) -> tuple[str, S3Uri]:
    """A task whose result has landed; its run, and where the result is."""
    run_id = site.tables.add_run("films")
    uri = S3Uri(site.bucket, f"out/films/restyle/{run_id}.{ending}")
    facts = {"result": str(uri), "manifest": f"{uri}.json", "conn_id": CONN}
    manifest = {"schema_version": 1, "status": "landed", "job_id": "own-1", "conn_id": CONN, "uri": str(uri)}
    site.tables.add_task_instance(
        "films",
        run_id,
        "restyle",
        fields={"modelslab_conn_id": CONN},
        xcoms={"return_value": manifest, "modelslab_links": facts},
    )
    site.s3.put_object(Bucket=uri.bucket, Key=uri.key, Body=body, **more)
    sidecar = {"schema_version": 1, "uri": str(uri), "request": {}}
    site.s3.put_object(Bucket=uri.bucket, Key=f"{uri.key}.json", Body=json.dumps(sidecar).encode())
    return run_id, uri


@pytest.fixture(params=["gallery", "link"])
def ask(site: Site, request: pytest.FixtureRequest) -> Any:
    """Asks for a run's result at one of the two routes."""

    def call(run_id: str, method: str = "GET", **headers: str) -> Any:
        if request.param == "gallery":
            query: dict[str, Any] = {"run_id": run_id}
            return site.gallery.request(
                method, "/api/dags/films/tasks/restyle/-1/media/0/result", params=query, headers=headers
            )
        query = {"dag_id": "films", "run_id": run_id, "task_id": "restyle", "what": "result"}
        return site.media.request(method, "/", params=query, headers=headers, follow_redirects=False)

    return call


def test_the_whole_clip(site: Site, ask: Any) -> None:
    run_id, _ = land(site)
    answer = ask(run_id)
    assert (answer.status_code, answer.content) == (200, BODY)
    assert answer.headers["Content-Length"] == str(SIZE)
    head = ask(run_id, "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "Content-Type", "ETag", "Accept-Ranges"):
        assert head.headers[name] == answer.headers[name]


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-1", 0, 1),
        ("bytes=0-", 0, SIZE - 1),
        (f"bytes={SIZE - 5}-", SIZE - 5, SIZE - 1),
        ("bytes=-7", SIZE - 7, SIZE - 1),
        (f"bytes=100-{stream.PIECE + 200}", 100, stream.PIECE + 200),
    ],
)
def test_a_range(site: Site, ask: Any, wanted: str, first: int, last: int) -> None:
    run_id, _ = land(site)
    answer = ask(run_id, Range=wanted)
    assert (answer.status_code, answer.content) == (206, BODY[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert ask(run_id, "HEAD", Range=wanted).headers["Content-Length"] == str(last - first + 1)


def test_a_player_gets_a_long_clip_in_parts(site: Site, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So one that is paused keeps no connection of the few that a browser has for Airflow."""
    monkeypatch.setattr(stream, "_OPEN_RANGE", stream.PIECE + 10)
    run_id, _ = land(site)
    answer = ask(run_id, Range="bytes=0-")
    assert answer.headers["Content-Range"] == f"bytes 0-{stream.PIECE + 9}/{SIZE}"
    assert answer.content == BODY[: stream.PIECE + 10]


def test_a_range_behind_the_end_is_refused(site: Site, ask: Any) -> None:
    run_id, _ = land(site)
    answer = ask(run_id, Range=f"bytes={SIZE}-")
    assert (answer.status_code, answer.headers["Content-Range"], answer.content) == (416, f"bytes */{SIZE}", b"")


def test_a_browser_that_has_it_gets_nothing_but_the_leave_to_show_it(site: Site, ask: Any) -> None:
    run_id, _ = land(site)
    tag = ask(run_id, "HEAD").headers["ETag"]
    for header in (tag, f'"other", W/{tag}'):
        answer = ask(run_id, **{"If-None-Match": header})
        assert (answer.status_code, answer.content) == (304, b"")
    part = {"Range": "bytes=0-1"}
    assert ask(run_id, **part, **{"If-Range": tag}).status_code == 206
    assert ask(run_id, **part, **{"If-Range": '"other"'}).status_code == 200


def test_an_object_that_is_no_video_runs_no_script(site: Site, ask: Any) -> None:
    page = b"<!doctype html><script>document.title = 'harmed'</script>"
    run_id, _ = land(site, page, ContentType="text/html", ContentDisposition="inline; filename=x.html")
    answer = ask(run_id)
    assert answer.content == page
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = {part.split()[0]: part.split()[1:] for part in answer.headers["Content-Security-Policy"].split(";")}
    assert policy["default-src"] == ["'none'"]
    assert "script-src" not in policy
    assert "allow-scripts" not in policy["sandbox"]
    assert answer.headers["Content-Disposition"].startswith("inline; filename*=UTF-8''")


def test_a_gif_is_a_gif(site: Site, ask: Any) -> None:
    run_id, _ = land(site, b"GIF89a", "gif", ContentType="text/html")
    assert ask(run_id).headers["Content-Type"] == "image/gif"


def test_nothing_in_a_link_or_an_answer_opens_the_bucket(site: Site, ask: Any) -> None:
    run_id, _ = land(site)
    links = site.links(run_id).text
    for text in (links, str(ask(run_id).headers)):
        assert "X-Amz" not in text
        assert "Signature" not in text


def test_an_object_that_is_gone_is_missing(site: Site, ask: Any) -> None:
    run_id, uri = land(site)
    site.s3.delete_object(Bucket=uri.bucket, Key=uri.key)
    assert ask(run_id).status_code == 404


def test_what_s3_refuses_is_not_this_servers_fault(site: Site, ask: Any) -> None:
    run_id, _ = land(site)
    with refusing(open_store(CONN).s3, "HeadObject", 403, "AccessDenied"):
        assert ask(run_id).status_code == 502


def test_another_object_in_its_place_is_not_the_rest_of_it(site: Site) -> None:
    """What is read between two pieces belongs together, or is not sent."""
    _, uri = land(site)
    real = site.s3.head_object(Bucket=uri.bucket, Key=uri.key)["ETag"]
    site.s3.put_object(Bucket=uri.bucket, Key=uri.key, Body=b"x" * SIZE)
    asked = Request({"type": "http", "method": "GET", "headers": []})
    with pytest.raises(site.s3.exceptions.ClientError) as refused:
        stream.stream_object(site.s3, uri, asked, content_type="video/mp4", size=SIZE, etag=real)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412


def test_signed_links_where_the_operator_wants_them(site: Site, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MODELSLAB__MEDIA", "presigned")
    run_id, _ = land(site)
    answer = ask(run_id)
    assert answer.status_code in {307, 404}  # the link leads to S3; the gallery's pages do not ask here
    found = site.gallery.get("/api/dags/films/tasks/restyle/-1/links", params={"run_id": run_id}).json()
    assert "X-Amz-Signature" in found["links"]["0"]["result"]["url"]


def test_a_clip_that_waits_to_be_sent_blocks_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of S3 run in threads of their own, and a client that takes nothing holds none of them."""
    _, uri = land(site)
    etag = site.s3.head_object(Bucket=uri.bucket, Key=uri.key)["ETag"]
    asked = Request({"type": "http", "method": "GET", "headers": []})
    answer = stream.stream_object(site.s3, uri, asked, content_type="video/mp4", size=SIZE, etag=etag)
    threads: list[str] = []
    real = site.s3.get_object

    def noted(**arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return real(**arguments)

    monkeypatch.setattr(site.s3, "get_object", noted)
    sent = bytearray()
    during: list[int] = []

    async def send(message: Any) -> None:
        during.append(len(threads))  # while the client takes a piece, at most this one and those before it were read
        await asyncio.sleep(0)
        sent.extend(message.get("body", b""))

    async def receive() -> Any:
        await asyncio.Event().wait()

    asyncio.run(answer({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send))
    assert bytes(sent) == BODY
    assert threads == [name for name in threads if name.startswith("modelslab-media")]
    assert during == [0, 0, 1, 2, 3, 3]


def test_only_so_many_clips_are_sent_at_a_time(site: Site, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id, _ = land(site)
    monkeypatch.setattr(stream, "_MOST_ANSWERS", 0)
    busy = ask(run_id)
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "2")
    assert ask(run_id, Range="bytes=0-9").status_code == 206  # one piece, which was read already


def test_a_clip_of_a_task_that_one_may_not_read_is_not_sent(site: Site) -> None:
    def nobody() -> None:
        raise HTTPException(403, "Forbidden")

    run_id, _ = land(site)
    for client, path in (
        (site.gallery, f"/api/dags/films/tasks/restyle/-1/media/0/result?run_id={run_id}"),
        (site.media, f"/?dag_id=films&run_id={run_id}&task_id=restyle&what=result"),
    ):
        client.app.dependency_overrides[require_reader] = nobody  # type: ignore[attr-defined]
        for method in ("GET", "HEAD"):
            assert client.request(method, path, headers={"Range": "bytes=0-1"}).status_code == 403
