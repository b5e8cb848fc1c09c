"""moto's S3 server with a bucket that is full when it starts: filling it over the wire would take minutes.

Listings of the clips and results are answered here, from a sorted list and after 50 ms each, as by S3, which takes 50
to 200. moto goes through all objects for each page, and takes 300 ms of the CPU that it shares with what is measured.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Any
from urllib.parse import parse_qs

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends

from benchmarks.batch_plan_bucket import BUCKET, FOLDERS
from benchmarks.batch_s3_server import serve

_ANSWER_S = 0.05
_PAGE = 1000
_OBJECT = (
    '<Contents><Key>{}</Key><LastModified>2026-11-30T00:00:00.000Z</LastModified><ETag>"{}"</ETag><Size>{}</Size>'
    "<StorageClass>STANDARD</StorageClass></Contents>"
)
_ANSWER = (
    '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>{bucket}</Name><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>{more}{objects}</ListBucketResult>"
)


def fill(objects: int) -> dict[str, bytes]:
    """Keys and bodies: the clips below ``in/``, and as many results of 1 byte, each with a sidecar, below ``out/``."""
    bodies: dict[str, bytes] = {}
    for number in range(objects):
        name = f"{number % FOLDERS:02d}/clip-{number:06d}"
        bodies |= {f"in/{name}.mp4": number.to_bytes(8, "big"), f"out/{name}.mp4": b"r", f"out/{name}.mp4.json": b"{}"}
    return bodies


class _Listings:
    """Answers the listings of the bucket's objects, and leaves all other calls to another application."""

    def __init__(self, application: Any, bodies: dict[str, bytes]) -> None:
        self._application = application
        self._keys = sorted(bodies)
        self._objects = [
            _OBJECT.format(key, hashlib.md5(bodies[key], usedforsecurity=False).hexdigest(), len(bodies[key]))
            for key in self._keys
        ]

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
        prefix = asked.get("prefix", "")
        if environ["PATH_INFO"] != f"/{BUCKET}" or "delimiter" in asked or not prefix.startswith(("in/", "out/")):
            answer: Iterable[bytes] = self._application(environ, start)
            return answer
        time.sleep(_ANSWER_S)
        first = bisect_right(self._keys, asked.get("continuation-token") or asked.get("start-after") or prefix)
        page = list(takewhile(lambda key: key.startswith(prefix), self._keys[first : first + _PAGE + 1]))
        token = f"<NextContinuationToken>{page[_PAGE - 1]}</NextContinuationToken>" if len(page) > _PAGE else ""
        more = f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>{token}"
        objects = "".join(self._objects[first : first + min(len(page), _PAGE)])
        start("200 OK", [("Content-Type", "application/xml")])
        return [_ANSWER.format(bucket=BUCKET, more=more, objects=objects).encode()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("objects", type=int)
    known, rest = parser.parse_known_args()
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(BUCKET, "us-east-1")
    serve(_Listings(DomainDispatcherApplication(create_backend_app), fill(known.objects)), rest)
