"""Many small results, landed side by side as the batch does it: in threads, through one S3 client.

Run by ``benchmarks.landing``, each method in a fresh process:

- ``ours``: :func:`airflow_provider_modelslab.storage.landing.land`: container check and SHA-256 of each result, which
  the store repeats;
- ``upload_fileobj``: ``requests`` and boto3's ``upload_fileobj``, nothing checked;
- ``obstore``: ``get`` and ``put`` of obstore, a client in Rust, nothing checked. Left out where it is not installed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

from benchmarks.landing_process import BUCKET, s3_client, watched

__all__ = ["METHODS", "missing"]

Land = Callable[[str], object]


def missing(method: str) -> str | None:
    """Why a method cannot be measured here."""
    if method == "obstore" and find_spec("obstore") is None:
        return "obstore is left out: it is not installed (pip install obstore)"
    return None


def _ours(source: str, sink: str) -> Land:
    from airflow_provider_modelslab.storage.download import credential_free_session
    from airflow_provider_modelslab.storage.landing import land
    from airflow_provider_modelslab.storage.uri import S3Uri

    s3, session = s3_client(sink), credential_free_session()  # one of each, as the hook has them
    return lambda key: land([source], S3Uri(BUCKET, key), s3, expected_type="mp4", session=session)


def _upload_fileobj(source: str, sink: str) -> Land:
    import requests

    s3 = s3_client(sink)

    def copy(key: str) -> None:
        with requests.get(source, stream=True, timeout=60) as response:
            response.raise_for_status()
            body: Any = response.raw
            s3.upload_fileobj(body, BUCKET, key)

    return copy


def _obstore(source: str, sink: str) -> Land:
    import importlib

    obstore: Any = importlib.import_module("obstore")
    stores: Any = importlib.import_module("obstore.store")
    base, _, name = source.rpartition("/")
    plain = {"allow_http": True}
    results = stores.HTTPStore(base, client_options=plain)
    s3 = stores.S3Store(
        BUCKET,
        endpoint=sink,
        region="us-east-1",
        access_key_id="a",
        secret_access_key="b",  # noqa: S106 - the sink takes any
        virtual_hosted_style_request=False,
        client_options=plain,
    )
    return lambda key: obstore.put(s3, key, obstore.get(results, name).bytes(), use_multipart=False)


METHODS: dict[str, Callable[[str, str], Land]] = {
    "ours": _ours,
    "upload_fileobj": _upload_fileobj,
    "obstore": _obstore,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--method", choices=list(METHODS), required=True)
    add("--source", required=True, help="link of a result")
    add("--sink", required=True, help="an S3 endpoint")
    add("--results", type=int, required=True, help="how many are landed")
    add("--threads", type=int, required=True, help="how many at once")
    given = parser.parse_args()
    land = METHODS[given.method](given.source, given.sink)
    land("first.mp4")  # what is made once, is made before the clock starts
    keys = [f"{number:05d}.mp4" for number in range(given.results)]
    with ThreadPoolExecutor(given.threads) as pool:
        print(json.dumps(watched(lambda: list(pool.map(land, keys)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
