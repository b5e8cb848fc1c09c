"""The endpoint as a process: killed with jobs in its queue, told to stop, and with the real engine."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests

from tests.support.endpoint import VIDEO, Caller, running
from tests.support.endpoint_engine import write_clip
from tests.support.files_server import FilesServer, ServedFile
from tests.support.scripted_server import Answer, ScriptedServer


def test_jobs_survive_kill_9(tmp_path: Path) -> None:
    state, gate = tmp_path / "state", tmp_path / "gate"
    command = ["-m", "tests.support.endpoint_process", str(state), str(gate)]
    ready = tmp_path / "ready-1"
    with running([*command, str(ready)], ready) as process:
        caller = Caller(ready.read_text())
        jobs = [caller.submit(instant_response=True, prompt=str(n), output_type="gif", seed=n) for n in range(3)]
        while _statuses(state) != ["running", "queued", "queued"]:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert _statuses(state) == ["running", "queued", "queued"]
    ready = tmp_path / "ready-2"
    with running([*command, str(ready)], ready) as process:
        caller = Caller(ready.read_text())
        assert {caller.fetch(job["id"])["status"] for job in jobs} == {"processing"}
        gate.touch()
        for job in jobs:
            done = caller.finished(job["id"])
            assert (done["status"], done["id"]) == ("success", job["id"])
            assert done["output"][0].endswith(f"/generations/{job['meta']['file_prefix']}.gif")
            assert requests.get(done["output"][0], timeout=60).content.startswith(b"GIF89a")
        process.terminate()
        assert process.wait(60) == 0
    with closing(sqlite3.connect(state / "endpoint.db")) as database:
        rows = database.execute(
            "SELECT prompt, attempts FROM (SELECT id, attempts, body ->> 'prompt' AS prompt FROM jobs)"
        )
        assert rows.fetchall() == [("0", 2), ("1", 1), ("2", 1)]


@pytest.mark.slow
def test_the_command_with_the_real_engine_leaves_the_hub_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "in.gif"
    write_clip(clip, frames=6, side=64, fps=7, seed=1)
    ready = tmp_path / "ready.json"
    command = ["-m", "airflow_provider_modelslab.endpoint", "--state-dir", str(tmp_path / "state"), "--port", "0"]
    command += ["--ready-file", str(ready), "--allow-private-addresses", "--device", "cpu", "--hold-s", "120"]
    with FilesServer() as files, ScriptedServer(Answer(status=404)) as hub, ExitStack() as stack:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        process = stack.enter_context(running(command, ready))
        link = files.add("/in.gif", ServedFile(clip.read_bytes(), content_type="image/gif"))
        caller = Caller(json.loads(ready.read_text())["url"])
        assert caller.post(f"{VIDEO}/system_details", key="another").json()["message"] == "Invalid Api Key"
        wanted = {"model_id": "tiny", "init_video": link, "num_frames": 4, "num_inference_steps": 2}
        done = caller.submit(**wanted, width=64, height=64, seed=3, strength=0.9)
        assert done["status"] == "success", done
        meta = done["meta"]
        assert (meta["width"], meta["height"], meta["num_frames"], meta["seed"]) == (64, 64, 4, 3)
        assert requests.get(done["output"][0], timeout=60).content[4:8] == b"ftyp"
        details = caller.post(f"{VIDEO}/system_details").json()
        (worker,) = details["workers"]
        assert (details["model_count"], worker["device"]) == (1, "cpu")
        assert [model["model_id"] for model in worker["models"]] == ["tiny"]
        refused = caller.submit(**{**wanted, "model_id": "no-such-model"})
        assert list(refused["message"]) == ["model_id"]
        missing = caller.submit(**{**wanted, "init_video": files.url("/none.gif")})
        assert missing["status"] == "failed"
        assert "HTTP 404" in missing["message"]
        process.terminate()
        assert process.wait(60) == 0
        assert hub.connections == 0


def _statuses(state: Path) -> list[str]:
    with closing(sqlite3.connect(state / "endpoint.db")) as database:
        return [row[0] for row in database.execute("SELECT status FROM jobs ORDER BY id")]
