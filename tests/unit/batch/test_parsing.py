from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.batch.sources.discovery import clips_from, find_clips
from airflow_provider_modelslab.batch.sources.parsing import path_of


def no_s3() -> NoReturn:
    raise AssertionError("a list needs no S3")


class Lazy:
    """What Airflow gives for the output of a mapped task: it can be walked, and is no list."""

    def __iter__(self) -> Iterator[Any]:
        yield {"schema_version": 1, "status": "landed", "uri": "s3://src/a.mp4", "seed": 3, "model_id": "m"}
        yield None
        yield "https://host/x/b.gif?sig=secret"


def test_what_a_mapped_task_returned() -> None:
    clips = find_clips(Lazy(), no_s3)
    assert [(clip.source, clip.path, dict(clip.overrides), clip.number) for clip in clips.clips] == [
        ("s3://src/a.mp4", None, {}, 1),
        ("https://host/x/b.gif?sig=secret", "x", {}, 3),
    ]
    assert clips.describe() == "2 clips; ignored: 1 items without a value"
    assert [clips.location_of(clip) for clip in clips.clips] == ["item 1", "item 3"]
    assert "secret" not in repr(clips)


def test_a_finished_job_that_was_not_landed_gives_its_link() -> None:
    finished = {"schema_version": 1, "status": "finished", "job_id": "7", "links": ["https://host/a.mp4?x=1"]}
    assert clips_from([finished]).clips[0].source == "https://host/a.mp4?x=1"


def test_overrides_and_a_destination() -> None:
    (clip,) = clips_from([{"uri": " S3://src/a.mp4 ", "prompt": "x", "destination": "b.mp4", "seed": None}]).clips
    assert (clip.source, dict(clip.overrides), clip.destination) == ("s3://src/a.mp4", {"prompt": "x"}, "b.mp4")


def test_all_bad_items_are_told() -> None:
    submitted = {"schema_version": 1, "status": "submitted", "job_id": "7"}
    with pytest.raises(InvalidRequestError) as caught:
        clips_from(["s3://src/a.mp4", 5, submitted, {"prompt": "x"}, "gs://b/a.mp4", "https://host]/a?sig=secret"])
    text = str(caught.value)
    assert "The list of clips: 5 problems; nothing was submitted" in text
    assert "item 2: init_video: must be a link, s3://bucket/key or a mapping with init_video; got int" in text
    assert "item 3: uri: the manifest of job 7 has no result yet (status submitted)" in text
    assert "item 4: init_video: is missing" in text
    assert "item 5: init_video: gs:// is not supported" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("['s3://src/a.mp4?X-Amz-Signature=secret']", "render_template_as_native_obj"),
        ("https://host/a.mp4?sig=secret", "give s3://bucket/prefix/"),
        ("", "needs s3://bucket/prefix/"),
        (None, "must be s3://bucket/prefix/"),
        (7, "must be s3://bucket/prefix/"),
        ({"found": 3}, "must be s3://bucket/prefix/"),
    ],
)
def test_a_source_that_is_none(source: object, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as caught:
        find_clips(source, no_s3)
    assert "sig=secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("s3://src/a.mp4", None),
        ("s3://src/day/one/a.mp4", "day/one"),
        ("s3://src//a.mp4", ""),
        ("s3://src//day/a.mp4", "/day"),
        ("s3://src/day//a.mp4", "day/"),
        ("https://host/x%20y/z/a.mp4?sig=1/2", "x y/z"),
        ("https://host/a.mp4", None),
        ("https://host//x/a.mp4", "/x"),
        ("/data/clips/a.mp4", None),
        ("file:///data/a.mp4", None),
    ],
)
def test_the_folder_of_a_source(source: str, path: str | None) -> None:
    assert path_of(source) == path
