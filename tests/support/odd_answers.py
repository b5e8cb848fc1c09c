"""Odd answers of an endpoint, as hypothesis strategies: whatever may stand where the API's answer is expected.

Most are JSON objects in which each field is plausible, or is not; others are pages, broken JSON, other encodings, or
HTTP that is cut, compressed or redirected. Bodies are built from pieces of JSON text, since Python's encoder writes
neither names twice, nor numbers out of range, nor a thousand brackets.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support.odd_server import RawAnswer
from tests.support.odd_values import (
    CONTENT_TYPES,
    DEEP,
    FIELDS,
    HTTP_STATUSES,
    IDS,
    KEY,
    LINKS,
    LOCATIONS,
    MARK,
    NUMBERS,
    OTHER_HEADERS,
    PAGES,
    RETRY_AFTER,
    SKELETONS,
    STATUSES,
    TEXTS,
)

__all__ = ["DONE", "JSON_TEXTS", "OddAnswer", "is_written_well", "odd_answers"]

_text = st.sampled_from(TEXTS) | st.text(st.characters(), max_size=6)


def _raw_json(value: object) -> str:
    """JSON text; integers of any size."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**300:
        return "1" + "0" * 400
    return json.dumps(value)


def _object(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in pairs) + "}"


_names = _text.map(lambda name: name[:200])
_scalar = st.sampled_from(NUMBERS) | st.sampled_from(("null", "true", "false")) | _text.map(json.dumps)
_flat = (
    _scalar
    | st.lists(_scalar, max_size=3).map(lambda items: f"[{','.join(items)}]")
    | st.lists(st.tuples(_names, _scalar), max_size=3).map(_object)
)
_value = (
    _flat
    | st.sampled_from(DEEP)
    | st.lists(_flat, max_size=2).map(lambda items: f"[{','.join(items)}]")
    | st.lists(st.tuples(_names, _flat), max_size=3).map(_object)
)
JSON_TEXTS: st.SearchStrategy[str] = _value
"""Any JSON value as text, such as Python's decoder does not read, or its encoder does not write."""

_link = st.sampled_from(LINKS).map(json.dumps)
_linked = (
    _link | _link.map(lambda link: f'{{"url":{link}}}') | st.sampled_from(('{"href":"https://h/a.mp4"}', "null", '""'))
)
_links = _linked | st.lists(_linked, max_size=3).map(lambda items: f"[{','.join(items)}]")
_number = st.sampled_from(NUMBERS) | st.sampled_from(TEXTS).map(json.dumps)
_meta = st.lists(
    st.tuples(st.sampled_from(("seed", "prompt", "id", "webhook", "key", "model_id", "\ud800", f"of {KEY}")), _flat)
    | st.tuples(_names, _value),
    max_size=4,
).map(_object)
_many = st.sampled_from((300, 1500)).map(lambda count: _object([(f"n{n}", '["x"]') for n in range(count)]))
_plausible = {
    "status": st.sampled_from(STATUSES).map(json.dumps),
    "id": st.sampled_from(IDS).map(_raw_json),
    "request_id": st.sampled_from(IDS).map(_raw_json),
    **dict.fromkeys(("output", "output_url", "url", "proxy_links", "future_links"), _links),
    "meta": _meta | _meta | _many,
    **dict.fromkeys(
        ("message", "messege", "error", "tips"),
        _text.map(json.dumps) | st.lists(st.tuples(_names, _flat), max_size=3).map(_object) | _many,
    ),
    **dict.fromkeys(("eta", "generationTime", "retry_after"), _number),
}


