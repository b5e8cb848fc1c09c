from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from tools.house.call_paths import CallPaths
from tools.house.figures import Figures, check
from tools.house.modules import import_cycles, largest_folder
from tools.house.submits import SubmitPath

PLACE = "http://127.0.0.1/video2video"


class Accepting(BaseAdapter):
    """Answers without a network."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url or "", request
        return response

    def close(self) -> None:
        pass


def post() -> None:
    with requests.Session() as session:
        session.mount("http://", Accepting())
        session.get(PLACE)
        session.post(PLACE)


def from_a_pool() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        pool.submit(post).result()


async def from_a_coroutine() -> None:
    post()


async def from_the_loops_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, post)


async def from_a_task() -> None:
    await asyncio.create_task(from_the_loops_executor())


def execute(call: Callable[[], Any]) -> None:
    result = call()
    if asyncio.iscoroutine(result):
        asyncio.run(result)


@pytest.mark.parametrize(
    ("call", "between"),
    [
        (post, []),
        (from_a_pool, ["from_a_pool"]),
        (from_a_coroutine, ["from_a_coroutine"]),
        (from_the_loops_executor, ["from_the_loops_executor"]),
        (from_a_task, ["from_a_task", "from_the_loops_executor"]),
    ],
)
def test_a_call_path_goes_on_in_threads_and_tasks(call: Callable[[], Any], between: list[str]) -> None:
    recorder = CallPaths(__name__, lambda request: request.method == "POST")
    with recorder.recording():
        execute(call)
    post()  # is not recorded any more
    (path,) = recorder.paths
    names = [str(frame).partition(":")[2] for frame in path]
    assert names[names.index("execute") :] == ["execute", *between, "post"]


def test_frames_of_other_packages_do_not_count() -> None:
    recorder = CallPaths(__name__[:-1], lambda request: True)
    with recorder.recording():
        post()
    assert recorder.paths == [(), ()]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Mapping[str, str]], Path]:
    """Makes a package of files with the given texts."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, files: Mapping[str, str]) -> Path:
        root = tmp_path / name
        for file, text in files.items():
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name("__init__.py").touch()
            path.write_text(text)
        return root

    return make


def test_import_cycles(package: Callable[[str, Mapping[str, str]], Path]) -> None:
    package(
        "made_up_cycles",
        {
            "one.py": "from made_up_cycles import two",
            "two.py": "def call():\n    from made_up_cycles.rooms import three",
            "rooms/three.py": "import made_up_cycles.one",
            "typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made_up_cycles import user",
            "user.py": "from made_up_cycles import typed, one",
        },
    )
    assert import_cycles("made_up_cycles") == [
        ["made_up_cycles.one", "made_up_cycles.rooms.three", "made_up_cycles.two"]
    ]


def test_largest_folder(package: Callable[[str, Mapping[str, str]], Path]) -> None:
    root = package("made_up_folders", dict.fromkeys(["a.py", "b/c.py", "b/d.py", "b/data.txt", "e/f.py", "e/g.py"], ""))
    assert largest_folder(root) == (2, [root / "b", root / "e"])


@pytest.mark.parametrize(
    ("single", "batch", "cycles", "above"),
    [
        (6, 9, 0, []),
        (7, 9, 0, ["frames_single"]),
        (6, 10, 0, ["frames_batch"]),
        (6, 9, 1, ["circles"]),
    ],
)
def test_limits(single: int, batch: int, cycles: int, above: list[str]) -> None:
    wrappers = ("m:wrapper",)
    figures = Figures(
        SubmitPath(wrappers, ("m:f",) * single),
        SubmitPath(wrappers, ("m:f",) * batch),
        [["a", "b"]] * cycles,
        99,
        ["p"],
        1,
        {},
    )
    assert check(figures) == above
