from __future__ import annotations

import pytest

from airflow_provider_modelslab.batch.sources.patterns import is_ours, is_staged, key_filter


@pytest.mark.parametrize(
    ("pattern", "key", "wanted"),
    [
        (None, "a/b.mp4", True),
        (None, "a/B.MOV", True),
        (None, "a/b.json", False),
        (None, "a/mp4", False),
        ("*.mp4", "b.mp4", True),
        ("*.mp4", "deep/er/b.mp4", True),
        ("*.mp4", "b.MP4", False),
        ("clip-?.gif", "a/clip-1.gif", True),
        ("clip-?.gif", "clip-12.gif", False),
        ("day-*/*.mp4", "day-1/a.mp4", True),
        ("day-*/*.mp4", "day-1/x/a.mp4", False),
        ("day-*/**/*.mp4", "day-1/x/y/a.mp4", True),
        ("day-*/**/*.mp4", "day-1/a.mp4", True),
        ("**/raw/*", "a/b/raw/c.mp4", True),
        ("**/raw/*", "raw/c.mp4", True),
        ("**/raw/*", "raws/c.mp4", False),
        ("[ab]*.mp4", "b1.mp4", True),
        ("[!ab]*.mp4", "b1.mp4", False),
        ("[!ab]*.mp4", "c1.mp4", True),
        ("a[^b].mp4", "ac.mp4", False),
        ("a(1)+.mp4", "a(1)+.mp4", True),
        ("a(1)+.mp4", "a11.mp4", False),
        ("a[.mp4", "a[.mp4", True),
        (["*.mp4", "raw/*.gif"], "raw/a.gif", True),
        (["*.mp4", "raw/*.gif"], "x/a.gif", False),
        ("**", "any/thing", True),
    ],
)
def test_globs(pattern: str | list[str] | None, key: str, wanted: bool) -> None:
    assert key_filter(pattern)(key) is wanted


@pytest.mark.parametrize("pattern", ["", " ", "/a/*.mp4", "../*.mp4", "a/../b", "[z-a].mp4"])
def test_a_pattern_that_matches_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern:"):
        key_filter(pattern)


def test_no_patterns_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="empty list"):
        key_filter([])


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        ("a/_modelslab/ledger/clips/x/0001-claim.json", True),
        ("a/_modelslabs/x.mp4", False),
        ("out/a.mp4.json", True),
        ("out/a.json", False),
        (f"inputs/{'0' * 64}.mp4", False),
    ],
)
def test_what_this_package_writes_for_itself(key: str, ours: bool) -> None:
    assert is_ours(key) is ours


@pytest.mark.parametrize(
    ("below", "staged"),
    [
        (f"clips/inputs/{'0' * 64}.mp4", True),
        (f"inputs/{'0' * 64}.gif", True),
        (f"my-inputs/{'0' * 64}.gif", False),
        ("inputs/holiday.mp4", False),
        (f"{'0' * 64}.mp4", False),
    ],
)
def test_names_of_local_files_that_were_put_into_s3(below: str, staged: bool) -> None:
    assert is_staged(below) is staged
