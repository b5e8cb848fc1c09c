"""What makes two requests the same one. The digests of version 1 are frozen: a change here is paid for by users."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from pydantic import Field

from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
from airflow_provider_modelslab.api.request import ATTRIBUTES, Video2VideoRequest
from airflow_provider_modelslab.ledger.model import Fingerprint

NEEDED: dict[str, Any] = {"model_id": "dark-sushi-mix", "prompt": "a fox", "init_video": "https://example.com/a.mp4"}

EVERYTHING: dict[str, Any] = {
    "negative_prompt": "low quality",
    "seed": 7,
    "height": 512,
    "width": 512,
    "num_frames": 24,
    "num_inference_steps": 30,
    "guidance_scale": 7.5,
    "clip_skip": 2,
    "strength": 0.55,
    "output_type": "gif",
    "fps": 8,
    "lora_models": ["a", "b"],
    "lora_strength": [0.5, 1],
    "motion_loras": "zoom-in",
    "motion_lora_strength": 0.8,
    "domain_lora_scale": 0.5,
    "adapter_lora": "v3_sd15_adapter",
    "motion_module": "animatelcm",
    "upscale_height": 1024,
    "upscale_width": 1024,
    "upscale_strength": 0.4,
    "upscale_guidance_scale": 12,
    "upscale_num_inference_steps": 10,
    "use_improved_sampling": True,
    "extra_parameters": {"scheduler": "euler", "weights": {"face": 1.0}},
}

LATER: dict[str, Any] = {}
"""Attributes that came after version 1 was frozen, each with a value: they count where they are given."""

DEFAULTS: dict[str, Any] = {
    "num_frames": 16,
    "num_inference_steps": 20,
    "strength": 0.7,
    "lora_strength": 1.0,
    "motion_lora_strength": "1.0",
    "domain_lora_scale": 1.0,
    "adapter_lora": "v2_sd15_adapter",
    "motion_module": "v2_sd15_mm",
    "upscale_strength": 0.6,
    "upscale_guidance_scale": 15.0,
    "upscale_num_inference_steps": 20,
    "use_improved_sampling": False,
}


def digest(request: EndpointRequest) -> str:
    return Fingerprint.of(request, conn_id="modelslab_default", source=None).request


@pytest.mark.parametrize(
    ("attributes", "golden"),
    [
        ({}, "41af0ff8892708f8402365b3b7422e91b48bc034048b9222fb3a4973fbbfc0b8"),
        (EVERYTHING, "48cf4b792fbe738e280a1382137b6ed33408674bd9110f7a298c3a9895596a9e"),
        (
            {"output_type": "mp4", "instant_response": True},
            "ec29cc606c9b3a45456c2f1691350a27d992eb20a6224f99fba7bc0e8fa6f188",
        ),
        (
            {"prompt": "ein Fuchs, größer", "strength": 1, "seed": 0},
            "5ce022e97009c4581d7ce1ce0826b971410f07f9bfac785ff3f281d82d5c918e",
        ),
    ],
)
def test_golden_digests_of_version_1(attributes: dict[str, Any], golden: str) -> None:
    """If this fails, running jobs and stored results count as other ones: add a version instead."""
    assert digest(Video2VideoRequest(**NEEDED | attributes)) == golden


def test_golden_digest_of_a_clip() -> None:
    fingerprint = Fingerprint.of(Video2VideoRequest(**NEEDED), conn_id="", source='s3://b/clip.mp4#"etag"')
    assert fingerprint.source == "bfbafcf3d7049cc4590b66441ce472d987d4c01f1e6cc05291bd26f590ea4308"


def test_an_attribute_that_is_added_changes_no_digest() -> None:
    class OfNextYear(Video2VideoRequest, frozen=True):
        camera: str = Field(default="still", description="New, optional, with a default.")

    for attributes in ({}, EVERYTHING):
        assert digest(OfNextYear(**NEEDED | attributes)) == digest(Video2VideoRequest(**NEEDED | attributes))
    assert digest(OfNextYear(**NEEDED, camera="pan")) != digest(Video2VideoRequest(**NEEDED))


def test_an_extra_parameter_that_becomes_an_attribute_keeps_its_identity() -> None:
    class OfNextYear(Video2VideoRequest, frozen=True):
        camera: str | None = Field(default=None, description="New.")

    before = Video2VideoRequest(**NEEDED, extra_parameters={"camera": "pan"})
    assert digest(OfNextYear(**NEEDED, camera="pan")) == digest(before)


def test_a_later_default_of_the_model_does_not_enter() -> None:
    class OfNextYear(Video2VideoRequest, frozen=True):
        num_frames: int = Field(default=25, description="Another default.")

    assert digest(OfNextYear(**NEEDED)) == digest(Video2VideoRequest(**NEEDED))
    assert digest(OfNextYear(**NEEDED, num_frames=25)) == digest(Video2VideoRequest(**NEEDED, num_frames=25))


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_a_documented_default_equals_one_left_out(name: str) -> None:
    assert digest(Video2VideoRequest(**NEEDED, **{name: DEFAULTS[name]})) == digest(Video2VideoRequest(**NEEDED))


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("strength", "0.55", 0.55),
        ("guidance_scale", 7, "7.0"),
        ("seed", "42", 42),
        ("use_improved_sampling", "true", True),
        ("lora_models", "a, b", ["a", "b"]),
        ("prompt", " a fox ", "a fox"),
        ("output_type", "MP4", "mp4"),
        ("extra_parameters", {"x": 1.0}, {"x": 1}),
        ("extra_parameters", {"mask": "https://h/m.png?sig=1"}, {"mask": "https://h/m.png?sig=2"}),
    ],
)
def test_one_value_in_two_spellings(name: str, one: Any, other: Any) -> None:
    first, second = (Video2VideoRequest(**NEEDED | {name: value}) for value in (one, other))
    assert digest(first) == digest(second)


@pytest.mark.parametrize("name", sorted({*EVERYTHING, *LATER} - {"lora_strength", "motion_lora_strength"}))
def test_every_attribute_that_shapes_the_result_counts(name: str) -> None:
    loras = {"lora_strength": 0.5} if name == "lora_models" else {}
    assert digest(Video2VideoRequest(**NEEDED, **{name: (EVERYTHING | LATER)[name]}, **loras)) != digest(
        Video2VideoRequest(**NEEDED, **loras)
    )


def test_zero_and_false_and_true_and_one_are_four_values() -> None:
    extras = [Video2VideoRequest(**NEEDED, extra_parameters={"x": value}) for value in (0, False, True, 1)]
    assert len({digest(request) for request in extras}) == 4


@pytest.mark.parametrize(
    "delivery",
    [
        {"webhook": "https://hooks.example/x"},
        {"track_id": "7"},
        {"instant_response": True},
        {"temp": True},
        {"base64": True},
        {"init_video": "https://example.com/other.mp4"},
    ],
)
def test_delivery_and_the_clips_link_stay_out(delivery: dict[str, Any]) -> None:
    assert digest(Video2VideoRequest(**NEEDED | delivery)) == digest(Video2VideoRequest(**NEEDED))


def test_every_attribute_either_counts_or_is_delivery() -> None:
    delivery = {"webhook", "track_id", "instant_response", "temp", "base64", "init_video"}
    assert set(ATTRIBUTES) == delivery | {"model_id", "prompt"} | {*EVERYTHING, *LATER} - {"extra_parameters"}


def test_another_endpoint_with_the_same_attributes_is_another_request() -> None:
    class Text2VideoRequest(EndpointRequest, frozen=True):
        path: ClassVar[str] = "enterprise/video/text2video"
        model_id: str
        prompt: str

    asked = Text2VideoRequest(model_id="dark-sushi-mix", prompt="a fox")
    assert asked.identity() == Video2VideoRequest(**NEEDED).identity()
    assert digest(asked) != digest(Video2VideoRequest(**NEEDED))


def test_the_connection_and_the_clip_count() -> None:
    request = Video2VideoRequest(**NEEDED)
    one = Fingerprint.of(request, conn_id="a", source="x")
    assert one.request != Fingerprint.of(request, conn_id="b", source="x").request
    assert one.source != Fingerprint.of(request, conn_id="a", source="y").source
