from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import ATTRIBUTES, MAX_SEED, Video2VideoRequest
from tests.support.page import PAGE_ATTRIBUTES, SAMPLE_REQUEST

NEEDED: dict[str, Any] = {"model_id": "dark-sushi-mix", "prompt": "a fox", "init_video": "https://example.com/a.mp4"}


def problems(**attributes: Any) -> dict[str, list[str]]:
    with pytest.raises(InvalidRequestError) as caught:
        Video2VideoRequest(**{**NEEDED, **attributes})
    for name, texts in caught.value.fields.items():
        assert f"{name}: {'; '.join(texts)}" in str(caught.value)
    return caught.value.fields


def test_the_pages_example_body_comes_out_as_it_went_in() -> None:
    body = Video2VideoRequest.from_body(SAMPLE_REQUEST).wire()
    given = {name: value for name, value in SAMPLE_REQUEST.items() if name != "key" and value is not None}
    assert body == {**given, "seed": None}
    assert json.loads(json.dumps(body)) == body


def test_attributes_are_those_of_the_page_and_its_example_without_the_key() -> None:
    assert {"key", *ATTRIBUTES} == {*PAGE_ATTRIBUTES, *SAMPLE_REQUEST}


def test_defaults_are_those_of_the_page() -> None:
    record = Video2VideoRequest(**NEEDED).record()
    assert {name: value for name, value in record.items() if name not in NEEDED and value is not None} == {
        "num_frames": 16,
        "num_inference_steps": 20,
        "strength": 0.7,
        "lora_strength": [1.0],
        "motion_lora_strength": [1.0],
        "domain_lora_scale": 1.0,
        "adapter_lora": "v2_sd15_adapter",
        "motion_module": "v2_sd15_mm",
        "upscale_strength": 0.6,
        "upscale_guidance_scale": 15.0,
        "upscale_num_inference_steps": 20,
        "use_improved_sampling": False,
        "base64": False,
        "instant_response": False,
        "temp": False,
        "extra_parameters": {},
    }


def test_what_was_not_given_is_not_sent_but_the_seed() -> None:
    assert Video2VideoRequest(**NEEDED, height=None, strength=None).wire() == {**NEEDED, "seed": None}


RANGES: list[tuple[str, float | None, float | None]] = [
    ("seed", 0, MAX_SEED),
    ("height", 1, None),
    ("width", 1, None),
    ("num_frames", 1, None),
    ("num_inference_steps", 1, None),
    ("guidance_scale", 0, None),
    ("clip_skip", 0, None),
    ("strength", 0, 1),
    ("fps", 1, None),
    ("upscale_height", 1, None),
    ("upscale_width", 1, None),
    ("upscale_strength", 0, 1),
    ("upscale_guidance_scale", 0, None),
    ("upscale_num_inference_steps", 1, None),
]


def test_every_range_is_among_them() -> None:
    found = []
    for name, field in Video2VideoRequest.model_fields.items():
        limits = {kind: getattr(item, kind) for item in field.metadata for kind in ("ge", "le") if hasattr(item, kind)}
        if limits:
            found.append((name, limits.get("ge"), limits.get("le")))
    assert sorted(found) == sorted(RANGES)


@pytest.mark.parametrize(("name", "lowest", "highest"), RANGES)
def test_ranges_name_what_was_given_and_what_is_allowed(name: str, lowest: float, highest: float | None) -> None:
    assert Video2VideoRequest(**NEEDED, **{name: lowest}).wire()[name] == lowest
    assert problems(**{name: lowest - 1}) == {name: [f"must be at least {lowest:.10g}; got {lowest - 1!r}"]}
    if highest is not None:
        assert Video2VideoRequest(**NEEDED, **{name: highest}).wire()[name] == highest
        assert problems(**{name: highest + 1}) == {name: [f"must be at most {highest:.10g}; got {highest + 1!r}"]}


VENDOR_LIMITS = [
    ("height", 768),
    ("width", 768),
    ("num_frames", 25),
    ("num_inference_steps", 50),
    ("upscale_height", 1024),
    ("upscale_width", 1024),
]


