"""The gallery's page of a large batch: the time until it is shown, compared with a page that has all videos.

    python -m benchmarks.gallery --json benchmarks/results/gallery.json

A real Airflow, a real S3 server over TLS and headless Chromium, all on this machine. One batch of one clip runs; then
its results manifest is written anew, by the operator's own writer, with as many clips as are asked for, which share
twenty videos. Each page is opened in a browser without a cache. *Shown* is when all videos of the first screen have
drawn a picture. The page that is compared has a ``<video>`` for each clip, with links that were signed beforehand,
which is what a short script would write; it is opened from a file, so its HTML costs no time on the network.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan
from airflow_provider_modelslab.batch.results.outcomes import Outcome, Outcomes, Status
from airflow_provider_modelslab.batch.results.report import write_results
from airflow_provider_modelslab.ledger.model import Fingerprint
from airflow_provider_modelslab.storage.uri import S3Uri
from benchmarks.report import about, add_json_option, print_table, write_json
from tools.make_clip import DEFAULT_PATH
from tools.stack.whole import WholeStack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BUCKET = "gallery-benchmark"
VIDEOS = 20
_DAG = """
from airflow.sdk import DAG
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
with DAG("gallery", schedule=None):
    ModelsLabVideo2VideoBatchOperator(
        task_id="many", source=["s3://gallery-benchmark/clip.mp4"], destination="s3://gallery-benchmark/out/",
        model_id="dark-sushi-mix", prompt="a boat", poll_interval=0.5,
    )
"""
# All videos of the first screen have a picture, and there is one.
_SHOWN = """() => {
  const seen = (one) => one.getBoundingClientRect().top < innerHeight;
  const videos = [...document.querySelectorAll('video')].filter(seen);
  const cards = [...document.querySelectorAll('.card .frame')].filter(seen);
  const all = document.querySelector('.grid') ? videos.length >= cards.length - 6 : true;
  return videos.length > 0 && all && videos.every((video) => video.readyState >= 2);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 10_000], help="sizes of the batch")
    parser.add_argument("--naive", type=int, nargs="*", default=[1000], help="sizes of the page to compare")
    parser.add_argument("--repeats", type=int, default=3, help="how often each page is opened; the median counts")
    add_json_option(parser)
    options = parser.parse_args()
    with _site() as (site, run_id), _browser() as browser:
        rows = [
            _row("gallery", count, _gallery(site, browser, run_id, count, options.repeats)) for count in options.clips
        ]
        rows += [
            _row("a page of videos", count, _naive(site, browser, count, options.repeats)) for count in options.naive
        ]
    columns = ["page", "clips", "shown, s", "calls", "kB moved", "elements", "videos", "JSON call, ms", "JSON, kB"]
    print_table("The page of a batch", columns, [list(row.values()) for row in rows])
    pages = {f"{row['page']}, {row['clips']:,.0f} clips": _figures(row) for row in rows}
    write_json(options.json, {**about("gallery"), "pages": pages})


def _row(page: str, clips: int, figures: dict[str, float]) -> dict[str, float | str]:
    return {"page": page, "clips": float(clips), **figures}


def _figures(row: dict[str, float | str]) -> dict[str, float | str]:
    return {name: value for name, value in row.items() if name not in {"page", "clips"}}


