"""Keys with slashes, dots, blanks and signs of links: taken as they are, read, landed and found again.

The endpoint fetches and decodes each clip by its presigned link; S3 is a real server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from tests.integration.tasks.conftest import Restyle
from tests.support.reading_engine import ReadingEngine
from tests.support.s3 import S3Server, keys_of, lines_of
from tests.support.samples import small_mp4
from tests.support.tasks import TaskInstance, context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")

Batch = Callable[..., ModelsLabVideo2VideoBatchOperator]


@pytest.fixture
def engine(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> ReadingEngine:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(s3_server.ca_path))
    return ReadingEngine()


@pytest.fixture
def put(s3: S3Client, bucket: str) -> Callable[..., None]:
    def put(*keys: str) -> None:
        for frames, key in enumerate(keys, 5):
            s3.put_object(Bucket=bucket, Key=key, Body=small_mp4(frames=frames))

    return put


@pytest.fixture
def batch() -> Batch:
    def make(**arguments: Any) -> ModelsLabVideo2VideoBatchOperator:
        common: dict[str, Any] = {"model_id": "dark-sushi-mix", "prompt": "a fox", "num_frames": 5}
        return ModelsLabVideo2VideoBatchOperator(
            task_id="restyle", **common, width=64, height=64, poll_interval=0.02, max_poll_interval=0.1, **arguments
        )

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "wanted", "others"),
    [
        ("/day/", {"/day/wanted.mp4": "wanted.mp4"}, ["day/other.mp4", "//day/other.mp4"]),
        ("/day", {"/day/wanted.mp4": "wanted.mp4"}, ["day/other.mp4", "/day2/other.mp4"]),
        ("/", {"/wanted.mp4": "wanted.mp4"}, ["other.mp4"]),
        ("a//b/", {"a//b/wanted.mp4": "wanted.mp4"}, ["a/b/other.mp4", "/a//b/other.mp4"]),
        ("a//", {"a//wanted.mp4": "wanted.mp4", "a//b/wanted.mp4": "b/wanted.mp4"}, ["a/other.mp4"]),
        (
            "a/",
            {"a/x.mp4": "x.mp4", "a//x.mp4": "/x.mp4", "a/b/x.mp4": "b/x.mp4", "a/b//x.mp4": "b//x.mp4"},
            ["/a/other.mp4"],
        ),
    ],
)
def test_a_prefix_with_a_leading_or_double_slash_lists_its_own_folder(
    batch: Batch,
    engine: ReadingEngine,
    put: Callable[..., None],
    s3: S3Client,
    bucket: str,
    source: str,
    wanted: dict[str, str],
    others: list[str],
) -> None:
    put(*wanted, *others)
    summary = execute(batch(source=f"s3://{bucket}/{source}", destination=f"s3://{bucket}/out/"))
    assert (summary["found"], summary["landed"]) == (len(wanted), len(wanted))
    told = {line["source"]: line["uri"] for line in lines_of(s3, summary["manifest"])}
    assert told == {f"s3://{bucket}/{key}": f"s3://{bucket}/out/{name}" for key, name in wanted.items()}
    assert {f"out/{name}" for name in wanted.values()} <= set(keys_of(s3, bucket))
    assert len(engine.submitted) == len(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("output", ["/out/", "/out", "a//out/", "/"])
def test_a_destination_with_a_leading_or_double_slash_is_one_folder(
    batch: Batch, engine: ReadingEngine, put: Callable[..., None], s3: S3Client, bucket: str, output: str
) -> None:
    put("in/x.mp4", "in/y/z.mp4")

    def make() -> ModelsLabVideo2VideoBatchOperator:
        return batch(source=f"s3://{bucket}/in/", destination=f"s3://{bucket}/{output}")

    summary = execute(make())
    folder = f"{output.removesuffix('/')}/"
    written = [key for key in keys_of(s3, bucket) if not key.startswith(("in/", "styled/"))]
    assert {f"{folder}x.mp4", f"{folder}y/z.mp4"} <= set(written)
    assert all(key.startswith(folder) for key in written)
    assert summary["manifest"].startswith(f"s3://{bucket}/{folder}_modelslab/")
    again = execute(make(), context_of(TaskInstance(run_id="the next day")))
    assert (again["skipped"], len(engine.submitted)) == (2, 2)


ODD = [
    "/x.mp4",
    "//x.mp4",
    "a//x.mp4",
    "./x.mp4",
    "../x.mp4",
    "a/../x.mp4",
    "a/./x.mp4",
    "a/.../x.mp4",
    "a b/x y.mp4",
    "a%20b/x%2Fy.mp4",
    "a/%2e%2e/x.mp4",
    "a+b/x+.mp4",
    "ü/é 火.mp4",
    "a?b/c#d.mp4",
    "a&b=c;d.mp4",
]


@pytest.mark.slow
@pytest.mark.parametrize("key", ODD)
def test_a_clip_with_an_odd_key_is_read_by_its_presigned_link(
    restyle: Restyle, engine: ReadingEngine, put: Callable[..., None], bucket: str, key: str
) -> None:
    put(key)
    manifest = execute(restyle(init_video=f"s3://{bucket}/{key}", width=64, height=64))
    assert (manifest["status"], len(engine.submitted)) == ("landed", 1)


@pytest.mark.slow
def test_a_list_of_odd_keys_is_read_landed_and_found_again(
    batch: Batch, engine: ReadingEngine, put: Callable[..., None], bucket: str
) -> None:
    put(*ODD)
    source = [f"s3://{bucket}/{key}" for key in ODD]

    def make() -> ModelsLabVideo2VideoBatchOperator:
        return batch(source=source, destination=f"s3://{bucket}/out/", key_template="{index}.{ext}")

    assert execute(make())["landed"] == len(ODD)
    again = execute(make(), context_of(TaskInstance(run_id="the next day")))
    assert (again["skipped"], len(engine.submitted)) == (len(ODD), len(ODD))


def test_a_result_whose_key_has_two_slashes_lands_there(
    restyle: Restyle, engine: ReadingEngine, put: Callable[..., None], s3: S3Client, bucket: str
) -> None:
    put("in.mp4")
    for destination in (f"s3://{bucket}//x.mp4", f"s3://{bucket}/a//x.mp4"):
        made = execute(restyle(init_video=f"s3://{bucket}/in.mp4", width=64, height=64, destination=destination))
        assert made["uri"] == destination
    assert {"/x.mp4", "/x.mp4.json", "a//x.mp4", "a//x.mp4.json"} <= set(keys_of(s3, bucket))
