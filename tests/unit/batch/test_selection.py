from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.batch.planning.selection import ALL, Selection

NAMES = st.lists(st.text("abc", min_size=1, max_size=4), unique=True, max_size=40)
COUNTS = st.integers(1, 50)


@given(NAMES, COUNTS)
def test_the_limit_takes_the_first(names: list[str], count: int) -> None:
    assert Selection.of(count, None).pick(names) == list(range(min(count, len(names))))


@given(NAMES, COUNTS, st.sampled_from([None, 0, "a"]))
def test_a_sample_has_as_many_clips_as_it_can_in_their_order(names: list[str], count: int, seed: Any) -> None:
    chosen = Selection.of(None, count, seed).pick(names)
    assert len(chosen) == min(count, len(names))
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(len(names)))


@given(NAMES.filter(bool), COUNTS)
def test_a_sample_without_a_seed_is_spread_evenly(names: list[str], count: int) -> None:
    count = min(count, len(names))
    chosen = Selection.of(None, count).pick(names)
    gaps = {later - earlier for earlier, later in pairwise(chosen)}
    assert gaps <= {len(names) // count, len(names) // count + 1}
    assert abs(chosen[0] - (len(names) - 1 - chosen[-1])) <= 1  # as much is left at both ends


@given(NAMES, COUNTS, COUNTS)
def test_a_larger_sample_with_the_same_seed_contains_the_smaller_one(names: list[str], one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert set(Selection.of(None, small, 7).pick(names)) <= set(Selection.of(None, large, 7).pick(names))


@given(NAMES.filter(bool), COUNTS)
def test_a_clip_that_is_added_replaces_one_of_a_sample_with_a_seed_at_most(names: list[str], count: int) -> None:
    *before, _ = names
    selection = Selection.of(None, count, "s")
    old = {before[index] for index in selection.pick(before)}
    new = {names[index] for index in selection.pick(names)}
    assert len(old - new) <= 1


def test_seeds_choose_differently_and_each_the_same_again() -> None:
    names = [f"clip{number}" for number in range(100)]
    chosen = {seed: tuple(Selection.of(None, 10, seed).pick(names)) for seed in range(20)}
    assert len(set(chosen.values())) == 20
    assert Selection.of(None, "10", "3").pick(names) == list(chosen[3])  # as templates render it
    assert Selection.of(None, 10, 3).pick(names[::-1]) == sorted(99 - index for index in chosen[3])


@pytest.mark.parametrize("blank", [None, "", " ", "None"])
def test_what_a_template_makes_of_nothing_selects_all(blank: Any) -> None:
    assert Selection.of(blank, blank, blank) == ALL
    assert ALL.pick(["a", "b"]) == [0, 1]


@pytest.mark.parametrize("count", [0, -1, 1.5, 2.0, True, "0", "-1", "1.5", "5%", "five", [5]])
@pytest.mark.parametrize("field", ["limit", "sample"])
def test_other_counts_are_refused_by_name(count: Any, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Selection.of(**{"limit": None, "sample": None, field: count})
    assert list(caught.value.fields) == [field]


def test_a_limit_and_a_sample_are_not_both_taken() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Selection.of(3, 3)
    assert list(caught.value.fields) == ["sample"]
