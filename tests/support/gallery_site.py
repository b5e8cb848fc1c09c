"""The gallery in a browser without Airflow: its own files as the plugin serves them, and data made up for a test."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi.testclient import TestClient
from PIL import Image

from tools.make_clip import DEFAULT_PATH

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

__all__ = ["FIRST_COLOUR", "MEDIA", "RECENT", "MadeUpGallery", "batch", "recent_item", "single", "task_page"]

_PREFIX = "/modelslab/gallery"
RECENT = f"http://gallery.test{_PREFIX}/"
MEDIA = "http://bucket.test"
"""Another origin, as a bucket is."""

FIRST_COLOUR = (255, 0, 0)
"""Of the gif; its other pictures are blue."""


def task_page(task_id: str = "restyle") -> str:
    """The address of a task's page."""
    return f"{RECENT}?dag_id=films&run_id=run_1&task_id={task_id}&map_index=-1"


def batch(count: int, *, status: str = "landed") -> dict[str, Any]:
    """What the server tells of a batch on its way."""
    columns = ["index", "status", "source", "uri", "job_id", "seed", "bytes", "seconds", "code", "message"]
    rows = [[at, status, f"{at:05}.mp4", f"{at:05}.mp4", f"job-{at}", at, 1000, 2.0, None, None] for at in range(count)]
    return {
        "task": _task(),
        "kind": "batch",
        "batch": {
            "columns": columns,
            "rows": rows,
            "heads": {"source": "s3://bucket/in/", "uri": "s3://bucket/out/"},
            "summary": {"found": count},
            "common": {"prompt": "a boat"},
            "version": "1",
            "modified": "2026-11-01T00:00:00+00:00",
            "live": True,
            "read_from": "s3://bucket/state",
        },
    }


def single(outcome: str = "waiting") -> dict[str, Any]:
    """What the server tells of a task with one clip; one that waits goes on."""
    waits = outcome == "waiting"
    result = None if waits else {"uri": "s3://bucket/out.mp4"}
    told = {"outcome": outcome, "request": {"prompt": "a boat"}, "source": "s3://bucket/in.mp4", "result": result}
    return {
        "task": _task(state="deferred" if waits else "success", ended=not waits),
        "kind": "single",
        "single": {**told, "facts": {}, "error": None, "notes": [], "verified": True},
    }


def recent_item(task_id: str, *, found: int | None = None) -> dict[str, Any]:
    """A task of the page of what was made lately; a batch where clips were ``found``."""
    return {
        "dag_id": "films",
        "run_id": "run_1",
        "task_id": task_id,
        "map_index": -1,
        "operator": "ModelsLabVideo2VideoOperator",
        "landed_at": "2026-11-01T00:00:00+00:00",
        "kind": "single" if found is None else "batch",
        "outcome": "landed",
        "counts": None if found is None else {"found": found, "landed": found},
        "prompt": "a boat",
        "model_id": "dark-sushi-mix",
        "seed": 1,
        "seconds": 2.0,
    }


class MadeUpGallery:
    """Answers a page's requests; what it tells may be changed at any time.

    :param status: of each answer with data; of another than 200 it tells ``detail``.
    :param answer: what it tells of any task.
    :param links: of each clip: by side, what is to be seen (``a.mp4`` or ``a.gif``).
    :param pages: of what was made lately, one after the other.
    """

    def __init__(self) -> None:
        self.status = 200
        self.detail = "not now"
        self.answer: dict[str, Any] = single()
        self.links: dict[str, str] = {}
        self.pages: list[list[dict[str, Any]]] = [[]]
        self.looks = 0
        self.searched: list[str] = []
        _file("/")  # imports Airflow, for which no page should have to wait

    def serve(self, page: Page) -> None:
        """Answer what this page asks for; nothing leaves the machine."""
        page.route("**/*", self._handle)

    def _handle(self, route: Route) -> None:
        asked = urlsplit(route.request.url)
        path = asked.path.removeprefix(_PREFIX)
        if route.request.url.startswith(MEDIA):
            self._send_media(route, path.rpartition(".")[2])
        elif not path.startswith("/api/"):
            status, headers, body = _file(path)
            route.fulfill(status=status, headers=headers, body=body)
        elif self.status != 200:
            self.looks += 1
            route.fulfill(status=self.status, json={"detail": self.detail})
        else:
            route.fulfill(json=self._data(path.removeprefix("/api/"), asked.query))

    def _data(self, path: str, query: str) -> dict[str, Any]:
        if path == "recent":
            at = int(query.partition("after=")[2] or 0)
            self.searched.append(query)
            return {"items": self.pages[at], "next": str(at + 1) if at + 1 < len(self.pages) else None}
        if path.endswith("/links"):
            sides = {
                side: {"url": f"{MEDIA}/{name}", "type": "image" if name.endswith(".gif") else "video"}
                for side, name in self.links.items()
            }
            clips = query.partition("clips=")[2].partition("&")[0].split("%2C")
            if "sample=" in query:
                clips = [str(at) for at in range(int(query.partition("sample=")[2].partition("&")[0]))]
                clips = clips[: self.answer.get("found", len(clips))]
            return {"expires_in": 900, "links": dict.fromkeys(clips, sides)}
        if "/clips/" in path:
            return {**single("landed")["single"]}
        self.looks += 1
        return self.answer

    def _send_media(self, route: Route, ending: str) -> None:
        body, kind = (_gif(), "image/gif") if ending == "gif" else (DEFAULT_PATH.read_bytes(), "video/mp4")
        headers = {"Content-Type": kind, "Accept-Ranges": "bytes"}
        wanted = route.request.headers.get("range", "")
        if not wanted:
            route.fulfill(headers=headers, body=body)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        end = int(last) if last else len(body) - 1
        headers["Content-Range"] = f"bytes {first}-{end}/{len(body)}"
        route.fulfill(status=206, headers=headers, body=body[int(first) : end + 1])


@cache
def _file(path: str) -> tuple[int, dict[str, str], bytes]:
    """One of the page's own files, with the headers of the plugin's application."""
    from airflow_provider_modelslab.plugins.gallery.app import make_app

    answer = TestClient(make_app()).get(path)
    return answer.status_code, dict(answer.headers), answer.content


def _task(*, state: str = "running", ended: bool = False) -> dict[str, Any]:
    return {
        "dag_id": "films",
        "run_id": "run_1",
        "task_id": "restyle",
        "map_index": -1,
        "operator": "ModelsLabVideo2VideoOperator",
        "state": state,
        "try_number": 1,
        "ended": ended,
    }


@cache
def _gif() -> bytes:
    """A red picture, which is soon gone, and blue ones for ever after."""
    first, *rest = (Image.new("RGB", (64, 36), colour) for colour in (FIRST_COLOUR, (0, 0, 255), (0, 0, 254)))
    kept = io.BytesIO()
    first.save(kept, "GIF", save_all=True, append_images=rest, duration=[20, 60_000, 60_000], loop=0)
    return kept.getvalue()
