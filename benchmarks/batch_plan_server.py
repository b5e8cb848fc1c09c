"""moto's S3 server with a bucket that is full when it starts: filling it over the wire would take minutes."""

from __future__ import annotations

import argparse
import sys

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import main

__all__ = ["BUCKET", "FOLDERS"]

BUCKET = "clips"
FOLDERS = 20
"""The clips are spread over this many folders below ``in/``."""


def fill(objects: int) -> None:
    """``objects`` clips below ``in/``, and as many results of 1 byte, each with a sidecar, below ``out/``."""
    store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    store.create_bucket(BUCKET, "us-east-1")
    for number in range(objects):
        name = f"{number % FOLDERS:02d}/clip-{number:06d}"
        store.put_object(BUCKET, f"in/{name}.mp4", number.to_bytes(8, "big"))
        store.put_object(BUCKET, f"out/{name}.mp4", b"r")
        store.put_object(BUCKET, f"out/{name}.mp4.json", b"{}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("objects", type=int)
    known, rest = parser.parse_known_args()
    fill(known.objects)
    main(rest)
    sys.exit(0)
