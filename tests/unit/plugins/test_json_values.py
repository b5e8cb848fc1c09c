"""What comes out of odd JSON can be sent on; what is not odd comes out as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from airflow_provider_modelslab.plugins.gallery.batch import BatchView, compact, read_lines, read_results, read_state
from airflow_provider_modelslab.plugins.json_values import has_too_many_values, parse_json, sound, sound_fields
from tests.support.odd_answers import JSON_TEXTS
from tests.support.odd_records import odd_lines, odd_records

CLIP = {"source": "s3://in/a.mp4", "destination": "s3://out/a.mp4", "overrides": {"seed": 1}, "secret": False}
LANDED = {"status": "landed", "job_id": "1", "seed": 1, "bytes": 10, "seconds": 1.5, "code": None, "message": None}
LINE = {"index": 0, "source": "s3://in/a.mp4", "uri": "s3://out/a.mp4", **LANDED}
STATE = {
    "clips": [CLIP, CLIP],
    "common": {"prompt": "a boat"},
    "state": {"outcomes": {"0": LANDED, "1": {"status": "failed", "code": "job_failed", "message": "no luck"}}},
}


def sent(value: Any) -> bytes:
    """As the API server's answers are written."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@given(JSON_TEXTS)
@settings(max_examples=300, deadline=None)
def test_odd_json_can_be_sent_on(text: str) -> None:
    try:
        value = parse_json(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return
    assert json.loads(sent(value)) == value
    assert sound(value) == value


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "日本語 🎬", [1, [2]], {"a": {"b": [None]}}, 2**63 - 1])
def test_what_is_not_odd_stays(value: Any) -> None:
    assert sound(value) == value


@pytest.mark.parametrize(
    ("odd", "shown"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (2**63, None),
        (object(), None),
        ("a\ud800", "a?"),
        ({1: (2,)}, {"1": [2]}),
    ],
)
def test_what_nobody_can_be_sent(odd: Any, shown: Any) -> None:
    assert sound(odd) == shown
    assert sound([odd]) == [shown]


@pytest.mark.parametrize("around", ["[%s]", '{"a": %s}'])
def test_values_are_not_nested_without_end(around: str) -> None:
    deep = "1"
    for _ in range(64):
        deep = around % deep
    parse_json(deep.encode())
    with pytest.raises(ValueError, match="deep"):
        parse_json((around % deep).encode())
    with pytest.raises(ValueError, match="deep"):
        parse_json(b"[" * 100_000)


def test_fields_of_another_type_are_left_out() -> None:
    record = {"uri": 5, "seed": "5", "request": [], "links": {}, "status": "landed", "job_id": 7, "bytes": 1}
    assert sound_fields(record) == {"status": "landed", "job_id": 7, "bytes": 1}


def test_short_texts_may_have_too_many_values() -> None:
    assert has_too_many_values(b"[" + b"[]," * 1_000_001 + b"0]")
    assert not has_too_many_values(b'"' + b"x" * 4_000_000 + b'"')


def checked(rows: dict[int, dict[str, Any]], common: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(sent(compact(BatchView(rows, common, {}, None, "", None, True))))
    assert {row[1] for row in told["rows"]} <= {"landed", "skipped", "failed", "pending"}
    assert all(isinstance(row[6], int | float | None) for row in told["rows"])
    return told


@given(odd_lines(LINE))
@settings(max_examples=150, deadline=None)
def test_an_odd_line_of_a_manifest_costs_one_card(body: bytes) -> None:
    rows, common, _ = read_results(body)
    checked(rows, common)
    assert (rows[1000]["status"], rows[1000]["bytes"]) == ("landed", 10)
    sent(read_lines(body))


@given(odd_records(STATE))
@settings(max_examples=150, deadline=None)
def test_an_odd_checkpoint_is_shown_as_far_as_it_goes(body: str) -> None:
    checked(*read_state(body.encode())[:2])


@pytest.mark.parametrize("odd", [None, 7, [], {}, {**CLIP, "source": 5}, {**CLIP, "destination": None}])
def test_an_odd_clip_of_a_checkpoint_costs_one_card(odd: Any) -> None:
    told = checked(*read_state(json.dumps({**STATE, "clips": [odd, CLIP]}).encode())[:2])
    assert [(row[0], row[1], row[8]) for row in told["rows"]] == [(1, "failed", "job_failed")]
