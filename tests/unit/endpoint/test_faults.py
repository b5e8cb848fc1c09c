from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.endpoint.faults.kinds import FAULTS
from airflow_provider_modelslab.endpoint.faults.plan import NO_FAULTS, FaultPlan, Faults, read_faults

KINDS = st.sampled_from(sorted(FAULTS))
STORY = Path(__file__).parents[2] / "integration" / "test_endpoint_faults.py"
SEEDS = st.integers(-(2**63), 2**63)
RATES = st.dictionaries(KINDS, st.floats(0, 1))


@given(SEEDS, RATES, st.lists(st.tuples(st.text(max_size=20), st.integers(0, 5)), max_size=20), st.randoms())
def test_the_same_seed_and_requests_have_the_same_faults_in_any_order(
    seed: int, rates: dict[str, float], requests: list[tuple[str, int]], order: random.Random
) -> None:
    first = {asked: FaultPlan(seed, rates).draw(*asked) for asked in requests}
    order.shuffle(requests)
    again = FaultPlan.read(json.dumps({"seed": seed, "rates": rates}))
    assert {asked: again.draw(*asked) for asked in requests} == first


@given(SEEDS, KINDS, KINDS, st.text(max_size=20))
def test_a_faults_rate_changes_nothing_for_the_others(seed: int, kind: str, other: str, subject: str) -> None:
    alone = FaultPlan(seed, {kind: 0.5}).draw(subject, 0)
    beside = FaultPlan(seed, {kind: 0.5, other: 1.0}).draw(subject, 0)
    assert (kind in alone.chosen) == (kind in beside.chosen) or kind == other


@given(SEEDS, st.text(max_size=20), st.integers(0, 9))
def test_rates_of_0_and_1_leave_nothing_to_chance(seed: int, subject: str, ordinal: int) -> None:
    assert not FaultPlan(seed, dict.fromkeys(FAULTS, 0.0)).draw(subject, ordinal)
    assert set(FaultPlan(seed, dict.fromkeys(FAULTS, 1.0)).draw(subject, ordinal).chosen) == set(FAULTS)


def test_rates_are_shares_and_faults_fall_independently() -> None:
    plan = FaultPlan(7, {"reset_after": 0.2, "hang": 0.5})
    drawn = [plan.draw(f"track {n}", 0) for n in range(4000)]
    share = {kind: sum(kind in faults.chosen for faults in drawn) / 4000 for kind in ("reset_after", "hang")}
    both = sum(len(faults.chosen) == 2 for faults in drawn) / 4000
    assert share["reset_after"] == pytest.approx(0.2, abs=0.03)
    assert share["hang"] == pytest.approx(0.5, abs=0.03)
    assert both == pytest.approx(0.1, abs=0.02)


def test_seed_subject_and_ordinal_each_make_another_draw() -> None:
    rates = {"reset_after": 0.5}
    by_seed = {"reset_after" in FaultPlan(seed, rates).draw("a", 0).chosen for seed in range(20)}
    by_subject = {"reset_after" in FaultPlan(0, rates).draw(str(n), 0).chosen for n in range(20)}
    by_ordinal = {"reset_after" in FaultPlan(0, rates).draw("a", n).chosen for n in range(20)}
    assert by_seed == by_subject == by_ordinal == {True, False}


@given(SEEDS, RATES, st.text(max_size=20))
def test_stored_faults_come_back_with_their_chances(seed: int, rates: dict[str, float], subject: str) -> None:
    faults = FaultPlan(seed, rates, {"hang": {"seconds": 2}}).draw(subject, 1)
    loaded = Faults.load(faults.dump())
    assert loaded == (faults or NO_FAULTS)
    if faults:
        assert loaded.chance("flaky_fetch", 3) == faults.chance("flaky_fetch", 3) != faults.chance("flaky_fetch", 4)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("malformed", {"malformed": {}}),
        (["malformed", "hang"], {"malformed": {}, "hang": {}}),
        ({"malformed": True, "late_links": {"seconds": 2}}, {"malformed": {}, "late_links": {"seconds": 2}}),
        (["malformed", {"late_links": {"seconds": 2}}], {"malformed": {}, "late_links": {"seconds": 2}}),
        ([], {}),
    ],
)
def test_ways_to_name_faults(value: Any, expected: Any) -> None:
    assert read_faults(value) == expected


def test_what_a_request_asks_for_has_the_plans_options_where_it_gives_none() -> None:
    plan = FaultPlan(options={"hang": {"seconds": 2, "when": "before"}})
    asked = plan.asked({"hang": {"when": "fetch"}}, "a", 0)
    assert asked.options("hang") == {"when": "fetch", "seconds": 2, "fetches": 1}
    assert asked.options("malformed") is None