@pytest.mark.parametrize(("name", "highest"), VENDOR_LIMITS)
def test_a_limit_of_the_vendor_is_no_limit_of_the_request(name: str, highest: int) -> None:
    """A family of local models may go beyond it: Wan's own width is 832."""
    Video2VideoRequest(**NEEDED, **{name: highest}).check_vendor_limits()
    beyond = Video2VideoRequest(**NEEDED, **{name: highest + 1})
    assert beyond.wire()[name] == highest + 1
    with pytest.raises(InvalidRequestError) as caught:
        beyond.check_vendor_limits()
    assert caught.value.fields == {name: [f"must be at most {highest}; got {highest + 1}"]}


def test_the_limits_of_the_vendor_are_named_together() -> None:
    assert dict(VENDOR_LIMITS) == Video2VideoRequest.vendor_limits
    with pytest.raises(InvalidRequestError) as caught:
        Video2VideoRequest(**NEEDED, **{name: highest + 1 for name, highest in VENDOR_LIMITS}).check_vendor_limits()
    assert set(caught.value.fields) == set(Video2VideoRequest.vendor_limits)
    Video2VideoRequest(**NEEDED).check_vendor_limits()


NUMBERS = ["guidance_scale", "strength", "domain_lora_scale", "upscale_strength", "upscale_guidance_scale"]


@pytest.mark.parametrize("name", [name for name, *_ in RANGES if name not in NUMBERS])
def test_whole_numbers(name: str) -> None:
    assert Video2VideoRequest(**NEEDED, **{name: "16"}).wire()[name] == 16
    for given in (1.5, "many", [1]):
        assert problems(**{name: given}) == {name: [f"must be a whole number; got {given!r}"]}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str) -> None:
    assert Video2VideoRequest(**NEEDED, **{name: "0.5"}).wire()[name] == 0.5
    assert problems(**{name: "high"}) == {name: ["must be a number; got 'high'"]}
    assert problems(**{name: float("nan")}) == {name: ["must be a finite number; got nan"]}
    assert problems(**{name: float("inf")}) == {name: ["must be a finite number; got inf"]}


@pytest.mark.parametrize("name", ["use_improved_sampling", "base64", "instant_response", "temp"])
def test_switches(name: str) -> None:
    for given in (True, "true", "yes", 1, "True", "on"):
        assert Video2VideoRequest(**NEEDED, **{name: given}).wire()[name] is True
    for given in (False, "no", 0):
        assert Video2VideoRequest(**NEEDED, **{name: given}).wire()[name] is False
    assert problems(**{name: "maybe"}) == {name: ["must be true or false; got 'maybe'"]}


@pytest.mark.parametrize("name", ["model_id", "prompt", "init_video"])
def test_what_is_required(name: str) -> None:
    assert problems(**{name: None}) == {name: ["is required"]}
    assert problems(**{name: " "}) == {name: ["is required"]}
    assert problems(**{name: "None"}) == {name: ["is required"]}
    assert problems(**{name: 7}) == {name: ["must be text; got 7"]}


@pytest.mark.parametrize("name", ["adapter_lora", "motion_module"])
def test_names_stay_open(name: str) -> None:
    assert Video2VideoRequest(**NEEDED, **{name: "of_next_year"}).wire()[name] == "of_next_year"


def test_output_type() -> None:
    assert Video2VideoRequest(**NEEDED, output_type=" GIF ").output_type == "gif"
    assert problems(output_type="webm") == {"output_type": ["must be one of 'mp4' or 'gif'; got 'webm'"]}


@pytest.mark.parametrize("blank", ["", "None", "null", " none ", None])
@pytest.mark.parametrize("name", sorted(set(ATTRIBUTES) - {"model_id", "prompt", "init_video"}))
def test_an_attribute_that_renders_to_nothing_is_not_given(name: str, blank: str | None) -> None:
    request = Video2VideoRequest(**NEEDED, **{name: blank})
    assert request == Video2VideoRequest(**NEEDED)
    assert name not in request.wire() or name == "seed"


