"""What is out of range is an error that names the attribute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.engine import Generated

Make = Callable[..., Generated]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"clip_skip": 6}, "clip_skip", "at most 5"),
        ({"motion_module": "nobodys"}, "motion_module", "there is no 'nobodys'"),
        ({"motion_module": "animatelmc"}, "motion_module", "did you mean animatelcm?"),
        ({"motion_module": "short", "num_frames": 6}, "num_frames", "at most 5"),
        ({"lora_models": "nobodys"}, "lora_models", "loras/nobodys.safetensors"),
        ({"motion_loras": "zoom-sideways"}, "motion_loras", "rolling-clockwise"),
        ({"motion_loras": "tilt-up"}, "motion_loras", "motion_loras/tilt-up"),
        ({"motion_loras": "style"}, "motion_loras", "there is no 'style'"),
        ({"adapter_lora": "v4_adapter"}, "adapter_lora", "v3_sd15_adapter"),
        ({"motion_module": "animatelcm", "num_inference_steps": 50, "upscale_width": 64,
          "upscale_num_inference_steps": 51}, "upscale_num_inference_steps", "at most 50"),
        ({"upscale_width": 64, "upscale_num_inference_steps": 1001}, "upscale_num_inference_steps", "at most 1000"),
        ({"extra_parameters": {"watermark": "yes"}}, "extra_parameters", "watermark"),
        ({"upscale_width": 1025}, "upscale_width", "at most 1024 with tiny"),
        ({"upscale_strength": 1.1}, "upscale_strength", "at most 1"),
        ({"upscale_guidance_scale": -1}, "upscale_guidance_scale", "at least 0"),
        ({"upscale_num_inference_steps": 0}, "upscale_num_inference_steps", "at least 1"),
        ({"lora_models": "style", "lora_strength": "1,2"}, "lora_strength", "2 values for 1"),
        ({"motion_lora_strength": "x"}, "motion_lora_strength", "number"),
        ({"domain_lora_scale": "x"}, "domain_lora_scale", "number"),
        ({"use_improved_sampling": "perhaps"}, "use_improved_sampling", "true or false"),
        ({"strength": 1.01}, "strength", "at most 1"),
        ({"guidance_scale": -1}, "guidance_scale", "at least 0"),
        ({"num_inference_steps": 1001}, "num_inference_steps", "at most 1000 with tiny"),
        ({"num_frames": 33}, "num_frames", "at most 32 with tiny"),
        ({"width": 1025}, "width", "at most 1024 with tiny"),
        ({"height": 1025}, "height", "at most 1024 with tiny"),
        ({"upscale_height": 1025}, "upscale_height", "at most 1024 with tiny"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_out_of_range_is_an_error_that_names_it(make: Make, change: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        make(**change)
    assert list(caught.value.fields) == [field]
    assert text in caught.value.fields[field][0]
