from __future__ import annotations

import pytest

from airflow_provider_modelslab.plugins.media.byte_range import ByteRange, UnsatisfiableRangeError, requested_range


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-0", (0, 0)),
        ("bytes=0-1", (0, 1)),
        ("bytes=90-", (90, 99)),
        ("bytes=0-", (0, 19)),  # as many as are sent at once
        ("bytes=5-1000", (5, 99)),
        ("bytes=-10", (90, 99)),
        ("bytes=-1000", (0, 99)),
        ("Bytes= 3 - 4 ", (3, 4)),
    ],
)
def test_ranges_as_players_ask_for_them(header: str, found: tuple[int, int]) -> None:
    assert requested_range(header, 100, most=20) == ByteRange(*found)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=5",
        "bytes=7-3",
        "bytes=a-b",
        "bytes=0-1,4-5",
        "items=0-1",
        "bytes=\u0661-\u0662",
    ],
)
def test_what_is_no_single_range_asks_for_everything(header: str | None) -> None:
    assert requested_range(header, 100, most=20) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_a_range_behind_the_end(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        requested_range(header, size, most=20)
