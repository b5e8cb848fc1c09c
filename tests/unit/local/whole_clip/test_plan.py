"""Which frames segments have: every frame is made, and joins do not meet."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.media.whole_clip.plan import plan_segments


def test_twenty_seconds_at_30_fps_are_29_jobs() -> None:
    plan = plan_segments(600, 30, 25, 4)
    assert (len(plan.segments), plan.segments[-1].end) == (29, 600)
    assert {fade.frames for fade in plan.fades} == {4}


@pytest.mark.parametrize("total", [1, 24, 25])
def test_a_clip_shorter_than_a_segment_is_one_job(total: int) -> None:
    (segment,) = plan_segments(total, 30, 25, 4).segments
    assert (segment.first, segment.frames) == (0, total)


@given(st.data())
def test_every_frame_is_made_and_no_frame_is_in_two_fades(data: st.DataObject) -> None:
    frames = data.draw(st.integers(1, 40))
    overlap = data.draw(st.integers(0, frames - 1))
    total = data.draw(st.integers(1, 600))
    plan = plan_segments(total, 30, frames, overlap)
    assert (plan.segments[0].first, plan.segments[-1].end) == (0, total)
    assert {segment.frames for segment in plan.segments} == {min(total, frames)}
    for (one, other), fade in zip(pairwise(plan.segments), plan.fades, strict=True):
        assert one.end - other.first >= overlap
        assert other.first <= fade.first
        assert fade.end <= one.end
    assert all(one.end <= other.first for one, other in pairwise(plan.fades))
    if total > frames:  # one fewer would not reach the end
        assert (len(plan.segments) - 1) * (frames - overlap) + overlap < total


@pytest.mark.parametrize("overlap", [-1, 25, 30])
def test_an_overlap_that_is_not_smaller_than_the_segment_is_refused(overlap: int) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        plan_segments(600, 30, 25, overlap)
    assert list(refused.value.fields) == ["overlap"]


def test_more_than_max_segments_are_refused_with_the_number_that_it_takes() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        plan_segments(600, 30, 25, 4, max_segments=28)
    assert "29 segments" in refused.value.fields["max_segments"][0]
    assert len(plan_segments(600, 30, 25, 4, max_segments=29).segments) == 29