@pytest.mark.parametrize(
    ("loras", "strengths"), [("lora_models", "lora_strength"), ("motion_loras", "motion_lora_strength")]
)
def test_lists_of_loras(loras: str, strengths: str) -> None:
    for names, weights in ((["a", "b"], [0.7, 1]), ("a, b", "0.7,1"), ("a,,b,", ("0.7", 1.0))):
        wire = Video2VideoRequest(**NEEDED, **{loras: names, strengths: weights}).wire()
        assert (wire[loras], wire[strengths]) == ("a,b", "0.7,1")
    assert Video2VideoRequest(**NEEDED, **{loras: "a,b", strengths: 0.5}).wire()[strengths] == "0.5"
    assert Video2VideoRequest(**NEEDED, **{loras: ""}).record()[loras] is None
    assert problems(**{loras: "a,b,c", strengths: "1,2"}) == {
        strengths: [f"has 2 values for 3 {loras}; give one value, or one for each"]
    }
    assert problems(**{strengths: "strong"})[strengths][0].startswith("must be a number; got")


def test_unknown_attributes_get_a_hint() -> None:
    advice = "to send it anyway, put it into extra_parameters"
    assert problems(num_frame=3) == {
        "num_frame": [f"is not an attribute of the endpoint; did you mean num_frames? {advice}"]
    }
    assert problems(zzz=3) == {"zzz": [f"is not an attribute of the endpoint; {advice}"]}


def test_all_problems_are_told_at_once() -> None:
    found = problems(height=0, strength=2, output_type="webm")
    assert set(found) == {"height", "strength", "output_type"}


def test_extra_parameters_are_sent_as_they_are_but_cannot_smuggle_in_the_key() -> None:
    wire = Video2VideoRequest(**NEEDED, extra_parameters={"improved_sampling_seed": 42}).wire()
    assert wire["improved_sampling_seed"] == 42
    for name in ("key", "api_key", "height"):
        (text,) = problems(extra_parameters={name: "hush-hush"})["extra_parameters"]
        assert text.startswith(f"{name}: must not be in extra_parameters")
        assert ("hush" in text) is (name == "height")  # a key is not shown


def test_the_track_id_is_text() -> None:
    assert Video2VideoRequest(**NEEDED, track_id=300).wire()["track_id"] == "300"


@pytest.mark.parametrize("given", ["ftp://example.com/x", "example.com/x", "https://", "/x"])
def test_the_webhook_is_a_link(given: str) -> None:
    assert problems(webhook=given) == {"webhook": [f"must be an http(s) URL; got {given!r}"]}


def test_a_rejected_link_is_shown_without_its_signature() -> None:
    assert "Signature" not in str(problems(webhook="s3://bucket/clip.mp4?X-Amz-Signature=abc"))


@pytest.mark.parametrize("given", ["s3://bucket/a.mp4", "/data/a.mp4", "data:video/mp4;base64,AAAA"])
def test_init_video_may_be_anything_until_it_is_sent(given: str) -> None:
    request = Video2VideoRequest(**{**NEEDED, "init_video": given})
    with pytest.raises(InvalidRequestError, match="init_video: must be an http") as caught:
        request.wire()
    assert given in str(caught.value)


def test_from_wire_drops_secrets_and_keeps_the_unknown() -> None:
    request = Video2VideoRequest.from_body({**NEEDED, "key": "hush-hush", "new": 1})
    assert request.extra_parameters == {"new": 1}
    assert "hush" not in repr(request)


def test_the_record_holds_no_signature() -> None:
    request = Video2VideoRequest(**{**NEEDED, "init_video": "https://u:p@example.com/a.mp4?X-Amz-Signature=abc#x"})
    assert request.record()["init_video"] == "https://example.com/a.mp4"
    assert "Signature" in request.wire()["init_video"]


def test_a_request_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Video2VideoRequest(**NEEDED).prompt = "another"  # type: ignore[misc]
