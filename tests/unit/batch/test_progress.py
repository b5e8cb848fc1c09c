from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.batch.results.outcomes import Status
from airflow_provider_modelslab.batch.results.progress import Progress, duration


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_unknown_until_enough_have_landed_then_from_the_rate() -> None:
    clock = Clock()
    progress = Progress(100, enough=3, clock=clock)
    progress.tell(Status.SKIPPED, 40)
    assert progress.line() == (
        "40 of 100 clips (40 %): 0 landed, 40 were already stored, 0 failed, 60 left; time left: unknown"
    )
    for _ in range(2):
        clock.now += 10
        progress.tell(Status.LANDED)
    assert progress.seconds_left() is None
    clock.now += 10
    progress.tell(Status.LANDED)
    assert progress.seconds_left() == pytest.approx(570)
    assert progress.line().endswith("57 left; 6.0 a minute, time left: about 10 min")
    assert progress.to_dict() == {
        "found": 100, "landed": 3, "skipped": 40, "failed": 0, "left": 57, "elapsed_s": 30.0,
        "landed_per_minute": 6.0, "seconds_left": 570,
    }  # fmt: skip


def test_only_the_last_landings_count() -> None:
    clock = Clock()
    progress = Progress(100, window=5, enough=5, clock=clock)
    for pause in [100] * 10 + [1] * 5:
        clock.now += pause
        progress.tell(Status.LANDED)
    assert progress.rate() == pytest.approx(1.0)


def test_the_estimate_grows_while_nothing_lands() -> None:
    clock = Clock()
    progress = Progress(20, enough=5, clock=clock)
    clock.now += 50
    progress.tell(Status.LANDED, 5)
    assert progress.seconds_left() == pytest.approx(150)
    clock.now += 50
    assert progress.seconds_left() == pytest.approx(300)


def test_failures_say_nothing_about_how_long_a_clip_takes() -> None:
    clock = Clock()
    progress = Progress(50, enough=2, clock=clock)
    clock.now += 10
    progress.tell(Status.FAILED, 30)
    assert progress.seconds_left() is None
    assert progress.left == 20


def test_done_and_empty() -> None:
    progress = Progress(0, clock=Clock())
    assert progress.line() == "0 of 0 clips: 0 landed, 0 were already stored, 0 failed, 0 left; time left: none"
    progress = Progress(1, clock=Clock())
    progress.tell(Status.FAILED)
    assert progress.seconds_left() == 0


@given(
    st.lists(
        st.tuples(st.sampled_from([Status.LANDED, Status.SKIPPED, Status.FAILED]), st.floats(0, 1000)), max_size=30
    )
)
def test_another_process_goes_on_with_the_same_numbers(steps: list[tuple[Status, float]]) -> None:
    clock = Clock()
    progress = Progress(40, window=6, clock=clock)
    for status, pause in steps:
        clock.now = round(clock.now + pause, 2)
        progress.tell(status)
    resumed = Progress.resume(json.loads(json.dumps(progress.state())), clock=clock)
    clock.now += 5
    assert resumed.to_dict() == progress.to_dict()
    assert resumed.line() == progress.line()
    left = progress.to_dict()
    assert left["left"] + left["landed"] + left["skipped"] + left["failed"] == 40


@pytest.mark.parametrize("status", [Status.PENDING])
def test_pending_is_no_progress(status: Status) -> None:
    with pytest.raises(ValueError, match="final status"):
        Progress(1).tell(status)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (45, "45 s"),
        (90, "2 min"),
        (3599, "1 h"),
        (12000, "3 h 20 min"),
        (187200, "2 d 4 h"),
        (172800, "2 d"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
