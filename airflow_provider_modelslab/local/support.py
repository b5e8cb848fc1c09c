"""What this engine cannot do as asked, said before any work: an attribute is never quietly ignored."""

from __future__ import annotations

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.catalog import ModelSpec

__all__ = ["beyond_model", "unsupported"]

_MOTION_MODULE = "v2_sd15_mm"
_NO_ADAPTER = "v2_sd15_adapter"  # the default; there is no such LoRA: the v2 motion module needs none


def unsupported(request: Video2VideoRequest) -> dict[str, list[str]]:
    """The attributes that this engine cannot honour and that would change the result."""
    fields: dict[str, list[str]] = {}
    drop = "leave it out, or send the request to ModelsLab"
    if request.lora_models and any(request.lora_strength):
        fields["lora_models"] = [f"LoRAs are not run locally; got {', '.join(request.lora_models)}: {drop}"]
    if request.motion_loras and any(request.motion_lora_strength):
        fields["motion_loras"] = [f"motion LoRAs are not run locally; got {', '.join(request.motion_loras)}: {drop}"]
    if request.adapter_lora != _NO_ADAPTER and request.domain_lora_scale:
        fields["adapter_lora"] = [f"must be {_NO_ADAPTER}, which is none; got {request.adapter_lora!r}"]
    if request.motion_module != _MOTION_MODULE:
        fields["motion_module"] = [f"must be {_MOTION_MODULE}; got {request.motion_module!r}"]
    for name in ("upscale_height", "upscale_width"):
        if getattr(request, name) is not None:
            fields[name] = [f"upscaling is not run locally; got {getattr(request, name)}: {drop}"]
    if request.use_improved_sampling:
        fields["use_improved_sampling"] = [f"is not run locally; got true: {drop}"]
    if request.extra_parameters:
        names = ", ".join(sorted(request.extra_parameters))
        fields["extra_parameters"] = [f"attributes outside the vendor's page are not known locally; got {names}"]
    return fields


def beyond_model(request: Video2VideoRequest, spec: ModelSpec) -> dict[str, list[str]]:
    """The attributes that go beyond what the chosen model has."""
    fields: dict[str, list[str]] = {}
    if request.clip_skip is not None and request.clip_skip > spec.text_layers:
        fields["clip_skip"] = [
            f"must be at most {spec.text_layers}, the layers of {spec.id}'s text encoder; got {request.clip_skip}"
        ]
    if request.num_frames > spec.max_frames:
        fields["num_frames"] = [
            f"must be at most {spec.max_frames}, which {spec.id}'s motion modules know; got {request.num_frames}"
        ]
    return fields
