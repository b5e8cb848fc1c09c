"""What a new user sees of the demo, in a browser without any flags: videos that play, links that open, a search."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.airflow_versions import AIRFLOW
from tests.support.browser import keep_screenshot
from tests.system.demo.conftest import ROOT, KeptDemo
from tools.demo import DAG_ID, LOCAL_RUN, PREFIX

if TYPE_CHECKING:
    from playwright.sync_api import Frame, Page

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(3600)]

VERSION = ".".join(map(str, AIRFLOW))
BUCKET = "modelslab-demo"
BATCH = "modelslab_batch"
PLAYING = "video => !video.paused && video.currentTime > 0 && video.readyState >= 2"
STYLES = ("a poster in blue", "a sketch", "a watercolour in purple", "neon in cyan")
both_themes = pytest.mark.parametrize("page", ["light", "dark"], indirect=True)


def suffix(page: Page) -> str:
    return "-dark" if page.evaluate("localStorage.getItem('theme')") == "dark" else ""


def frame_of(page: Page, title: str) -> Frame:
    element = page.wait_for_selector(f"iframe[title='{title}']")
    assert element is not None
    frame = element.content_frame()
    assert frame is not None
    frame.wait_for_selector("#page:not([aria-busy])")
    return frame


def play(frame: Frame, selector: str) -> None:
    frame.wait_for_function(PLAYING, arg=frame.wait_for_selector(selector))


def tab(dag_id: str, run_id: str, task_id: str = "restyle") -> str:
    return f"/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/plugin/modelslab-video"


@both_themes
def test_source_and_result_play(page: Page, demo: KeptDemo) -> None:
    page.goto(tab(DAG_ID, demo.runs()[0]))
    frame = frame_of(page, "Video")
    for side in ("source", "result"):
        play(frame, f"[data-side={side}] video")
    places = frame.locator(".locations").inner_text()
    assert f"s3://{BUCKET}/{PREFIX}/inputs/" in places  # the clip was uploaded; it is not "on the worker's disk"
    assert frame.locator(".prompt").first.inner_text() == LOCAL_RUN["prompt"]
    keep_screenshot(page, f"gallery-task{suffix(page)}")
    if not suffix(page):
        keep_screenshot(page, f"airflow-{VERSION}-tab")


@pytest.mark.parametrize("link", ["Result", "Source"])
def test_the_link_opens_the_video(page: Page, demo: KeptDemo, link: str) -> None:
    page.goto(f"/dags/{DAG_ID}/runs/{demo.runs()[0]}/tasks/restyle/details")
    opened = page.get_by_role("link", name=link, exact=True)
    opened.wait_for()
    if link == "Result":
        keep_screenshot(page, "links-task")
    opened.click()
    page.locator("video").wait_for()
    page.wait_for_function("() => document.querySelector('video').readyState >= 2")
    assert page.url.startswith(f"{demo.airflow.url}/modelslab/media/")


@pytest.fixture(scope="module")
def batch(demo: KeptDemo) -> str:
    """A run of the example for batches: one clip in four styles, and a file that is no video, which it may not fail."""
    s3, folder = demo.s3, f"{PREFIX}/lists"
    clip = (ROOT / "dags_examples" / "media" / "clip.mp4").read_bytes()
    s3.put_object(Bucket=BUCKET, Key=f"{folder}/clip.mp4", Body=clip, ContentType="video/mp4")
    broken = b"\0\0\0\x18ftypmp42 and nothing more"  # an upload that was cut off
    s3.put_object(Bucket=BUCKET, Key=f"{folder}/cut-off.mp4", Body=broken, ContentType="video/mp4")
    lines = [
        {
            "init_video": f"s3://{BUCKET}/{folder}/{'clip' if style else 'cut-off'}.mp4",
            "destination": f"s3://{BUCKET}/{PREFIX}/styles/{(style or 'cut-off').replace(' ', '-')}.mp4",
            "prompt": style or STYLES[0],
            **{name: LOCAL_RUN[name] for name in ("strength", "seed", "width", "height")},
        }
        for style in (*STYLES, "")
    ]
    s3.put_object(Bucket=BUCKET, Key=f"{folder}/styles.jsonl", Body="\n".join(map(json.dumps, lines)).encode())
    conf = {
        "source": f"s3://{BUCKET}/{folder}/styles.jsonl",
        "destination": "styles/",
        "prompt": "one clip in several styles",
        "model_id": LOCAL_RUN["model_id"],
        "num_frames": 8,
        "num_inference_steps": 10,
    }
    run_id = demo.airflow.trigger(BATCH, conf)
    demo.wait_for_task(BATCH, run_id, "restyle", "up_for_retry", "success", "failed")
    return run_id


@both_themes
def test_the_page_of_a_batch(page: Page, demo: KeptDemo, batch: str) -> None:
    page.goto(tab(BATCH, batch))
    frame = frame_of(page, "Video")
    frame.wait_for_function("() => document.querySelectorAll('.card.landed.filled').length === 4")
    assert demo.airflow.task(BATCH, batch, "restyle")["state"] == "up_for_retry"
    assert frame.locator(".head .badge").inner_text() == "Retry follows"
    assert frame.locator(".again").is_hidden()  # the task tries the clip again itself
    page.set_viewport_size({"width": 1280, "height": 760})
    keep_screenshot(page, f"gallery-batch{suffix(page)}")
    page.set_viewport_size({"width": 1280, "height": 1000})
    frame.locator(".card.landed .name").first.click()  # as the picture does
    play(frame, "dialog [data-side=result] video")
    play(frame, "dialog [data-side=source] video")
    frame.wait_for_selector("dialog .prompt")
    keep_screenshot(page, f"gallery-clip{suffix(page)}")


@both_themes
def test_the_page_videos(page: Page, demo: KeptDemo, batch: str) -> None:
    page.set_viewport_size({"width": 1280, "height": 700})
    page.goto("/plugin/modelslab-gallery")
    frame = frame_of(page, "ModelsLab")
    frame.wait_for_selector(f"a.card[href*='{batch}'] .frame.four")
    frame.wait_for_function("() => [...document.querySelectorAll('video')].every(video => video.readyState >= 2)")
    cards = frame.locator("a.card")
    shown = [card.get_attribute("href") or "" for card in cards.all()]
    assert batch in shown[0]  # it failed, and landed last
    assert len([href for href in shown if demo.runs()[0] in href]) == 1
    keep_screenshot(page, f"gallery-recent{suffix(page)}")
    if not suffix(page):
        keep_screenshot(page, f"airflow-{VERSION}-gallery")
    frame.get_by_label("Outcome").select_option("partial")
    frame.wait_for_function("() => [...document.querySelectorAll('a.card .badge')].length > 0")
    frame.wait_for_function(
        "() => [...document.querySelectorAll('a.card')].every(card => card.querySelector('.badge'))"
    )
    assert batch in (cards.first.get_attribute("href") or "")
    frame.get_by_label("Outcome").select_option("")
    frame.get_by_label("Search prompt, file, task, run").fill("PURPLE")
    frame.wait_for_function("() => !document.querySelector('a.card .badge')")
    assert set(cards.locator(".name").all_inner_texts()) == {LOCAL_RUN["prompt"]}
    frame.get_by_label("Search prompt, file, task, run").fill("nothing like it")
    frame.get_by_text("No video matches.").wait_for()


def test_the_connection_tests_well(page: Page) -> None:
    page.goto("/connections")
    page.get_by_role("row").filter(has_text="modelslab_default").get_by_role("button", name="Test Connection").click()
    page.get_by_text("Test Connection Successful").wait_for()


def test_a_shell_has_the_same_airflow(demo: KeptDemo) -> None:
    script = f"source {demo.state}/env.sh && airflow modelslab check"
    done = subprocess.run(
        ["/bin/bash", "-c", script], capture_output=True, text=True, timeout=600, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (demo.state / "env.sh").stat().st_mode & 0o077 == 0


def test_healthy_logs_have_no_warnings(demo: KeptDemo) -> None:
    run = demo.state / "airflow" / "logs" / f"dag_id={DAG_ID}" / f"run_id={demo.runs()[0]}"
    lines = [json.loads(line) for file in run.rglob("*.log") for line in file.read_text().splitlines()]
    assert lines
    assert [line["event"] for line in lines if line["level"] not in {"debug", "info"}] == []
    endpoint = (demo.state / "endpoint" / "endpoint.log").read_text()
    assert "torchvision" not in endpoint


@pytest.mark.skipif("MODELSLAB_RUNNING_DEMO" in os.environ, reason="the running demo goes on running")
def test_a_second_demo_goes_on_where_the_first_ended(demo: KeptDemo, page: Page) -> None:
    """Last, since the ports are free for a moment."""
    first, ports = demo.runs(), demo.ports
    demo.stop()
    demo.start()
    assert demo.ports == ports
    assert "Going on with S3, history and ports" in demo.text
    assert demo.runs()[: len(first)] == first
    page.goto(tab(DAG_ID, first[0]))
    frame = frame_of(page, "Video")
    for side in ("source", "result"):
        play(frame, f"[data-side={side}] video")
