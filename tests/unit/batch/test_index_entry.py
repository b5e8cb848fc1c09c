from __future__ import annotations

import gzip
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.batch.results.index_entry import IndexEntry, newest, pack, unpack
from airflow_provider_modelslab.ledger.model import Fingerprint

ENTRIES = st.lists(
    st.builds(
        IndexEntry,
        st.sampled_from(["s3://out/a", "s3://out/b", "s3://out/é\u2028c"]),
        st.sampled_from(["r1", "r2"]),
        st.sampled_from(["s1", None]),
        st.integers(0, 3),
        st.sampled_from(["e1", "e2", None]),
        landed_at=st.sampled_from([1.0, 2.0]),
    ),
    max_size=12,
)


@given(ENTRIES, st.randoms(use_true_random=False), st.integers(0, 12))
def test_segments_join_to_the_same_whatever_their_order_and_however_often(
    entries: list[IndexEntry], random: object, cut: int
) -> None:
    whole = newest(entries)
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = [*newest(shuffled[:cut]).values(), *newest(shuffled[cut:]).values(), *shuffled[:cut]]
    assert newest(parts) == whole
    assert all(entry.landed_at <= whole[entry.uri].landed_at for entry in entries)


@given(ENTRIES)
def test_what_is_packed_comes_back(entries: list[IndexEntry]) -> None:
    assert list(unpack(pack(entries))) == entries


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"[]", mtime=0),
        gzip.compress(b'{"schema_version": 2}', mtime=0),
        gzip.compress(b'{"schema_version": 1}\n{"uri": 1}', mtime=0),
        pack([])[:-9],
    ],
)
def test_what_is_no_index_of_this_version_is_told(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not an index|version 2, which is later|Expecting"):
        list(unpack(body))


def test_an_entry_stands_for_one_request_and_clip() -> None:
    fingerprint = Fingerprint("r", "s")
    manifest = {"uri": "s3://out/a", "bytes": 9, "etag": "e", "sha256": "ab", "seed": 1, "job_id": "7", "extra": 1}
    entry = IndexEntry.of(fingerprint, manifest, at=12.3456)
    assert entry.landed_at == 12.346
    assert entry.is_for(fingerprint)
    assert entry.is_for(Fingerprint("r", None))  # the clip is gone now
    assert not entry.is_for(Fingerprint("r", "t"))
    assert not entry.is_for(Fingerprint("q", "s"))
    assert replace(entry, source=None).is_for(fingerprint)
    assert entry.manifest() == {name: value for name, value in manifest.items() if name != "extra"}
