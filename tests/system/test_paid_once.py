"""No crash, retry or race pays for a clip twice, and no result is lost: with real processes that really die."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.paid_once import LANDED, Clip, EchoEndpoint, connected_echo
from tools.stack.process import wait_until
from tools.stack.whole import WholeStack

pytestmark = [pytest.mark.system, pytest.mark.slow]  # each test goes on from those before it


@pytest.fixture(scope="module")
def endpoint(stack: WholeStack) -> Iterator[EchoEndpoint]:
    with connected_echo(stack) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def clips(stack: WholeStack, endpoint: EchoEndpoint) -> dict[str, Clip]:
    """All runs, started at once: starting the processes of one at a time would take most of the time."""
    for dag_id in ("paid_once", "paid_once_blocking"):
        stack.airflow.wait_for_dag(dag_id)
    made: dict[str, dict[str, Any]] = {
        # Jobs that wait for as long as the endpoint holds them.
        "waits": {"held": True},
        "waits too": {"held": True},
        "cleared while deferred": {"held": True},
        "marked failed": {"held": True},
        "cleared while running": {"held": True, "deferrable": False},
        "runs": {"held": True, "deferrable": False},
        # Task processes that are killed.
        "after claim": {"die_at": "after claim", "deferrable": False},
        "after submit": {"die_at": "after submit", "deferrable": False},
        "before claim": {"die_at": "before claim", "deferrable": False},
        "after id": {"die_at": "after id"},
        "while landing": {"die_at": "while landing"},
        "object in S3": {"die_at": "object in S3"},
        "before XCom": {"die_at": "before XCom"},
        # Another result is wanted when it is cleared.
        "another result": {"deferrable": False, "modelslab": {"reuse": "never"}},
    }
    return {name: Clip.start(stack, endpoint, name, **how) for name, how in made.items()}


@pytest.mark.parametrize("point", ["before claim", "after id", "while landing", "object in S3", "before XCom"])
def test_a_killed_task_goes_on_where_it_was(clips: dict[str, Clip], point: str) -> None:
    clip = clips[point]
    clip.require_landed(*LANDED)
    assert clip.marker.exists()  # it was killed
    assert clip.task["try_number"] == 2
    assert ("Continuing with job" in clip.log) == (point in {"after id", "while landing", "object in S3"})
    assert ("is already in S3; nothing is submitted" in clip.log) == (point == "before XCom")


def test_killed_before_the_id_was_written_a_person_finds_the_job(stack: WholeStack, clips: dict[str, Clip]) -> None:
    clip = clips["after submit"]
    clip.wait_for("failed")
    assert clip.task["try_number"] == 2 < clip.task["max_tries"] + 1  # without the last retry
    assert "is not submitted again" in clip.log
    assert [*clip.ledger] == ["0001-claim"]

    (bill,) = clip.bills
    assert bill["track_id"] == clip.submission  # where a person looks for it
    stack.airflow.set_variable("modelslab_submissions", {clip.submission: str(bill["id"])})
    clip.clear()

    manifest = clip.require_landed(*LANDED)
    assert manifest["job_id"] == str(bill["id"])
    assert clip.ledger["0001-job"]["adopted"] is True


def test_killed_before_the_request_left_a_person_says_so(stack: WholeStack, clips: dict[str, Clip]) -> None:
    clip = clips["after claim"]
    clip.wait_for("failed")
    assert clip.task["try_number"] == 2
    assert clip.bills == []

    stack.airflow.set_variable("modelslab_submissions", {clip.submission: "resubmit"})
    clip.clear()
    clip.require_landed("0001-claim", "0001-resolved", "0002-claim", "0002-job", "0002-landed")


def test_a_cleared_deferred_task_waits_for_the_same_job(clips: dict[str, Clip]) -> None:
    clip = clips["cleared while deferred"]
    clip.wait_for_log("Waiting for job")
    clip.clear()
    clip.wait_for_log("Waiting for job", times=2)
    clip.wait_for("deferred")
    clip.wait_for_ledger("0001-abandoned")
    assert "Continuing with job" in clip.log
    assert len(clip.bills) == 1


def test_a_cleared_running_task_waits_for_the_same_job(clips: dict[str, Clip]) -> None:
    clip = clips["cleared while running"]
    clip.wait_for_log("Submitted as job")
    clip.clear()
    clip.wait_for_log("Continuing with job")
    assert "The task was killed while job" in clip.log
    assert "0001-abandoned" in clip.ledger
    assert len(clip.bills) == 1


def test_a_deferred_task_marked_failed_leaves_its_job_to_be_picked_up(
    endpoint: EchoEndpoint, clips: dict[str, Clip]
) -> None:
    clip = clips["marked failed"]
    clip.wait_for_log("Waiting for job")
    clip.mark("failed")
    clip.wait_for_ledger("0001-abandoned")
    assert clip.task["state"] == "failed"
    assert "keeps running at ModelsLab and is billed" in clip.log
    assert [bill["status"] for bill in clip.bills] == ["stuck"]  # it is still in the endpoint's queue
    assert endpoint.requests()["clear_queue"] == 0

    clip.clear()
    clip.wait_for_log("Continuing with job")
    clip.wait_for_log("Waiting for job", times=2)
    assert len(clip.bills) == 1


def test_another_triggerer_goes_on_for_one_that_was_killed(stack: WholeStack, clips: dict[str, Clip]) -> None:
    waiting = [clips["waits"], clips["waits too"]]
    for clip in waiting:
        clip.wait_for_log("Waiting for job")
    stack.airflow.kill("triggerer")
    stack.airflow.add("triggerer")
    for clip in waiting:
        clip.wait_for_log("Waiting for job", times=2)
        assert len(set(re.findall(r"Waiting for job \d+ until ([-0-9: ]+) UTC", clip.log))) == 1  # the same deadline
        assert clip.task["state"] == "deferred"
        assert len(clip.bills) == 1


def test_a_frozen_triggerer_comes_back_beside_another(stack: WholeStack, clips: dict[str, Clip]) -> None:
    airflow, waiting = stack.airflow, [clips["waits"], clips["waits too"]]
    airflow.add("triggerer", "second-triggerer")
    wait_until(lambda: airflow.alive("TriggererJob") == 2, [*airflow.parts.values()], what="two triggerers")
    before = {clip.run_id: clip.log.count("Waiting for job") for clip in waiting}

    airflow.freeze("triggerer")
    for clip in waiting:
        clip.wait_for_log("Waiting for job", times=before[clip.run_id] + 1)
    airflow.parts["triggerer"].thaw()  # and now the triggers run twice, until the first triggerer notices
    for clip in waiting:
        clip.wait_for_log("trigger completed")
        assert clip.task["state"] == "deferred"
        assert len(clip.bills) == 1
    airflow.kill("triggerer")


def test_a_killed_scheduler_leaves_tasks_behind_and_another_starts_them_again(
    stack: WholeStack, endpoint: EchoEndpoint, clips: dict[str, Clip]
) -> None:
    runs = clips["runs"]
    runs.wait_for_log("Submitted as job")
    # One has claimed and not yet submitted, and is alive when its task is given to another process.
    zombie = Clip.start(stack, endpoint, "zombie", die_at="after claim", how="wait", deferrable=False)
    zombie.wait_for_marker()
    stack.airflow.kill("scheduler")
    stack.airflow.add("scheduler")

    runs.wait_for_log("Continuing with job")
    zombie.wait_for_log("is submitting submission 1; waiting")
    assert zombie.bills == []
    zombie.go()
    zombie.wait_for_log("Continuing with job")
    assert [len(clip.bills) for clip in (runs, zombie)] == [1, 1]
    zombie.require_landed(*LANDED)


@pytest.fixture(scope="module")
def released(endpoint: EchoEndpoint, clips: dict[str, Clip]) -> dict[str, Clip]:
    """The endpoint works on what it held; used after all that happens to the jobs while they wait."""
    endpoint.release()
    return clips


@pytest.mark.parametrize(
    "name", ["waits", "waits too", "cleared while deferred", "marked failed", "cleared while running", "runs"]
)
def test_what_waited_lands_and_was_paid_for_once(released: dict[str, Clip], name: str) -> None:
    clip = released[name]
    clip.wait_for("success")
    clip.require_landed(*LANDED, *(["0001-abandoned"] if "0001-abandoned" in clip.ledger else []))


def test_a_cleared_finished_task_calls_nothing(endpoint: EchoEndpoint, released: dict[str, Clip]) -> None:
    for clip in released.values():
        clip.wait_for("success")
    clip, calls = released["before claim"], endpoint.requests()
    manifest = clip.manifest
    clip.clear()
    clip.wait_for_log("is already in S3; nothing is submitted")
    assert clip.require_landed(*LANDED) == manifest
    assert endpoint.requests() == calls


def test_a_clear_pays_for_another_result_where_no_stored_one_is_wanted(clips: dict[str, Clip]) -> None:
    clip = clips["another result"]
    first = clip.require_landed(*LANDED)
    clip.clear()
    clip.wait_for_log("reuse='never' excludes the stored result of submission 1")
    second = clip.require_landed(*LANDED, "0002-claim", "0002-job", "0002-landed", paid=2)
    assert second["job_id"] != first["job_id"]
