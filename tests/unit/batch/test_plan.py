from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.batch.planning.naming import KeyTemplate
from airflow_provider_modelslab.batch.planning.plan import BatchPlan, make_plan
from airflow_provider_modelslab.batch.planning.selection import Selection
from airflow_provider_modelslab.batch.sources.clips import Clip, Clips
from airflow_provider_modelslab.batch.sources.discovery import clips_from
from airflow_provider_modelslab.batch.sources.parsing import folder_in
from airflow_provider_modelslab.ledger.model import Fingerprint
from airflow_provider_modelslab.storage.inputs import identify_input
from airflow_provider_modelslab.storage.uri import S3Uri

COMMON = {"model_id": "m", "prompt": "p", "output_type": "mp4", "instant_response": True, "seed": None}
OUT = S3Uri("results", "styled/")


def no_s3() -> NoReturn:
    raise AssertionError("nothing here needs S3")


def listed(*keys: str, bucket: str = "src", prefix: str = "") -> Clips:
    """Clips as a listing gives them."""
    clips = [
        Clip(f"s3://{bucket}/{key}", folder_in(key[len(prefix) :]), etag=f"etag-{number}", bytes=9)
        for number, key in enumerate(keys)
    ]
    return Clips(tuple(clips), f"s3://{bucket}/{prefix}", prefix=S3Uri(bucket, prefix))


def plan_of(clips: Clips, template: str | None = None, common: dict[str, Any] | None = None, **more: Any) -> BatchPlan:
    options: dict[str, Any] = {"output": OUT, "conn_id": "c", "s3_factory": no_s3, **more}
    return make_plan(
        clips, COMMON if common is None else common, template=KeyTemplate(template) if template else None, **options
    )


