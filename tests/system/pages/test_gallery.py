"""The gallery in a real browser: one clip, clips that wait or failed, a batch, a thousand clips, and nobody's eyes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan
from airflow_provider_modelslab.batch.results.outcomes import Outcome, Outcomes, Status
from airflow_provider_modelslab.batch.results.report import write_results
from airflow_provider_modelslab.ledger.model import Fingerprint
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.airflow_versions import AIRFLOW
from tests.support.browser import expecting_toast, keep_screenshot, new_page
from tests.support.guarded import GuardedServer
from tools.make_clip import DEFAULT_PATH
from tools.stack.whole import WholeStack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ElementHandle, Frame, Locator, Page

pytestmark = [pytest.mark.system, pytest.mark.slow]

PROMPT = "a paper boat on a river of ink"
MARKUP = f"{PROMPT} <img src=x onerror=\"document.title='harmed'\">"
BROKEN = (3, 8)
PLAYING = "video => !video.paused && video.currentTime > 0 && video.readyState >= 2"
PREFIX = "/modelslab/gallery"


@dataclass(frozen=True)
class Made:
    """A task instance to look at."""

    dag_id: str
    run_id: str
    task_id: str

    @property
    def path(self) -> str:
        """The page alone, with the placeholder that Airflow leaves for tasks that are not mapped."""
        query = {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id, "map_index": "{MAP_INDEX}"}
        return f"{PREFIX}/?{urlencode(query)}"

    @property
    def tab(self) -> str:
        """The task's tab in Airflow."""
        return f"/dags/{self.dag_id}/runs/{self.run_id}/tasks/{self.task_id}/plugin/modelslab-video"

    def api(self, what: str = "", **query: Any) -> str:
        """The route of its data."""
        rest = urlencode({"run_id": self.run_id, **query})
        return f"{PREFIX}/api/dags/{self.dag_id}/tasks/{self.task_id}/-1{what}?{rest}"


@pytest.fixture(scope="module")
def made(site: WholeStack) -> dict[str, Made]:
    """One task instance of each kind, all at once."""
    s3, bucket, clip = site.s3.client(), site.bucket, DEFAULT_PATH.read_bytes()
    lines = []
    for number in range(12):
        s3.put_object(Bucket=bucket, Key=f"in/clip-{number:02}.mp4", Body=clip, ContentType="video/mp4")
        line: dict[str, Any] = {"init_video": f"s3://{bucket}/in/clip-{number:02}.mp4"}
        if number in BROKEN:
            line["extra_parameters"] = {"x_faults": {"job_failed": {"message": f"out of memory at clip {number}"}}}
        lines.append(line)
    s3.put_object(Bucket=bucket, Key="lists/twelve.jsonl", Body="\n".join(map(json.dumps, lines)).encode())
    one = {"source": lines[0]["init_video"], "prompt": PROMPT, "negative_prompt": "blurry"}
    many = {"source": f"s3://{bucket}/lists/twelve.jsonl", "prompt": MARKUP}
    fails = {"prompt": MARKUP, "extra": {"x_faults": {"job_failed": {"message": "no luck"}}}}
    runs = {
        "landed": ("gallery_single", "restyle", one),
        "waiting": ("gallery_single", "restyle", one | {"extra": {"x_faults": "never_ending"}}),
        "failed": ("gallery_single", "restyle", one | fails),
        "batch": ("gallery_batch", "restyle_all", many | {"destination": "styled/", "max_failed": 5}),
        "strict": ("gallery_batch", "restyle_all", many | {"destination": "strict/"}),
    }
    if AIRFLOW >= (3, 4):
        runs["loop"] = ("gallery_loop", "regenerate.restyle", one)
    for dag_id in {dag_id for dag_id, *_ in runs.values()}:
        site.airflow.wait_for_dag(dag_id)
    found = {
        name: Made(dag_id, site.airflow.trigger(dag_id, conf), task) for name, (dag_id, task, conf) in runs.items()
    }
    for name, one_made in found.items():
        if name == "waiting":
            site.airflow.wait_for_task(one_made.dag_id, one_made.run_id, one_made.task_id, "deferred")
        else:
            wanted = "failed" if name in {"failed", "strict"} else "success"
            assert site.airflow.finish(one_made.dag_id, one_made.run_id) == wanted
    return found | {"other": replace(found["landed"], task_id="nothing")}


def in_tab(page: Page, made: Made) -> Frame:
    """Open the task's tab in Airflow and wait for the frame with the page."""
    page.goto(made.tab)
    frame = frame_of(page, "Video")
    frame.wait_for_selector("#page:not([aria-busy])")
    return frame


