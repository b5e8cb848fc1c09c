"""Buckets with clips on a real S3 server over TLS."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.batch.planning.plan import BatchPlan, make_plan
from airflow_provider_modelslab.batch.sources.discovery import find_clips
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.s3 import listening

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COMMON = {"model_id": "m", "prompt": "p", "output_type": "mp4"}

Put = Callable[..., None]


@pytest.fixture
def put(s3: S3Client, bucket: str) -> Put:
    """Puts objects: each key with its own content."""
    numbers = itertools.count(1)

    def put(*keys: str, body: bytes | None = None) -> None:
        for key in keys:
            s3.put_object(Bucket=bucket, Key=key, Body=b"x" * next(numbers) if body is None else body)

    return put


@contextmanager
def counted(s3: S3Client) -> Iterator[list[str]]:
    """The operations that are called within the block."""
    called: list[str] = []

    def note(model: Any, **_: Any) -> None:
        called.append(model.name)

    with listening(s3, "before-call.s3", note):
        yield called


def planned(
    s3: S3Client, bucket: str, source: object = None, *, common: Mapping[str, Any] = COMMON, **more: Any
) -> BatchPlan:
    """A plan from ``in/`` to ``out/``."""
    output = S3Uri(bucket, "out/")
    clips = find_clips(f"s3://{bucket}/in/" if source is None else source, lambda: s3, output=output)
    options: dict[str, Any] = {"output": output, "conn_id": "c", "s3_factory": lambda: s3, **more}
    return make_plan(clips, common, **options)
