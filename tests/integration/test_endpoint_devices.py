"""The endpoint with several engines behind one address: its answers, and ``kill -9`` at every stage of a job."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.echo import EchoEngine
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.media.fetch import FetchLimits
from tests.support.endpoint import VIDEO, Caller, running, serving
from tests.support.endpoint_engine import ScriptedEngine, StagedEngine, write_clip
from tests.support.files_server import FilesServer, ServedFile
from tests.support.sounding import BEEP, beep_time, frame_times, grey_frames, write_sounding

SMALL = {"width": 32, "height": 32, "num_frames": 2, "output_type": "gif", "seed": 1, "instant_response": True}


def test_system_details_tell_of_the_lanes_and_their_models(tmp_path: Path) -> None:
    gate = threading.Event()
    engines = [StagedEngine(gate, device=f"cuda:{number}", model_count=number + 1) for number in range(2)]
    with serving(Settings(state_dir=tmp_path, hold_s=120), engines) as caller:
        jobs = [caller.submit(**SMALL, prompt=name, model_id="dark-sushi-mix") for name in "abcd"]
        for engine in engines:
            assert engine.busy.acquire(timeout=60)
        details = caller.post(f"{VIDEO}/system_details").json()
        model = {"model_id": "dark-sushi-mix", "bytes": 1000, "last_used": 1.0}
        assert details.pop("workers") == [
            {"device": "cuda:0", "jobs": 1, "models": [model]},
            {"device": "cuda:1", "jobs": 1, "models": [model]},
        ]
        assert details == {"model_count": 3, "queue_time": 10.0, "status": "ok"}  # 4 jobs, 5 s each, two at a time
        assert [job["eta"] for job in jobs] == [5.0, 5.0, 10.0, 10.0]
        gate.set()
        assert [caller.finished(job["id"])["status"] for job in jobs] == ["success"] * 4


def test_clear_queue_and_restart_reach_all_workers(tmp_path: Path) -> None:
    gate = threading.Event()
    engines = [ScriptedEngine(gate), StagedEngine(gate)]
    with serving(Settings(state_dir=tmp_path, hold_s=120), engines) as caller:
        cleared = [caller.submit(**SMALL, prompt=name) for name in "abc"]
        for engine in engines:
            assert engine.busy.acquire(timeout=60)
        assert caller.post(f"{VIDEO}/clear_queue").json()["status"] == "success"
        assert {caller.fetch(job["id"])["message"] for job in cleared} == {"Request not found"}
        kept = [caller.submit(**SMALL, prompt=name) for name in "de"]
        for engine in engines:
            assert engine.busy.acquire(timeout=60)
        assert caller.post(f"{VIDEO}/restart_server").json()["status"] == "success"
        for engine in engines:
            assert engine.busy.acquire(timeout=60)
        assert requests.get(f"{caller.url}/healthz", timeout=60).json() == {"status": "ok"}
        gate.set()
        assert [caller.finished(job["id"])["status"] for job in kept] == ["success", "success"]
    assert [engine.stopped for engine in engines] == [2, 2]
    assert sorted(engines[0].finished + engines[1].finished) == ["d", "e"]


def test_many_jobs_over_several_lanes_are_each_done_once(tmp_path: Path) -> None:
    engines = [EchoEngine(seconds=0.01) for _ in range(3)]
    with serving(Settings(state_dir=tmp_path, admin=True), engines) as caller:
        jobs = [caller.submit(**SMALL, prompt=f"{n}") for n in range(40)]
        links = [caller.finished(job["id"])["output"][0] for job in jobs]
        assert len({requests.get(link, timeout=60).content for link in links}) == 40
    assert [attempts for _, attempts in _jobs(tmp_path)] == [1] * 40


@pytest.mark.slow
def test_a_whole_clip_is_made_where_the_request_asks_for_it(tmp_path: Path) -> None:
    write_sounding(tmp_path / "in.mp4", grey_frames(30), [number / 25 for number in range(30)])
    with FilesServer() as files:
        link = files.add("/in.mp4", ServedFile((tmp_path / "in.mp4").read_bytes(), content_type="video/mp4"))
        limits = FetchLimits(allow_private_addresses=True)
        engines = [
            LocalEngine(cache_dir=tmp_path / "cache", device="cpu", offline=True, limits=limits) for _ in range(2)
        ]
        wanted = {**SMALL, "init_video": link, "model_id": "tiny", "num_inference_steps": 2, "strength": 0.5}
        wanted |= {"num_frames": 8, "output_type": "mp4", "x_clip_mode": "whole"}
        settings = Settings(state_dir=tmp_path / "state", unknown_attributes="all", answers="documented")
        with serving(settings, engines) as caller:
            refused = caller.send(**wanted, x_overlap=8)
            assert (refused.status_code, "x_overlap" in refused.json()["message"]) == (400, True)
            refused = caller.send(**wanted, x_audoi="drop")
            assert "did you mean x_audio?" in refused.json()["message"]
            jobs = [caller.submit(**wanted, x_audio=audio) for audio in ("keep", "drop", None)]
            answers = [caller.finished(job["id"]) for job in jobs]
            clips = [requests.get(answer["output"][0], timeout=60).content for answer in answers]
    beeps = []
    for clip in clips:
        (tmp_path / "got.mp4").write_bytes(clip)
        assert len(frame_times(tmp_path / "got.mp4")) == 30
        beeps.append(beep_time(tmp_path / "got.mp4"))
    assert beeps[1] is None
    assert abs((beeps[0] or 0) - BEEP) < 0.04
    assert clips[2] == clips[0]


def test_local_engines_side_by_side_make_the_same_clips_as_one_alone(tmp_path: Path) -> None:
    write_clip(tmp_path / "in.gif", frames=4, side=32, fps=7, seed=1)
    with FilesServer() as files:
        link = files.add("/in.gif", ServedFile((tmp_path / "in.gif").read_bytes(), content_type="image/gif"))
        limits = FetchLimits(allow_private_addresses=True)
        alone, *pair = (
            LocalEngine(cache_dir=tmp_path / "cache", device="cpu", offline=True, limits=limits) for _ in range(3)
        )
        wanted = {**SMALL, "init_video": link, "model_id": "tiny", "num_inference_steps": 2, "strength": 1}
        with serving(Settings(state_dir=tmp_path / "state"), pair) as caller:
            jobs = [caller.submit(**{**wanted, "seed": n % 3}) for n in range(6)]
            links = [caller.finished(job["id"])["output"][0] for job in jobs]
            clips = [requests.get(link, timeout=60).content for link in links]
            workers = _details(caller)["workers"]
    assert [[model["model_id"] for model in worker["models"]] for worker in workers] == [["tiny"], ["tiny"]]
    assert clips[:3] == clips[3:]
    assert len(set(clips)) == 3
    files_gone = {"init_video": str(tmp_path / "in.gif"), "seed": 2, "prompt": "a fox"}
    given = {key: value for key, value in {**wanted, **files_gone}.items() if key != "instant_response"}
    assert alone.generate(Video2VideoRequest(**given), tmp_path / "alone").path.read_bytes() == clips[2]


def test_kill_9_at_every_stage_of_a_job_loses_none_and_blames_only_those_that_ran(tmp_path: Path) -> None:
    state, gate = tmp_path / "state", tmp_path / "gate"
    command = ["-m", "tests.support.endpoint_process", str(state), str(gate)]
    ready = tmp_path / "ready-1"
    with running([*command, str(ready), "2"], ready) as process:
        caller = Caller(ready.read_text())
        jobs = [caller.submit(**SMALL, prompt=f"{n}") for n in range(7)]
        # Of each worker one clip waits to be written, one is rendered; two clips are read ahead.
        expected = [("running", 1)] * 4 + [("queued", 0)] * 3
        while _jobs(state) != expected:
            time.sleep(0.02)
        assert [worker["jobs"] for worker in _details(caller)["workers"]] == [2, 2]
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert _jobs(state) == expected
    ready = tmp_path / "ready-2"
    with running([*command, str(ready), "2"], ready) as process:
        caller = Caller(ready.read_text())
        assert {caller.fetch(job["id"])["status"] for job in jobs} == {"processing"}
        gate.touch()
        for job in jobs:
            done = caller.finished(job["id"])
            assert done["status"] == "success"
            assert requests.get(done["output"][0], timeout=60).content.startswith(b"GIF89a")
        process.terminate()
        assert process.wait(60) == 0
    assert _jobs(state) == [("success", 2)] * 4 + [("success", 1)] * 3
    assert len(list((state / "generations").iterdir())) == 7


def _details(caller: Caller) -> dict[str, Any]:
    answer: dict[str, Any] = caller.post(f"{VIDEO}/system_details").json()
    return answer


def _jobs(state: Path) -> list[tuple[str, int]]:
    """Status and attempts of every job."""
    with closing(sqlite3.connect(state / "endpoint.db")) as database:
        return database.execute("SELECT status, attempts FROM jobs ORDER BY id").fetchall()