def frame_of(page: Page, title: str) -> Frame:
    frame = the(page, f"iframe[title='{title}']").content_frame()
    assert frame is not None
    return frame


def the(where: Page | Frame, selector: str) -> ElementHandle:
    """The element, as soon as it can be seen."""
    found = where.wait_for_selector(selector)
    assert found is not None
    return found


def opened(page: Page, path: str) -> Page:
    page.goto(path)
    page.wait_for_selector("#page:not([aria-busy])")
    return page


def texts(where: Locator) -> list[str]:
    return [text.strip() for text in where.all_text_contents()]


# -- one clip ---------------------------------------------------------------------------------------------------------


def test_one_clip_plays_beside_its_source(page: Page, made: dict[str, Made], site: WholeStack) -> None:
    frame = in_tab(page, made["landed"])
    for side in ("source", "result"):
        video = the(frame, f"[data-side={side}] video")
        frame.wait_for_function(PLAYING, arg=video)
        assert video.evaluate("video => video.muted")
    result = frame.query_selector("[data-side=result] video")
    frame.wait_for_function("video => video.currentTime < 0.5", arg=result)  # it begins again
    frame.get_by_role("button", name="Pause").click(delay=200)  # as long as a hand takes
    frame.wait_for_function("() => [...document.querySelectorAll('video')].every(video => video.paused)")
    frame.get_by_role("button", name="Play").click()
    frame.wait_for_function(PLAYING, arg=result)

    assert frame.locator(".prompt").first.inner_text() == PROMPT
    assert "blurry" in frame.locator(".details").inner_text()
    known = frame.locator(".facts").inner_text()
    assert all(text in known for text in ("demo (requested as dark-sushi-mix)", "Seed", "0.6", "192 \u00d7 128"))
    manifest = site.airflow.xcom(made["landed"].dag_id, made["landed"].run_id, "restyle")
    places = frame.locator(".locations").inner_text()
    assert manifest["uri"] in places
    assert manifest["sidecar_uri"] in places
    assert f"s3://{site.bucket}/in/clip-00.mp4" in places


def test_what_a_prompt_says_is_text(page: Page, made: dict[str, Made]) -> None:
    for name in ("failed", "batch"):
        opened(page, made[name].path)
        page.get_by_text("a paper boat on a river of ink <img").first.wait_for()
        assert page.locator("img").count() == 0
        assert page.title() == "ModelsLab videos"


def test_the_request_can_be_copied_and_given_again(page: Page, made: dict[str, Made], site: WholeStack) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.airflow.url)
    opened(page, made["landed"].path)
    page.get_by_text("Request", exact=True).click()
    with expecting_toast(page, "request copied"):
        page.get_by_role("button", name="Copy request").click()
    request = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert request["prompt"] == PROMPT
    assert request["init_video"] == f"s3://{site.bucket}/in/clip-00.mp4"
    assert request["seed"] == 7
    assert "key" not in request


def test_result_over_source(page: Page, made: dict[str, Made]) -> None:
    opened(page, made["landed"].path)
    page.wait_for_selector("[data-side=result] video")
    page.get_by_role("button", name="Compare").click()
    page.get_by_label("How much of the source to show").fill("30")
    assert "30%" in page.locator("[data-side=result]").evaluate("box => getComputedStyle(box).clipPath")


def test_who_wants_calm_starts_it_himself(browser: Browser, site: WholeStack, made: dict[str, Made]) -> None:
    page = new_page(browser, base_url=site.airflow.url, reduced_motion="reduce")
    page.goto("/")
    opened(page, made["landed"].path)
    page.wait_for_function(
        "() => [...document.querySelectorAll('video')].filter(one => one.readyState >= 3).length === 2"
    )
    page.wait_for_function("() => !document.querySelector('.round').disabled")
    assert page.evaluate("[...document.querySelectorAll('video')].every(video => video.paused && !video.currentTime)")
    page.keyboard.press("Space")
    page.wait_for_function(PLAYING, arg=page.query_selector("[data-side=result] video"))
    page.context.close()


def test_a_clip_that_waits(page: Page, made: dict[str, Made]) -> None:
    opened(page, made["waiting"].path)
    page.wait_for_selector("[data-side=source] video")
    assert page.locator(".badge").first.inner_text() == "Waiting"
    assert page.locator("[data-side=result]").inner_text().endswith("Waiting for the result")
    assert "Job" in page.locator(".facts").inner_text()