@dataclass(frozen=True)
class OddAnswer:
    """One answer.

    :param is_whole: whether the body arrives as it was meant, so that what it says can be held against the reader.
    :param job_id: what the body, a JSON object, has as ``id``; ``None`` where it has none or is no JSON object.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    cut: bool = False
    chunked: bool = False
    is_whole: bool = True
    job_id: int | str | None = None

    def __repr__(self) -> str:
        body = self.body if len(self.body) < 2000 else self.body[:1000] + b"..." + self.body[-1000:]
        more = f", cut={self.cut}, chunked={self.chunked}, is_whole={self.is_whole}, job_id={self.job_id!r:.100}"
        return f"OddAnswer({self.status}, {self.headers!r:.500}, {body!r}{more})"

    def raw(self) -> RawAnswer:
        """As it goes over the wire."""
        body = self.body
        headers = list(self.headers)
        if self.chunked:
            headers.append(("Transfer-Encoding", "chunked"))
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        else:
            headers.append(("Content-Length", str(len(body))))
        if self.cut:
            body = body[: len(body) // 2]
        lines = [f"HTTP/1.1 {self.status} Odd", *(f"{name}: {value}" for name, value in headers), "", ""]
        # No body belongs to these: what follows on the connection would be read as the next answer.
        bodiless = self.status in {204, 205, 304} or self.status < 200
        closes = self.cut or bodiless or any(value == "close" for _, value in headers)
        return RawAnswer("\r\n".join(lines).encode("latin-1") + body, close=closes)


DONE = OddAnswer(200, (), b'{"status": "success", "id": 7, "output": ["https://h.example/done.mp4"]}')


@st.composite
def _objects(draw: st.DrawFn) -> tuple[str, int | str | None]:
    """A JSON object, and the id in it."""
    names = draw(st.lists(st.sampled_from(FIELDS), max_size=6))
    pairs: list[tuple[str, str]] = list(draw(st.sampled_from(SKELETONS)))
    for name in names:
        odd = name not in _plausible or draw(st.integers(0, 7)) == 3
        pairs.append((name, draw(_value if odd else _plausible[name])))
    ids = [
        json.loads(value) for name, value in pairs if name == "id" and not value.startswith(("[", "{", "1" + "0" * 99))
    ]
    job_id: Any = ids[-1] if ids and pairs and [name for name, _ in pairs].count("id") == len(ids) else None
    usable = isinstance(job_id, int | str) and not isinstance(job_id, bool)
    return _object(pairs), job_id if usable else None


@st.composite
def odd_answers(draw: st.DrawFn) -> OddAnswer:
    """Any of them."""
    is_whole, job_id = True, None
    if draw(st.integers(0, 9)) != 5:  # hypothesis prefers the ends of a range
        text, job_id = draw(_objects())
        body = text.encode()
        how = draw(st.integers(0, 45)) - 20
        if how == 1:
            body = b"\xef\xbb\xbf" + body
        elif 2 <= how <= 8:
            body, is_whole = _mangled(text, how), False
    else:
        body, is_whole = draw(st.sampled_from(PAGES)), False
    status = draw(st.sampled_from(HTTP_STATUSES))
    headers = [("Content-Type", draw(st.sampled_from(CONTENT_TYPES)))]
    extra = draw(st.integers(0, 15)) - 4
    if extra == 1 or status in {429, 503}:
        headers.append(("Retry-After", draw(st.sampled_from(RETRY_AFTER))))
    if extra == 2:
        headers.append(draw(st.sampled_from(OTHER_HEADERS)))
        is_whole = is_whole and headers[-1][0] != "X-Odd"
    if extra == 3:
        body, is_whole = _encoded(body, draw(st.sampled_from(_CODINGS)), headers), False
    if 300 <= status < 400:
        headers.append(("Location", draw(st.sampled_from(LOCATIONS))))
    if status < 200 or status in {204, 205} or 300 <= status < 400 or status > 599:
        is_whole = False
    framing = draw(st.integers(0, 15)) - 4
    cut = framing == 1
    return OddAnswer(
        status, tuple(headers), body, cut, framing == 2, is_whole and not cut, job_id if is_whole and not cut else None
    )


def _mangled(text: str, how: int) -> bytes:
    return {
        2: lambda: text.encode("utf-16"),
        3: lambda: text[: len(text) // 2].encode(),
        4: lambda: text.encode() + b"<!-- -->",
        5: lambda: (text + text).encode(),
        6: lambda: json.dumps(text).encode(),
        7: lambda: f"[{text}]".encode(),
        8: lambda: json.dumps(text, ensure_ascii=False).replace("a", "\xff").encode("latin-1", "replace"),
    }[how]()


_CODINGS = ("gzip", "no gzip", "deflate", "no deflate", "br", "zstd", "gzip, gzip", "cut gzip")


def _encoded(body: bytes, coding: str, headers: list[tuple[str, str]]) -> bytes:
    headers.append(("Content-Encoding", coding.removeprefix("no ").removeprefix("cut ")))
    if coding == "gzip":
        return gzip.compress(body, mtime=0)
    if coding == "cut gzip":
        return gzip.compress(body, mtime=0)[:-9]
    return zlib.compress(body) if coding == "deflate" else body


def is_written_well(value: Any) -> bool:
    """Whether a value can be written as JSON wherever it goes: UTF-8 without NUL, 64 bits, finite, and without the key.

    PostgreSQL takes no NUL in JSON, and Airflow's own encoder no integer beyond 64 bits.
    """
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    return not any(
        "\0" in leaf or MARK in leaf if isinstance(leaf, str) else not -(2**63) <= leaf < 2**64
        for leaf in _leaves(value)
    )


def _leaves(value: Any) -> Iterator[str | int]:
    """The texts and integers in a JSON value, names included."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str | int):
        yield value