def test_a_limit_by_the_queues_depth_counts_no_submits_unless_told_to() -> None:
    plan = FaultPlan(options={"rate_limit": {"queue": 3}})
    by_depth = plan.asked("rate_limit", "a", 0).options("rate_limit")
    both = plan.asked({"rate_limit": {"submits": 2}}, "a", 0).options("rate_limit")
    assert by_depth == {"submits": 0, "queue": 3, "retry_after": 1}
    assert both == {"submits": 2, "queue": 3, "retry_after": 1}


def test_every_default_is_an_allowed_value() -> None:
    for kind, options in FAULTS.items():
        assert FaultPlan(options={kind: options}).options[kind] == options


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("reset", "'reset' is not a fault; allowed: rate_limit,"),
        ({"hang": 5}, "the options of hang must be an object"),
        ({"hang": {"second": 5}}, "hang has no option 'second'; allowed: when, seconds, fetches"),
        ({"reset_after": {"seconds": 5}}, "reset_after has no option 'seconds'; allowed: none"),
        ({"hang": {"seconds": -1}}, "seconds of hang must be a number of seconds of at least 0; got -1"),
        ({"hang": {"seconds": True}}, "seconds of hang must be"),
        ({"hang": {"seconds": float("nan")}}, "seconds of hang must be"),
        ({"hang": {"when": "never"}}, "when of hang must be one of before, after, fetch, any"),
        ({"error_after": {"status": 404}}, "status of error_after must be from 500 to 599; got 404"),
        ({"truncated_video": {"keep": 1.5}}, "keep of truncated_video must be a number from 0 to 1"),
        ({"truncated_video": {"times": 0.5}}, "times of truncated_video must be a whole number of at least 0"),
        ({"duplicate_webhook": {"times": 0}}, "times of duplicate_webhook must be a whole number of at least 1"),
        ({"lost_id": {"fetch": None}}, "fetch of lost_id must be a whole number of at least 1"),
        ({"job_failed": {"message": 5}}, "message of job_failed must be text"),
        (5, "must be the name of a fault"),
        ([["hang"]], "must be the name of a fault"),
    ],
)
def test_faults_that_cannot_be_are_named(value: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text.replace("(", r"\(")):
        FaultPlan().asked(value, "a", 0)


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        ({"rates": {"reset": 1}}, "'reset' is not a fault"),
        ({"rates": {"hang": 1.5}}, "the rate of hang must be a number from 0 to 1; got 1.5"),
        ({"rates": {"hang": "1"}}, "the rate of hang must be a number from 0 to 1; got '1'"),
        ({"rates": ["hang"]}, "rates must be a mapping with the names of faults"),
        ({"options": {"hang": {"seconds": "5"}}}, "seconds of hang"),
        ({"seed": "7"}, "seed must be a whole number"),
        ({"seed": 7, "rate": {}}, "must be an object with seed, rates and options only; got rate"),
        ([], "must be an object with seed, rates and options"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: Any, text: str, tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text(json.dumps(plan))
    with pytest.raises(ValueError, match=text):
        FaultPlan.read(str(file))


def test_a_plan_is_read_from_text_and_from_a_file(tmp_path: Path) -> None:
    text = '{"seed": 7, "rates": {"reset_after": 0.25}, "options": {"hang": {"seconds": 2}}}'
    file = tmp_path / "faults.json"
    file.write_text(text)
    plan = FaultPlan(7, {"reset_after": 0.25}, {"hang": {"seconds": 2}})
    assert FaultPlan.read(text) == FaultPlan.read(str(file)) == plan
    for wrong, message in ((str(tmp_path / "none"), "cannot be read"), ("{", "not valid JSON")):
        with pytest.raises(ValueError, match=message):
            FaultPlan.read(wrong)


def test_chances_are_spread_evenly() -> None:
    faults = FaultPlan(1, {"hang": 1.0}).draw("a", 0)
    chances = [faults.chance("x", n) for n in range(2000)]
    assert all(0 <= chance < 1 for chance in chances)
    tenths = [sum(low <= chance * 10 < low + 1 for chance in chances) for low in range(10)]
    assert all(130 < count < 270 for count in tenths), tenths
    assert len(set(itertools.pairwise(chances))) == 1999


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_each_fault_is_seen_by_a_client_in_a_test(kind: str) -> None:
    assert f'"{kind}"' in STORY.read_text()
