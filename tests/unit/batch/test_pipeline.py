from __future__ import annotations

import threading

import pytest

from airflow_provider_modelslab.batch.running.pipeline import run_in_stages


def test_every_clip_goes_through_all_stages_in_order() -> None:
    made: list[int] = []

    def make(clip: int, read: str) -> str:
        made.append(clip)
        return f"{read}+made"

    ended = dict(run_in_stages(range(9), read=lambda c: f"read{c}", make=make, write=lambda c, m: f"{m}+written"))
    assert ended == {clip: f"read{clip}+made+written" for clip in range(9)}
    assert made == list(range(9))


def test_reading_and_writing_go_on_while_one_is_made() -> None:
    """Each stage waits until the other two are busy with other clips: without overlap this would hang."""
    at_once = threading.Barrier(3, timeout=10)

    def read(clip: int) -> int:
        if clip == 2:
            at_once.wait()
        return clip

    def make(clip: int, read: int) -> int:
        if clip == 1:
            at_once.wait()
        return read

    def write(clip: int, made: int) -> int:
        if clip == 0:
            at_once.wait()
        return made

    assert sorted(run_in_stages(range(4), read=read, make=make, write=write)) == [(i, i) for i in range(4)]


@pytest.mark.parametrize("stage", ["read", "make", "write"])
def test_a_failure_of_any_stage_is_that_clips_alone(stage: str) -> None:
    def fail_at(name: str, clip: int) -> int:
        if name == stage and clip == 2:
            raise ValueError(name)
        return clip

    ended = dict(
        run_in_stages(
            range(5),
            read=lambda clip: fail_at("read", clip),
            make=lambda clip, _: fail_at("make", clip),
            write=lambda clip, _: fail_at("write", clip),
        )
    )
    assert isinstance(ended.pop(2), ValueError)
    assert ended == {clip: clip for clip in (0, 1, 3, 4)}


def test_no_more_is_read_than_ahead_and_no_more_kept_than_behind() -> None:
    read: list[int] = []
    made: list[int] = []
    written: list[int] = []
    most = 0

    def begin(clip: int) -> int:
        read.append(clip)
        return clip

    def make(clip: int, _: int) -> int:
        nonlocal most
        most = max(most, len(read) - len(made))
        made.append(clip)
        return clip

    list(
        run_in_stages(
            range(20),
            read=begin,
            make=make,
            write=lambda clip, _: written.append(clip),
            ahead=3,
            behind=1,
        )
    )
    assert most <= 3
    assert sorted(written) == list(range(20))


def test_what_is_made_is_written_when_the_batch_is_given_up() -> None:
    written: list[int] = []
    slow = threading.Event()

    def write(clip: int, _: int) -> None:
        slow.wait(5)
        written.append(clip)

    def make(clip: int, _: int) -> int:
        if clip == 2:
            raise KeyboardInterrupt
        return clip

    running = run_in_stages(range(9), read=lambda clip: clip, make=make, write=write, behind=3)
    threading.Timer(0.05, slow.set).start()
    with pytest.raises(KeyboardInterrupt):
        list(running)
    assert sorted(written) == [0, 1]


def test_closing_it_stops_the_reading() -> None:
    read: list[int] = []

    def begin(clip: int) -> int:
        read.append(clip)
        return clip

    running = run_in_stages(range(100), read=begin, make=lambda clip, _: clip, write=lambda clip, _: clip)
    next(running)
    running.close()
    assert len(read) <= 8