@contextmanager
def _site() -> Iterator[tuple[WholeStack, str]]:
    """Everything started, and one small batch done."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "dags").mkdir()
        (folder / "dags" / "gallery.py").write_text(_DAG)
        site = WholeStack(folder, dags_folder=folder / "dags", bucket=BUCKET, endpoint_arguments=("--engine", "echo"))
        with site:
            site.start_s3()
            site.s3.client().put_object(Bucket=BUCKET, Key="clip.mp4", Body=DEFAULT_PATH.read_bytes())
            site.start_endpoint()
            site.start_airflow()
            site.airflow.wait_for_dag("gallery")
            run_id = site.airflow.trigger("gallery")
            state = site.airflow.finish("gallery", run_id)
            assert state == "success", site.airflow.task_log("gallery", run_id, "many")[-2000:]
            for number in range(VIDEOS):
                site.s3.client().put_object(
                    Bucket=BUCKET, Key=f"out/{number}.mp4", Body=DEFAULT_PATH.read_bytes(), ContentType="video/mp4"
                )
            yield site, run_id


@contextmanager
def _browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("There is no Chromium on this machine; `make chromium` installs one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--no-proxy-server"])
        yield browser
        browser.close()


def _result(index: int) -> S3Uri:
    return S3Uri(BUCKET, f"out/{index % VIDEOS}.mp4")


def _gallery(site: WholeStack, browser: Browser, run_id: str, count: int, repeats: int) -> dict[str, float]:
    clips = [
        ClipPlan(
            index, f"s3://{BUCKET}/in/{index:06}.mp4", {}, _result(index), Fingerprint(f"{index:064}", None), "mp4"
        )
        for index in range(count)
    ]
    outcomes = Outcomes(BatchPlan(tuple(clips), {}, "modelslab_default", S3Uri(BUCKET, "out/")))
    for clip in clips:
        job = str(900_000 + clip.index)
        outcomes.tell(clip, Outcome(Status.LANDED, job_id=job, seed=clip.index, bytes=31_000, seconds=40))
    manifest = S3Uri.parse(site.airflow.xcom("gallery", run_id, "many")["manifest"])
    head, name = manifest.key.removesuffix(".jsonl").split("_modelslab/batches/")
    write_results(site.s3.client(), S3Uri(BUCKET, f"{head}_modelslab/batches/"), name, outcomes)
    query = urlencode({"dag_id": "gallery", "run_id": run_id, "task_id": "many", "map_index": -1})
    return _median([_open(browser, f"{site.airflow.url}/modelslab/gallery/?{query}") for _ in range(repeats)])


def _naive(site: WholeStack, browser: Browser, count: int, repeats: int) -> dict[str, float]:
    s3 = site.s3.client()
    videos = []
    for index in range(count):
        place = _result(index)
        # Each has a link of its own, as clips of a batch have, though they share videos here.
        name = f"inline; filename={index}.mp4"
        parameters = {"Bucket": BUCKET, "Key": place.key, "ResponseContentDisposition": name}
        link = s3.generate_presigned_url("get_object", Params=parameters)
        videos.append(f'<video muted loop preload="metadata" width="232" src="{escape(link)}"></video>')
    with tempfile.NamedTemporaryFile("w", suffix=".html") as page:
        page.write("<!doctype html>" + "".join(videos))
        page.flush()
        return _median([_open(browser, f"file://{page.name}") for _ in range(repeats)])


def _open(browser: Browser, url: str) -> dict[str, float]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, ignore_https_errors=True)
    try:
        page = context.new_page()
        moved = _Moved(page)
        started = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.wait_for_function(_SHOWN, timeout=300_000)
        shown = time.perf_counter() - started
        page.wait_for_timeout(1500)  # what goes on loading is moved too
        return {
            "shown_s": shown,
            "calls": float(moved.calls),
            "moved_kb": moved.bytes / 1000,
            "elements": float(page.evaluate("document.querySelectorAll('*').length")),
            "videos": float(page.locator("video").count()),
            **moved.data,
        }
    finally:
        context.close()


class _Moved:
    """Counts what a page asks for."""

    def __init__(self, page: Page) -> None:
        self.calls = 0
        self.bytes = 0
        self.data = {"json_ms": 0.0, "json_kb": 0.0}
        self._of_data: str | None = None
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.responseReceived", self._answered)
        session.on("Network.loadingFinished", self._finished)
        session.on("Network.dataReceived", self._part)

    def _answered(self, event: dict[str, Any]) -> None:
        self.calls += 1
        answer = event["response"]
        if "/api/dags/" in answer["url"] and "/links" not in answer["url"]:
            self._of_data = event["requestId"]
            self.data["json_ms"] = answer["timing"]["receiveHeadersEnd"] - answer["timing"]["sendEnd"]

    def _part(self, event: dict[str, Any]) -> None:
        self.bytes += event["encodedDataLength"]

    def _finished(self, event: dict[str, Any]) -> None:
        if event["requestId"] == self._of_data:
            self.data["json_kb"] = event["encodedDataLength"] / 1000


def _median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


if __name__ == "__main__":
    main()
