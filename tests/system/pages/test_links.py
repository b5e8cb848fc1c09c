"""The links on tasks in a real Airflow: while a task waits and when it is done, clicked by people and by nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.support.browser import keep_screenshot
from tests.support.gated_endpoint import GatedEndpoint
from tests.support.guarded import GuardedServer
from tests.support.samples import small_mp4
from tools.stack.whole import WholeStack

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response

pytestmark = [pytest.mark.system, pytest.mark.slow]

KEY = "the-api-key-of-the-links-tests"
ALL = ["Job at the endpoint", "Manifest", "Result", "Source"]
CLIP = small_mp4(faststart=True)


@dataclass
class Story:
    """One run of the Dag, and what was seen of it while its job could not end."""

    site: WholeStack
    run_id: str
    waiting: dict[str, str | None] = field(default_factory=dict)
    answers: dict[str, requests.Response] = field(default_factory=dict)

    def links(self, dag_id: str = "links", task_id: str = "restyle", run_id: str | None = None) -> dict[str, Any]:
        path = f"dags/{dag_id}/dagRuns/{run_id or self.run_id}/taskInstances/{task_id}/links"
        return dict(self.site.airflow.call("GET", path)["extra_links"])

    def click(self, path: str, accept: str = "*/*", base: str | None = None) -> requests.Response:
        """What the API server answers; the site takes everybody for an administrator."""
        with requests.Session() as session:
            session.trust_env = False
            url = (base or self.site.airflow.url) + path
            return session.get(url, headers={"Accept": accept}, allow_redirects=False, timeout=60)


@pytest.fixture(scope="module")
def story(site: WholeStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    endpoint = GatedEndpoint(tmp_path_factory.mktemp("gated-links"))
    try:
        endpoint.start()
        extra = {
            "bucket": site.bucket,
            "prefix": "links",
            "region": site.s3.region,
            "endpoint_url": site.s3.endpoint_url,
        }
        site.airflow.set_connection(
            "modelslab_links", conn_type="modelslab", password=KEY, host=endpoint.url, extra=extra
        )
        site.s3.client().put_object(Bucket=site.bucket, Key="links/inputs/clip.mp4", Body=CLIP, ContentType="video/mp4")
        site.airflow.wait_for_dag("links")
        told = Story(site, site.airflow.trigger("links"))
        site.airflow.wait_for_task("links", told.run_id, "restyle", "deferred")
        told.waiting = told.links()
        told.answers = {name: told.click(path) for name, path in told.waiting.items() if path}
        told.answers["page"] = told.click(told.waiting["Result"] or "", accept="text/html")
        endpoint.open()
        assert site.airflow.finish("links", told.run_id) == "success"
        yield told
    finally:
        endpoint.stop()


def test_all_links_show_while_the_task_waits(story: Story) -> None:
    assert sorted(story.waiting) == ALL
    for path in story.waiting.values():
        assert path is not None
        parts = urlsplit(path)
        assert (parts.scheme, parts.netloc, parts.path) == ("", "", "/modelslab/media/")
        asked = {name: value for name, [value] in parse_qs(parts.query).items()}
        assert asked.pop("what") in {"result", "source", "manifest", "job"}
        assert asked == {"dag_id": "links", "run_id": story.run_id, "task_id": "restyle", "map_index": "-1"}


def test_what_they_lead_to_while_it_waits(story: Story) -> None:
    source, job = story.answers["Source"], story.answers["Job at the endpoint"]
    assert (source.status_code, source.content) == (200, CLIP)
    assert (job.status_code, job.json()["title"]) == (200, "The job is running")
    assert job.json()["Connection"] == "modelslab_links"
    for name in ("Result", "Manifest"):
        assert (story.answers[name].status_code, story.answers[name].json()["title"]) == (404, "Not there yet")
    page = story.answers["page"]
    assert page.status_code == 404
    assert '<meta http-equiv="refresh" content="5">' in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_what_they_lead_to_when_it_is_done(story: Story) -> None:
    links = story.links()
    assert sorted(name for name, path in links.items() if path) == ALL
    manifest = story.site.airflow.xcom("links", story.run_id, "restyle")
    result = story.click(links["Result"])
    assert result.status_code == 200
    assert result.headers["Cache-Control"] == "private, no-cache"
    assert result.headers["Content-Type"] == "video/mp4"
    assert len(result.content) == manifest["bytes"]
    assert result.content[4:8] == b"ftyp"
    sidecar = story.click(links["Manifest"])
    assert sidecar.json()["uri"] == manifest["uri"]
    assert story.click(links["Source"]).content == CLIP
    job = story.click(links["Job at the endpoint"]).json()
    assert job["title"] == "The job is done"
    assert job["Job"] == manifest["job_id"]
    for name in ALL:
        assert KEY not in story.click(links[name], accept="text/html").text


def test_no_xcom_holds_a_secret(story: Story) -> None:
    path = f"dags/links/dagRuns/{story.run_id}/taskInstances/restyle/xcomEntries"
    keys = [entry["key"] for entry in story.site.airflow.call("GET", path)["xcom_entries"]]
    told = {key: story.site.airflow.xcom("links", story.run_id, "restyle", key) for key in keys}
    assert told["modelslab_links"]["source"] == "s3://pages-tests/links/inputs/clip.mp4"
    text = json.dumps(told)
    for secret in ("X-Amz", "Signature", KEY, story.site.s3.secret_key):
        assert secret not in text


def test_a_batch_leads_to_its_results_manifest(story: Story) -> None:
    airflow = story.site.airflow
    airflow.wait_for_dag("links_batch")
    run_id = airflow.trigger("links_batch")
    assert airflow.finish("links_batch", run_id) == "success"
    links = story.links("links_batch", "all", run_id)
    assert [name for name, path in links.items() if path] == ["Manifest"]
    [line] = story.click(links["Manifest"]).text.splitlines()
    assert json.loads(line)["status"] == "landed"


def test_an_edited_xcom_opens_nothing_else(story: Story) -> None:
    """Whoever may edit XComs, and has no S3 credentials, cannot have other objects signed."""
    s3, airflow = story.site.s3.client(), story.site.airflow
    s3.put_object(Bucket=story.site.bucket, Key="private/payroll.json", Body=b'{"secret": 1}')
    where = f"dags/links/dagRuns/{story.run_id}/taskInstances/restyle/xcomEntries/modelslab_links"
    told = airflow.xcom("links", story.run_id, "restyle", "modelslab_links")
    other = f"s3://{story.site.bucket}/private/payroll.json"
    links = story.links()
    try:
        airflow.call("PATCH", where, {"value": told | {"result": other, "source": other, "manifest": other}})
        assert airflow.xcom("links", story.run_id, "restyle", "modelslab_links")["result"] == other
        for name in ("Result", "Source", "Manifest"):
            refused = story.click(links[name])
            assert (refused.status_code, refused.json()["title"]) == (404, "Not shown")
            assert "Location" not in refused.headers
    finally:
        airflow.call("PATCH", where, {"value": told})
    assert story.click(links["Result"]).status_code == 200


def test_nobody_gets_anything(story: Story, guarded: GuardedServer) -> None:
    for path in story.links().values():
        with guarded.session() as nobody:
            refused = nobody.get(guarded.url + path, allow_redirects=False, timeout=60)
            assert (refused.status_code, refused.json()) == (401, {"detail": "Not authenticated"})
            shown = nobody.get(guarded.url + path, headers={"Accept": "text/html"}, allow_redirects=False, timeout=60)
            assert (shown.status_code, shown.content) == (307, b"")
            assert urlsplit(shown.headers["Location"]).path == "/api/v2/auth/login"
            login = nobody.get(guarded.url + shown.headers["Location"], allow_redirects=False, timeout=60)
            assert login.status_code == 307
            assert path in parse_qs(urlsplit(login.headers["Location"]).query)["next"][0]
            nobody.headers["Authorization"] = "Bearer forged.by.somebody"
            assert nobody.get(guarded.url + path, allow_redirects=False, timeout=60).status_code == 403


def test_permissions_are_airflows(story: Story, guarded: GuardedServer) -> None:
    path = story.links()["Result"]
    with guarded.session("outsider") as outsider:
        refused = outsider.get(guarded.url + path, allow_redirects=False, timeout=60)
        assert (refused.status_code, refused.json()) == (403, {"detail": "Forbidden"})
        other = outsider.get(guarded.url + path.replace("dag_id=links", "dag_id=none"), timeout=60)
        assert (other.status_code, other.json()) == (403, {"detail": "Forbidden"})
    with guarded.session("looker") as looker:
        allowed = looker.get(guarded.url + path, allow_redirects=False, timeout=60)
        assert allowed.status_code == 200
        missing = looker.get(guarded.url + path.replace("restyle", "nothing"), timeout=60)
        assert (missing.status_code, missing.json()) == (404, {"detail": "There is no such task instance"})


def until(holds: Callable[[], bool], *, wait: Callable[[float], None]) -> None:
    for _ in range(300):
        if holds():
            return
        wait(100)
    raise AssertionError("not within 30 s")


def test_people_click_them(story: Story, page: Page) -> None:
    def on_the_task() -> None:
        page.goto(f"/dags/links/runs/{story.run_id}/tasks/restyle/details")
        page.get_by_role("link", name="Result", exact=True).wait_for()

    on_the_task()
    for name in ALL:
        assert page.get_by_role("link", name=name, exact=True).is_visible()

    seen: list[Response] = []
    page.on("response", lambda answer: seen.append(answer))
    page.get_by_role("link", name="Result", exact=True).click()
    page.locator("video").wait_for()
    assert page.url.startswith(story.site.airflow.url)
    assert next(answer.status for answer in seen if answer.url == page.url) in {200, 206}
    # Asked again and again: in the sandbox of its own page no script runs, and so no handler of the test either.
    video = page.locator("video")
    until(lambda: bool(video.evaluate("video => video.readyState")), wait=page.wait_for_timeout)
    assert video.evaluate("video => video.videoWidth") == 64

    on_the_task()
    page.get_by_role("link", name="Job at the endpoint").click()
    page.get_by_role("heading", name="The job is done").wait_for()
    keep_screenshot(page, "links-job")
    page.get_by_role("link", name="Back to the task").click()
    page.get_by_role("link", name="Manifest", exact=True).click()
    page.get_by_text('"schema_version": 1').wait_for()