def test_a_clip_that_failed(page: Page, made: dict[str, Made]) -> None:
    opened(page, made["failed"].path)
    page.wait_for_selector("[data-side=source] video")
    assert page.locator(".badge").first.inner_text() == "Failed"
    assert "no luck" in page.get_by_role("alert").inner_text()


def test_a_task_of_others_leads_to_those_with_videos(page: Page, made: dict[str, Made]) -> None:
    opened(page, made["other"].path)
    assert "no video to show" in page.locator("#page").inner_text()
    assert page.locator("video").count() == 0
    page.get_by_role("link", name="restyle", exact=True).click()
    page.wait_for_url(f"**/dags/{made['landed'].dag_id}/runs/{made['landed'].run_id}/tasks/restyle*")


def test_the_tab_is_on_our_tasks_alone_where_airflow_can_do_that(page: Page, made: dict[str, Made]) -> None:
    tab = page.locator("a[href*='plugin/modelslab-video']")
    for name in ("landed", "other"):
        with page.expect_response(lambda answer: "/api/v2/plugins" in answer.url):
            page.goto(made[name].tab.partition("/plugin/")[0])
        page.locator("a[href*='/details']").first.wait_for()
        if name == "landed" or AIRFLOW < (3, 4):
            tab.wait_for()
        else:
            assert tab.count() == 0


@pytest.mark.skipif(AIRFLOW < (3, 4), reason="Airflow has task loops since 3.4")
def test_an_iteration_of_a_loop_is_chosen(page: Page, made: dict[str, Made]) -> None:
    newest, first = made["loop"].tab, f"{made['loop'].tab}?loop_id=regenerate&iteration=0"  # Airflow's own addresses
    for address, shown in ((first, "0"), (newest, "1")):
        page.goto(address)
        frame = frame_of(page, "Video")
        assert the(frame, ".iterations [aria-current=page]").inner_text() == shown
    chooser = frame.get_by_role("navigation", name="Iterations of the loop")
    assert texts(chooser.get_by_role("link")) == ["0", "1"]
    assert chooser.locator("[aria-current=page]").inner_text() == "1"
    assert "/loop1.mp4" in frame.locator(".locations").inner_text()
    chooser.get_by_role("link", name="0").click()
    chooser.locator("[aria-current=page]", has_text="0").wait_for()  # until then the other video is there
    frame.wait_for_function(PLAYING, arg=the(frame, "[data-side=result] video"))
    assert "/loop0.mp4" in frame.locator(".locations").inner_text()
    page.goto(first)
    frame = frame_of(page, "Video")
    frame.wait_for_function(PLAYING, arg=the(frame, "[data-side=result] video"))
    keep_screenshot(page, "gallery-loop")


# -- a batch ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_looked_through(page: Page, made: dict[str, Made]) -> None:
    opened(page, made["batch"].path)
    assert texts(page.locator(".count")) == ["All12", "Landed10", "Failed2"]
    page.wait_for_function("() => document.querySelectorAll('.card.landed.filled video').length === 10")
    page.locator(".count.failed").click()
    assert sorted(texts(page.locator(".card .name"))) == [f"clip-{number:02}.mp4" for number in BROKEN]
    assert "out of memory at clip 3" in page.locator(".card .detail").first.inner_text()
    page.locator(".count.all").click()
    page.get_by_label("Search clips").fill("memory 08")
    assert texts(page.locator(".card .name")) == ["clip-08.mp4"]
    assert "1 of 12 clips" in page.locator("p.detail").inner_text()


