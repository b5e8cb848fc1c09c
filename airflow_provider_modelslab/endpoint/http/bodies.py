"""The bodies of the calls: what FastAPI reads, and what ``/openapi.json`` says of them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_modelslab.api.clip_modes import EXTENSIONS
from airflow_provider_modelslab.api.request import ATTRIBUTES, Video2VideoRequest
from airflow_provider_modelslab.endpoint.results.s3_details import DeployTarget, S3Attributes

__all__ = ["KeyBody", "ResetS3Body", "SubmitBody", "UpdateS3Body"]

_EXAMPLE = {
    "key": "your-key",
    "model_id": "dark-sushi-mix",
    "prompt": "fox playing ukulele on a boat floating on magma flowing under the boat",
    "negative_prompt": "low quality",
    "init_video": "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/diffusers/"
    "animatediff-vid2vid-output-1.gif",
    "clip_skip": 2,
    "num_inference_steps": 40,
    "use_improved_sampling": False,
    "guidance_scale": 9.5,
    "strength": 0.8,
    "base64": False,
    "webhook": None,
    "track_id": None,
}
"""The example of the vendor's page."""


class KeyBody(BaseModel):
    """The body that every call has: the key."""

    key: str = Field(description="Your API key.", repr=False, examples=["your-key"])


def _add_attributes(schema: dict[str, Any]) -> None:
    asked = Video2VideoRequest.model_json_schema()
    for name in ATTRIBUTES:
        schema["properties"][name] = described = dict(asked["properties"][name])
        if limit := Video2VideoRequest.vendor_limits.get(name):
            described["description"] += f" At most {limit} at ModelsLab; a model that runs here has its own limit."
    schema["properties"] |= EXTENSIONS
    schema["required"] += asked["required"]


class SubmitBody(KeyBody):
    """A job. Numbers and switches may be text; ``null`` and ``""`` mean that the attribute is not given."""

    # The attributes are those of Video2VideoRequest, which the service makes of them: which unknown ones are refused,
    # and before which other error, is a setting.
    model_config = ConfigDict(extra="allow", json_schema_extra=_add_attributes)

    @property
    def attributes(self) -> dict[str, Any]:
        """The body without the key, as it was sent."""
        return dict(self.model_extra or {})


class UpdateS3Body(S3Attributes, KeyBody):
    """A bucket for the results, and how to reach it."""


class ResetS3Body(DeployTarget, KeyBody):
    """Which bucket to forget."""


SUBMIT_EXAMPLES: dict[str, Any] = {"the vendor's page": {"value": _EXAMPLE}}