def problems_of(clips: Clips, template: str | None = None, **more: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        plan_of(clips, template, **more)
    return str(caught.value)


def test_a_link_in_extra_parameters_counts_without_its_query() -> None:
    """It may be a signature, which differs at each retry: a request that seems to change would be paid for again."""

    def request(reference: str) -> str:
        common = {**COMMON, "extra_parameters": {"reference": reference}}
        return plan_of(listed("a.mp4"), common=common).clips[0].fingerprint.request

    assert request("https://h/b.png?X-Amz-Signature=1") == request("https://h/b.png?X-Amz-Signature=2")
    assert request("https://h/b.png?id=1") == request("https://h/b.png?id=2")
    assert request("https://h/b.png") != request("https://h/c.png")


def test_each_clip_gets_a_request_a_destination_and_the_fingerprint_of_the_single_operator() -> None:
    clips = listed("day/a.mp4", "day/x/b.mov", prefix="day/")
    plan = plan_of(clips)
    assert [str(clip.destination) for clip in plan] == ["s3://results/styled/a.mp4", "s3://results/styled/x/b.mp4"]
    assert [clip.index for clip in plan] == [0, 1]
    for clip, etag in zip(plan, ("etag-0", "etag-1"), strict=True):
        request = Video2VideoRequest(**COMMON, init_video=clip.source)
        assert plan.request(clip) == request
        assert plan.request(clip).model_fields_set == request.model_fields_set
        single = Fingerprint.of(request, conn_id="c", source=f'{clip.source}#"{etag}"')
        assert clip.fingerprint == single


def test_overrides_go_before_what_is_common() -> None:
    clips = clips_from(
        [
            {"uri": "https://host/a.mp4", "seed": "7", "output_type": "GIF", "extra_parameters": {"b": 2}},
            {"uri": "https://host/b.mp4", "prompt": "other", "track_id": 5},
        ]
    )
    plan = plan_of(clips, common={**COMMON, "extra_parameters": {"a": 1}, "init_video": "not this"})
    first, second = plan.clips
    assert (plan.request(first).seed, first.output_type, str(first.destination)) == (
        7,
        "gif",
        "s3://results/styled/a.gif",
    )
    assert plan.request(first).extra_parameters == {"a": 1, "b": 2}
    assert plan.request(second).prompt == "other"
    for clip in plan:
        request = plan.request(clip)
        source = identify_input(clip.source, no_s3)
        assert clip.fingerprint == Fingerprint.of(request, conn_id="c", source=source)


def test_a_signature_is_no_part_of_what_a_link_is() -> None:
    one, two = (
        plan_of(clips_from([f"https://host/a.mp4?X-Amz-Signature={signature}"]), "{stem}-{hash}.{ext}").clips[0]
        for signature in ("secret1", "secret2")
    )
    assert (one.fingerprint, one.destination) == (two.fingerprint, two.destination)
    assert "secret" not in repr(one) + one.safe_source


def test_a_local_file_is_named_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    (clip,) = plan_of(clips_from([str(path)])).clips
    identity = identify_input(str(path), no_s3)
    assert identity is not None
    assert clip.fingerprint.source == Fingerprint.source_digest(identity)


def test_all_problems_of_all_clips_are_told() -> None:
    items = [
        {"uri": "https://host/a.mp4", "strength": 3, "fps": "x"},
        {"uri": "https://host/b.mp4", "promt": "x"},
        {"uri": "https://host/c.mp4", "destination": "../c.mp4"},
        {"uri": "https://host/d.mp4", "destination": "s3://elsewhere/d.mp4"},
        {"uri": "https://host/e.mp4", "destination": "e.gif"},
        "https://host/f.mp4",
        "https://other/f.mov",
    ]
    text = problems_of(clips_from(items))
    assert "7 problems" in text
    assert "item 1: strength: must be at most 1; got 3" in text
    assert "item 1: fps: must be a whole number; got 'x'" in text
    assert "item 2: promt: is not an attribute of the endpoint; did you mean prompt?" in text
    assert "item 3: destination: must have no folder named '.' or '..'" in text
    assert "item 4: destination: s3://elsewhere/d.mp4 is not below the output prefix s3://results/styled/" in text
    assert "item 5: destination: s3://results/styled/e.gif must end with .mp4" in text
    assert "item 7: destination: s3://results/styled/f.mp4 would also get the result of item 6" in text


def test_what_is_wrong_with_all_clips_is_told_once() -> None:
    text = problems_of(listed("a.mp4", "b.mp4"), common={"model_id": "m", "strength": 2})
    assert "2 problems" in text
    assert "all clips: prompt: is required" in text
    assert "all clips: strength: must be at most 1; got 2" in text


def test_two_inputs_with_one_result_are_both_named() -> None:
    text = problems_of(listed("a.mp4", "a.mov"))
    assert "s3://src/a.mov: destination: s3://results/styled/a.mp4 would also get the result of s3://src/a.mp4" in text
    assert len(plan_of(listed("a.mp4", "a.mov"), "{name}.{ext}")) == 2


def test_a_clip_named_twice_is_done_once_and_told() -> None:
    a, b = "https://host/a.mp4?sig=secret", "https://host/b.mp4"
    plan = plan_of(clips_from([a, b, a, {"uri": a, "seed": 1, "destination": "a-1.mp4"}]), "{stem}.{ext}")
    assert [clip.index for clip in plan] == [0, 1, 2]
    assert plan.duplicate_count == 1
    assert plan.duplicates == ("https://host/a.mp4: item 1, and again item 3",)


def test_results_must_not_lie_among_the_clips() -> None:
    clips = listed("day/a.mp4", "day/b.mp4", prefix="day/")
    text = problems_of(clips, "x-{stem}.{ext}", output=S3Uri("src", "day"))
    assert "1 problem" in text
    assert "is among the clips below s3://src/day/" in text
    text = problems_of(clips, "day/x-{stem}.{ext}", output=S3Uri("src"))
    assert "is among the clips" in text
    assert len(plan_of(clips, "out/{stem}.{ext}", output=S3Uri("src"))) == 2
    assert len(plan_of(clips, output=S3Uri("src", "day/styled"))) == 2


def test_a_result_never_replaces_a_clip() -> None:
    text = problems_of(
        clips_from([{"uri": "https://host/x.mp4"}, {"uri": "s3://results/styled/x.mp4"}]), "{stem}.{ext}"
    )
    assert "item 1: destination: s3://results/styled/x.mp4 is a clip of this batch" in text


def test_an_index_in_the_name_is_noted() -> None:
    assert "{index}" in plan_of(listed("a.mp4"), "{index}.{ext}").notes[0]
    assert plan_of(listed("a.mp4")).notes == ()


def test_a_seed_in_the_name_needs_a_seed() -> None:
    assert "uses {seed}, but this clip has no seed" in problems_of(listed("a.mp4"), "{seed}.{ext}")
    plan = plan_of(clips_from([{"uri": "https://host/a.mp4", "seed": n} for n in (1, 2)]), "{stem}-{seed}.{ext}")
    assert [clip.destination.key for clip in plan] == ["styled/a-1.mp4", "styled/a-2.mp4"]


def test_the_hash_tells_requests_apart_and_not_connections() -> None:
    items = [{"uri": "https://host/a.mp4", "seed": n} for n in (1, 2)]
    plan = plan_of(clips_from(items), "{hash}.{ext}")
    assert len({clip.destination for clip in plan}) == 2
    other = plan_of(clips_from(items), "{hash}.{ext}", conn_id="other")
    assert [clip.destination for clip in other] == [clip.destination for clip in plan]
    assert not {clip.fingerprint for clip in other} & {clip.fingerprint for clip in plan}


def test_a_key_that_is_too_long_is_told() -> None:
    text = problems_of(listed("a" * 1010 + ".mp4"), output=S3Uri("results", "styled/" * 3))
    assert "S3 allows 1024" in text


@pytest.mark.parametrize("template", [None, "{index:04}-{hash}.{ext}"])
@pytest.mark.parametrize("arguments", [(3, None), (None, 3), (None, 3, "seed")])
def test_a_selected_clip_is_what_it_is_in_the_whole_batch(template: str | None, arguments: tuple[Any, ...]) -> None:
    """Else the whole batch, later, would pay for it again."""
    clips = clips_from([{"uri": f"https://host/{number}.mp4", "seed": number} for number in range(10)])
    whole = {clip.source: clip for clip in plan_of(clips, template)}
    selection = Selection.of(*arguments)
    plan = plan_of(clips, template, selection=selection)
    assert [clip.index for clip in plan] == [0, 1, 2]
    assert [replace(clip, index=0) for clip in plan] == [replace(whole[clip.source], index=0) for clip in plan]
    assert plan.ignored == {selection.left_out: 7}


def test_only_selected_objects_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    clips = clips_from([str(tmp_path / "a.mp4"), "s3://src/b.mp4"])  # S3 would be asked which one that is
    (clip,) = plan_of(clips, selection=Selection.of(1, None))
    assert clip.source == str(tmp_path / "a.mp4")


def test_what_is_wrong_with_other_clips_ends_a_sample_too() -> None:
    clips = clips_from([{"uri": f"https://host/{number}.mp4", "strength": number} for number in range(10)])
    assert "8 problems" in problems_of(clips, selection=Selection.of(1, None))


KEYS = st.lists(
    st.text(st.sampled_from("ab/.?# é"), min_size=1, max_size=6).map(lambda name: f"{name}.mp4"),
    unique=True,
    max_size=8,
)


@pytest.mark.slow
@given(
    KEYS,
    st.sampled_from(["{path}/{stem}.{ext}", "{stem}.{ext}", "{name}.{ext}", "{hash}.{ext}", "{path}-{stem}.{ext}"]),
)
def test_either_all_results_have_a_place_of_their_own_or_both_inputs_are_named(keys: list[str], template: str) -> None:
    clips = listed(*keys)
    plan = problem = None
    try:
        plan = plan_of(clips, template)
    except InvalidRequestError as error:
        problem = error
    if plan is None:
        assert problem is not None
        assert "destination" in problem.fields
        return
    destinations = [clip.destination for clip in plan]
    assert len(set(destinations)) == len(destinations) == len(keys)
    assert all(destination.key.startswith("styled/") for destination in destinations)
    again = plan_of(replace(clips, clips=clips.clips[::-1]), template)
    assert {clip.source: clip.destination for clip in again} == {clip.source: clip.destination for clip in plan}


@pytest.mark.parametrize(("length", "fits"), [(1019, True), (1020, False), (1024, False)])
def test_a_key_leaves_room_for_its_sidecars(length: int, fits: bool) -> None:
    """Else a clip is paid for, landed and never done."""
    name = "x" * (length - len(OUT.key) - len(".mp4"))
    if fits:
        (clip,) = plan_of(listed(f"{name}.mov"))
        assert len(clip.destination.key) == length
    else:
        assert "1024" in problems_of(listed(f"{name}.mov"))