def test_a_clip_of_a_batch_is_opened_with_the_keyboard(page: Page, made: dict[str, Made], site: WholeStack) -> None:
    opened(page, made["batch"].path)
    first = page.locator(".card button.frame").first
    first.focus()
    page.wait_for_function(PLAYING, arg=page.wait_for_selector(".card video"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    page.wait_for_function(PLAYING, arg=dialog.locator("[data-side=result] video").element_handle())
    assert dialog.get_by_role("heading", level=2).inner_text() == "clip-01.mp4"
    dialog.get_by_text("Prompt", exact=True).wait_for()
    assert dialog.locator(".prompt").inner_text() == MARKUP
    assert f"s3://{site.bucket}/in/clip-01.mp4" in dialog.locator(".locations").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    dialog.get_by_text("out of memory at clip 3").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    page.wait_for_function("() => document.activeElement.ariaLabel?.includes('clip-03.mp4')")


def test_what_is_about_to_be_pressed_stays(page: Page, made: dict[str, Made]) -> None:
    """A batch on its way is drawn again every few seconds."""
    opened(page, made["batch"].path)
    kept = page.evaluate(
        """async () => {
            const { el, redraw } = await import(new URL("dom.js", location));
            const buttons = (count) => [el("button", {}, "all"), el("button", {}, `failed ${count}`)];
            const place = el("div", {}, ...buttons(1));
            document.body.append(place);
            const pressed = place.children[1];
            pressed.focus();
            redraw(place, ...buttons(1));
            const same = document.activeElement === pressed;
            redraw(place, ...buttons(2));
            return [same, document.activeElement.textContent];
        }"""
    )
    assert kept == [True, "failed 2"]


def test_the_failed_clips_are_the_next_source(page: Page, made: dict[str, Made], site: WholeStack) -> None:
    opened(page, made["batch"].path)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSONL").click()
    given = download.value.path().read_text()
    summary = site.airflow.xcom(made["batch"].dag_id, made["batch"].run_id, "restyle_all")
    stored = site.s3.client().get_object(Bucket=site.bucket, Key=S3Uri.parse(summary["retry"]).key)["Body"].read()
    assert [json.loads(line) for line in given.splitlines()] == [json.loads(line) for line in stored.splitlines()]
    assert summary["retry"] in page.locator(".again").inner_text()
    page.get_by_label("Choose clip-00.mp4 for a retry").check(force=True)
    page.get_by_label("Choose clip-03.mp4 for a retry").check(force=True)
    assert "2 chosen" in page.locator(".again").inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSONL").click()
    landed, failed = (json.loads(line) for line in download.value.path().read_text().splitlines())
    assert (landed["init_video"], landed["prompt"]) == (f"s3://{site.bucket}/in/clip-00.mp4", MARKUP)
    assert failed == next(json.loads(line) for line in stored.splitlines() if b"clip-03" in line)


def test_a_batch_whose_task_failed_shows_what_landed(page: Page, made: dict[str, Made]) -> None:
    opened(page, made["strict"].path)
    assert texts(page.locator(".count")) == ["All12", "Landed10", "Failed2"]
    assert texts(page.locator(".head .badge")) == ["Failed"]


# -- many clips -------------------------------------------------------------------------------------------------------


@pytest.fixture
def thousand(site: WholeStack, made: dict[str, Made]) -> Iterator[int]:
    """The results manifest of the batch told of a thousand clips; they share twenty videos."""
    s3, bucket = site.s3.client(), site.bucket
    summary = site.airflow.xcom(made["batch"].dag_id, made["batch"].run_id, "restyle_all")
    manifest = S3Uri.parse(summary["manifest"])
    before = {
        key: s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        for key in (manifest.key, S3Uri.parse(summary["retry"]).key)
    }
    body, count = DEFAULT_PATH.read_bytes(), 1000
    for number in range(20):
        s3.put_object(Bucket=bucket, Key=f"many/clip-{number:02}.mp4", Body=body, ContentType="video/mp4")
    clips = []
    for index in range(count):
        place = S3Uri(bucket, f"many/clip-{index % 20:02}.mp4")
        source = f"s3://{bucket}/in/clip-{index:04}.mp4"
        clips.append(ClipPlan(index, source, {}, place, Fingerprint(f"{index:064}", None), "mp4"))
    outcomes = Outcomes(BatchPlan(tuple(clips), {}, "modelslab_default", S3Uri(bucket, "many/")))
    for clip in clips[:-10]:
        outcomes.tell(clip, Outcome(Status.LANDED, job_id=str(clip.index), seed=clip.index, bytes=len(body), seconds=4))
    folder, name = manifest.key.split("_modelslab/batches/")
    write_results(
        s3, S3Uri(bucket, f"{folder}_modelslab/batches/"), name.removesuffix(".jsonl"), outcomes, seconds=4000
    )
    yield count
    for key, content in before.items():
        s3.put_object(Bucket=bucket, Key=key, Body=content)


def test_a_thousand_clips_cost_a_screenful(page: Page, made: dict[str, Made], thousand: int) -> None:
    calls: list[str] = []
    page.on("request", lambda request: calls.append(request.url))
    opened(page, made["batch"].path)
    assert page.locator(".count.all b").inner_text() == "1\u202f000"
    page.wait_for_selector(".card.filled video")
    most = 0
    height = page.evaluate("document.documentElement.scrollHeight")
    for step in range(25):
        page.evaluate("y => window.scrollTo(0, y)", height * step / 24)
        page.wait_for_function("() => document.querySelectorAll('.card').length > 0")
        most = max(most, page.locator("video").count(), page.locator(".card").count())
    page.wait_for_selector("[aria-posinset='1000']")
    assert most <= 60
    data = [url for url in calls if "/api/dags/" in url and "/links" not in url and "/media/" not in url]
    links = [url for url in calls if "/links" in url]
    assert len(data) == 1
    asked = sum(url.partition("clips=")[2].count("%2C") + 1 for url in links)
    assert 0 < asked < thousand / 2
    page.get_by_label("Search clips").fill("clip-0500")
    assert texts(page.locator(".card .name")) == ["clip-0500.mp4"]
    page.wait_for_selector(".card.filled video")


# -- the navigation ---------------------------------------------------------------------------------------------------


def test_what_was_made_lately(page: Page, made: dict[str, Made], site: WholeStack) -> None:
    page.goto("/plugin/modelslab-gallery")
    frame = frame_of(page, "ModelsLab")
    card = the(frame, f"a.card[href*='{made['landed'].run_id}']")
    frame.wait_for_selector(f"a.card[href*='{made['batch'].run_id}'] .frame.four")
    assert not frame.query_selector(f"a.card[href*='{made['failed'].run_id}']")
    assert frame.query_selector(f"a.card[href*='{made['strict'].run_id}']")  # it failed, and clips of it landed
    frame.wait_for_function("() => [...document.querySelectorAll('video')].every(video => video.readyState >= 2)")
    card.click()
    frame.wait_for_selector("[data-side=result] video")
    frame.get_by_role("link", name="All videos").click()
    frame.wait_for_selector("a.card")
    frame.locator(f"a.card[href*='{made['landed'].run_id}']").click()
    frame.get_by_role("link", name="Task in Airflow").click()
    page.wait_for_url(f"**/dags/{made['landed'].dag_id}/runs/{made['landed'].run_id}/tasks/restyle*")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_as_dark_as_airflow(browser: Browser, site: WholeStack, made: dict[str, Made], theme: str) -> None:
    other = "light" if theme == "dark" else "dark"  # what the browser wishes is not what was chosen in Airflow
    page = new_page(browser, base_url=site.airflow.url, color_scheme=other)
    page.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    page.goto("/")
    frame = in_tab(page, made["landed"])
    assert frame.evaluate("document.documentElement.dataset.theme") == theme
    background = frame.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.context.close()


# -- who may look -----------------------------------------------------------------------------------------------------


def data_of(*some: Made) -> list[str]:
    """Every route that gives data of these."""
    return [
        route
        for one in some
        for route in (
            one.api(),
            one.api("/links", clips="0"),
            one.api("/clips/0"),
            one.api("/retry"),
            one.api("/media/0/result"),
        )
    ]


def test_nobody_gets_nothing(guarded: GuardedServer, made: dict[str, Made]) -> None:
    with guarded.session() as nobody:
        routes = data_of(made["landed"], made["batch"], Made("no_such_dag", "no_run", "no_task"))
        for route in [f"{PREFIX}/api/recent", *routes]:
            answer = nobody.get(guarded.url + route)
            assert (answer.status_code, answer.json()) == (401, {"detail": "Not authenticated"}), route
        forged = nobody.get(guarded.url + routes[0], headers={"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."})
        assert forged.status_code == 403
        shell = nobody.get(guarded.url + made["landed"].path)
        assert shell.status_code == 200
        assert shell.text == nobody.get(f"{guarded.url}{PREFIX}/").text  # the same for everybody: no data
        assert "script-src 'self'" in shell.headers["Content-Security-Policy"]
        assert nobody.get(f"{guarded.url}{PREFIX}/..%2fui.py").status_code == 404


def test_somebody_sees_what_airflow_lets_him(guarded: GuardedServer, made: dict[str, Made]) -> None:
    routes = data_of(made["batch"], Made("no_such_dag", "no_run", "no_task"))
    with guarded.session("outsider") as outsider, guarded.session("looker") as looker:
        assert {outsider.get(guarded.url + route).status_code for route in routes} == {403}
        assert outsider.get(f"{guarded.url}{PREFIX}/api/recent").json() == {"items": [], "next": None}
        assert [looker.get(guarded.url + route).status_code for route in routes] == [200] * 5 + [404] * 5
        seen = looker.get(f"{guarded.url}{PREFIX}/api/recent").json()["items"]
        assert made["batch"].run_id in {item["run_id"] for item in seen}


def test_no_link_holds_a_credential(page: Page, site: WholeStack, made: dict[str, Made]) -> None:
    opened(page, made["landed"].path)
    source = the(page, "[data-side=result] video").get_attribute("src") or ""
    assert source.startswith("api/dags/")
    log = (site.airflow.home / "api-server.log").read_text()
    assert made["landed"].run_id in log
    assert "X-Amz-Signature" not in log
