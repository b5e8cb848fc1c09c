"""What the endpoint says was paid, over sockets and over ``kill -9``."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_modelslab.endpoint.echo import EchoEngine
from airflow_provider_modelslab.endpoint.settings import Settings
from tests.support.endpoint import KEY, VIDEO, Caller, running, serving

SMALL = {"width": 32, "height": 32, "num_frames": 2, "output_type": "gif", "seed": 1}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path, hold_s=120, admin=True, api_keys=(KEY, "another key"), allow_private_addresses=True
    )


def test_accepted_jobs_are_billed_and_refused_ones_are_not(settings: Settings) -> None:
    before = time.time()
    with serving(settings, EchoEngine()) as caller:
        assert caller.bills() == {
            "accepted": 0,
            "requests": dict.fromkeys(
                [
                    *("clear_cache", "clear_queue", "fetch", "reset_s3", "restart_server", "system_details"),
                    *("update_s3", "update_server", "video2video", "files", "other"),
                ],
                0,
            ),
            "jobs": [],
            "faults": {},
            "webhooks": {"running": 0, "waiting": 0, "answered": 0, "failed": 0, "dropped": 0},
        }
        first = caller.submit(**SMALL, track_id="a")
        second = caller.submit(**SMALL, webhook="http://127.0.0.1:9/none")
        third = Caller(caller.url, "another key").submit(**SMALL, prompt="another")
        assert caller.submit(width=5000)["status"] == "error"
        assert Caller(caller.url, "wrong key").submit()["message"] == "Invalid Api Key"
        bills = caller.bills()
    assert bills["accepted"] == 3
    assert bills["requests"]["video2video"] == 5
    jobs = bills["jobs"]
    assert [job["id"] for job in jobs] == [first["id"], second["id"], third["id"]]
    assert [(job["track_id"], job["status"], job["faults"]) for job in jobs] == [
        ("a", "success", []),
        (None, "success", []),
        (None, "success", []),
    ]
    marks = [job["fingerprint"] for job in jobs]
    assert marks[0] == marks[1] != marks[2]
    keys = [job["key_hash"] for job in jobs]
    assert keys[0] == keys[1] != keys[2]
    assert all(before <= job["accepted_at"] <= time.time() for job in jobs)
    assert KEY not in json.dumps(bills)


def test_every_request_is_counted_by_its_route(settings: Settings) -> None:
    with serving(settings, EchoEngine()) as caller:
        job = caller.submit(**SMALL)
        for _ in range(3):
            caller.fetch(job["id"])
        caller.fetch("unknown")
        requests.get(f"{caller.url}{VIDEO}/fetch/1", timeout=60)
        requests.post(f"{caller.url}{VIDEO}/video2video", data="no JSON", timeout=60)
        requests.get(job["output"][0], timeout=60)
        requests.get(f"{caller.url}/temp/none.gif", timeout=60)
        caller.post("/api/v1/enterprise/update_s3")
        caller.post(f"{VIDEO}/load_model")
        requests.get(f"{caller.url}/", timeout=60)
        requests.get(f"{caller.url}/healthz", timeout=60)
        counts = {name: count for name, count in caller.bills()["requests"].items() if count}
    assert counts == {"video2video": 2, "fetch": 5, "files": 2, "update_s3": 1, "other": 2}


def test_clearing_the_queue_and_the_end_of_24_hours_take_no_bill_back(tmp_path: Path) -> None:
    now = [1_000_000.0]
    settings = Settings(state_dir=tmp_path, hold_s=120, admin=True, retention_s=60)
    with serving(settings, EchoEngine(), clock=lambda: now[0]) as caller:
        caller.submit(**SMALL)
        caller.submit(**SMALL)
        caller.post(f"{VIDEO}/clear_queue")
        assert [bill["status"] for bill in caller.bills()["jobs"]] == ["success"] * 2
        now[0] += 60
        caller.submit(**SMALL)
        while (bills := caller.bills())["jobs"][0]["status"] != "gone":
            time.sleep(0.02)  # the worker tidies up before it takes a job, and before it waits for one
    assert [bill["status"] for bill in bills["jobs"]] == ["gone", "gone", "success"]
    assert bills["accepted"] == 3


def test_reset_forgets_the_bills_and_the_counts_and_no_job(settings: Settings) -> None:
    with serving(settings, EchoEngine()) as caller:
        job = caller.submit(**SMALL)
        answer = requests.post(f"{caller.url}/admin/reset", timeout=60)
        assert (answer.status_code, answer.json()["status"]) == (200, "success")
        bills = caller.bills()
        assert (bills["accepted"], bills["jobs"], set(bills["requests"].values())) == (0, [], {0})
        assert caller.fetch(job["id"])["status"] == "success"
        caller.submit(**SMALL)
        assert caller.bills()["accepted"] == 1


def test_the_admin_key_is_asked_for_where_there_is_one(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, admin=True, api_keys=(KEY,), admin_key="operator")
    with serving(settings, EchoEngine()) as caller:
        for token in (None, "", "Bearer", f"Bearer {KEY}", "operator", "Basic operator", "Bearer operator2"):
            headers = {} if token is None else {"Authorization": token}
            for method, path in (("GET", "bills"), ("POST", "reset")):
                refused = requests.request(method, f"{caller.url}/admin/{path}", headers=headers, timeout=60)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
                assert refused.json()["status"] == "error"
        headers = {"Authorization": "Bearer operator"}
        assert requests.get(f"{caller.url}/admin/bills", headers=headers, timeout=60).json()["accepted"] == 0
        assert requests.post(f"{caller.url}/admin/reset", headers=headers, timeout=60).status_code == 200


def test_there_is_no_admin_unless_it_is_switched_on(tmp_path: Path) -> None:
    with serving(Settings(state_dir=tmp_path, hold_s=120), EchoEngine()) as caller:
        caller.submit(**SMALL)
        assert requests.get(f"{caller.url}/admin/bills", timeout=60).status_code == 404
        assert requests.post(f"{caller.url}/admin/reset", timeout=60).status_code == 404
    with serving(Settings(state_dir=tmp_path, admin=True), EchoEngine()) as caller:
        assert caller.bills()["accepted"] == 0  # what was accepted before was not counted


def test_bills_survive_kill_9_of_the_command(tmp_path: Path) -> None:
    command = ["-m", "airflow_provider_modelslab.endpoint", "--state-dir", str(tmp_path / "state"), "--port", "0"]
    command += ["--engine", "echo", "--admin", "--allow-request-faults", "--hold-s", "120"]
    command += ["--faults", '{"seed": 5, "rates": {"job_failed": 0.5}, "options": {"job_failed": {"message": "no"}}}']
    bills: list[dict[str, Any]] = []
    for run in ("one", "two"):
        ready = tmp_path / f"{run}.json"
        with running([*command, "--ready-file", str(ready)], ready) as process:
            caller = Caller(json.loads(ready.read_text())["url"])
            if run == "one":
                assert caller.post(f"{VIDEO}/system_details").json()["engine"] == "echo"
                statuses = {caller.submit(**SMALL, track_id=f"{n}")["status"] for n in range(10)}
                assert statuses == {"success", "failed"}
                with pytest.raises(requests.ConnectionError):
                    caller.send(**SMALL, track_id="lost", x_faults=["reset_after"])
                caller.finished(11)
            bills.append(caller.bills())
            process.send_signal(signal.SIGKILL)
            assert process.wait(60) == -signal.SIGKILL
    assert bills[0]["accepted"] == 11
    assert bills[1]["jobs"] == bills[0]["jobs"]
    assert (
        bills[1]["faults"] == bills[0]["faults"] == {"job_failed": bills[0]["faults"]["job_failed"], "reset_after": 1}
    )
    assert bills[1]["jobs"][-1]["faults"] == ["reset_after"]
