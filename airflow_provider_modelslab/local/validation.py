"""What cannot be done as asked, said before any work: an attribute is never quietly ignored."""

from __future__ import annotations

from collections.abc import Collection

from airflow_provider_modelslab.api.clip_modes import EXTENSIONS
from airflow_provider_modelslab.api.request import ATTRIBUTES, Video2VideoRequest
from airflow_provider_modelslab.local.models.builtin import NO_ADAPTER

__all__ = ["HONOURED_BY_ALL", "Fields", "merge", "requested_attributes", "unsupported", "unsupported_by_endpoint"]

Fields = dict[str, list[str]]
"""What is wrong, by attribute."""

HONOURED_BY_ALL = frozenset(
    {
        *("model_id", "prompt", "negative_prompt", "init_video", "seed", "height", "width", "num_frames"),
        *("num_inference_steps", "guidance_scale", "strength", "output_type", "fps"),
        *("base64", "instant_response", "temp", "webhook", "track_id"),  # whoever serves the model sees to these
    }
)
"""The attributes that need no family to honour them."""

_GO_WITH_ANOTHER = frozenset(
    {
        *("lora_strength", "motion_lora_strength", "domain_lora_scale"),
        *("upscale_strength", "upscale_guidance_scale", "upscale_num_inference_steps"),
    }
)


def requested_attributes(request: Video2VideoRequest) -> dict[str, str]:
    """The attributes that not every family can honour and that would change the result, with what was given.

    Those that change nothing are not among them: LoRAs of strength 0, ``upscale_strength`` without a size.
    """
    given: dict[str, str] = {}
    if request.lora_models and any(request.lora_strength):
        given["lora_models"] = ", ".join(request.lora_models)
    if request.motion_loras and any(request.motion_lora_strength):
        given["motion_loras"] = ", ".join(request.motion_loras)
    if request.adapter_lora != NO_ADAPTER and request.domain_lora_scale:
        given["adapter_lora"] = repr(request.adapter_lora)
    if "motion_module" in request.model_fields_set:
        given["motion_module"] = repr(request.motion_module)
    if request.clip_skip:
        given["clip_skip"] = str(request.clip_skip)
    if request.use_improved_sampling:
        given["use_improved_sampling"] = "true"
    for name in _OTHERS:
        if name in request.model_fields_set and getattr(request, name) is not None:
            given[name] = str(getattr(request, name))
    return given


_JUDGED_BY_VALUE = frozenset(
    {"lora_models", "motion_loras", "adapter_lora", "motion_module", "clip_skip", "use_improved_sampling"}
)
_OTHERS = [name for name in ATTRIBUTES if name not in HONOURED_BY_ALL | _GO_WITH_ANOTHER | _JUDGED_BY_VALUE]


def unsupported(request: Video2VideoRequest, family: str, honours: Collection[str]) -> Fields:
    """The attributes that this family cannot honour."""
    return {
        name: [f"is not supported by models of the family {family}; got {value}: leave it out, or choose another model"]
        for name, value in requested_attributes(request).items()
        if name not in honours
    }


def unsupported_by_endpoint(request: Video2VideoRequest) -> Fields:
    """Attributes outside of the vendor's page: there is no telling what they should do here."""
    unknown = sorted(set(request.extra_parameters) - set(EXTENSIONS))
    if not unknown:
        return {}
    names = ", ".join(unknown)
    return {"extra_parameters": [f"local models support only the attributes of the vendor's page; got {names}"]}


def merge(*parts: Fields) -> Fields:
    """All of these findings in one."""
    merged: Fields = {}
    for part in parts:
        for name, texts in part.items():
            merged.setdefault(name, []).extend(texts)
    return merged
