"""Records of this provider of which parts are not as they should be, as hypothesis strategies of JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests.support.odd_answers import JSON_TEXTS

__all__ = ["odd_gzips", "odd_lines", "odd_records"]

_BROKEN = st.sampled_from((b"", b"\xff\xfe{", b"{", b"null", b"[]", b"{}", b"[" * 100_000, b'{"a": NaN}', b"\0" * 300))


@st.composite
def odd_records(draw: st.DrawFn, usual: Mapping[str, Any]) -> str:
    """A JSON object with some odd fields, or without some; seldom another value.

    :param usual: the record as it should be; records in it may be odd too.
    """
    if draw(st.integers(0, 9)) == 7:
        return draw(JSON_TEXTS)
    fields = []
    for name, value in usual.items():
        how = draw(st.integers(0, 7))
        if how == 5:
            continue
        if how == 6:
            text = draw(JSON_TEXTS)
        elif how == 7 and isinstance(value, dict):
            text = draw(odd_records(value))
        else:
            text = json.dumps(value)
        fields.append(f"{json.dumps(name)}:{text}")
    return "{" + ",".join(fields) + "}"


@st.composite
def odd_lines(draw: st.DrawFn, usual: Mapping[str, Any]) -> bytes:
    """JSON lines: one as it should be, and some odd ones."""
    lines = [line.encode() for line in draw(st.lists(odd_records(usual), max_size=4))]
    lines += draw(st.lists(_BROKEN, max_size=1))
    return b"\n".join([*lines, json.dumps({**usual, "index": 1000}).encode()])


@st.composite
def odd_gzips(draw: st.DrawFn, body: bytes) -> bytes:
    """A gzip, or what is none."""
    import gzip

    packed = gzip.compress(body)
    return draw(st.sampled_from((packed, packed, packed, packed[:-9], packed[5:], b"", body, packed + b"more")))
