"""The job: every attribute of the Enterprise video-to-video endpoint, with its range, default and wire form.

The request checks types, and ranges that hold wherever a job runs. The highest values of the vendor's page are in
``vendor_limits`` and are checked where a request goes to the vendor; a family of local models has limits of its own.
Names of models and LoRAs stay open, because the vendor does not list them all. An attribute that was not given is not
sent, so the endpoint's own default holds (``seed`` is the exception: the page asks for an explicit ``null``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from airflow_provider_modelslab.api.clip_modes import EXTENSIONS
from airflow_provider_modelslab.api.endpoint_request import EndpointRequest

__all__ = ["ATTRIBUTES", "MAX_SEED", "MODEL_IDS", "MOTION_MODULES", "Video2VideoRequest"]

MODEL_IDS = ("dark-sushi-mix", "epicrealismnaturalsi", "hellonijicute25d")
"""The model ids that the vendor's page names; others are passed on unchecked."""

MOTION_MODULES = ("v2_sd15_mm", "animatelcm", "animateDiff-lightning")
"""The motion modules that the vendor's page names; others are passed on unchecked."""

MAX_SEED = 2**32 - 1
"""The endpoint echoes seeds as unsigned 32-bit numbers."""


def _names(value: object) -> object:
    """``"a, b"`` and ``["a", "b"]`` are the same list of names."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip()) or None
    return tuple(value) or None if isinstance(value, Sequence) else value


def _strengths(value: object) -> object:
    """``"0.7,0.4"``, ``[0.7, 0.4]`` and ``0.7`` are lists of numbers."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, int | float):
        return (value,)
    return tuple(value) if isinstance(value, Sequence) else value


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Names = Annotated[tuple[str, ...] | None, BeforeValidator(_names, json_schema_input_type=str | tuple[str, ...] | None)]
_Strengths = Annotated[
    tuple[_Finite, ...], BeforeValidator(_strengths, json_schema_input_type=float | str | tuple[float, ...])
]


class Video2VideoRequest(EndpointRequest, frozen=True):
    """One video-to-video job.

    Strings that hold a number or a switch are converted, since templates render to strings; ``None`` means "not given".

    :raises InvalidRequestError: naming each attribute at fault, what was given and what is allowed.
    """

    path: ClassVar[str] = "enterprise/video/video2video"
    clip_attribute: ClassVar[str | None] = "init_video"
    # Frozen with version 1 of a request's identity: changing a value here pays again for what is stored already.
    documented_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "num_frames": 16,
            "num_inference_steps": 20,
            "strength": 0.7,
            "lora_strength": (1.0,),
            "motion_lora_strength": (1.0,),
            "domain_lora_scale": 1.0,
            "adapter_lora": "v2_sd15_adapter",
            "motion_module": "v2_sd15_mm",
            "upscale_strength": 0.6,
            "upscale_guidance_scale": 15.0,
            "upscale_num_inference_steps": 20,
            "use_improved_sampling": False,
        }
    )

    vendor_limits: ClassVar[Mapping[str, int]] = MappingProxyType(
        {
            "height": 768,
            "width": 768,
            "num_frames": 25,
            "num_inference_steps": 50,
            "upscale_height": 1024,
            "upscale_width": 1024,
        }
    )

    extensions: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict.fromkeys(
            EXTENSIONS,
            "is not known to ModelsLab: only the endpoint that this package serves has it. Use a connection to such an "
            "endpoint, or set clip_mode='whole' in the operator, which pays for several jobs for each clip",
        )
    )

    # `default=` by its name: type checkers without pydantic's plugin take a field for required otherwise.
    model_id: str = Field(
        min_length=1,
        description="The checkpoint: dark-sushi-mix, epicrealismnaturalsi, hellonijicute25d, or another.",
    )
    prompt: str = Field(min_length=1, description="What the video should show.")
    init_video: str = Field(min_length=1, description="Link to the mp4 or gif that conditions the result.")
    negative_prompt: str | None = Field(default=None, description="What should not be in the video.")
    seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_SEED,
        description="The same seed gives the same result. With null, the endpoint chooses one and "
        "returns it in the result's meta.",
    )
    height: int | None = Field(default=None, ge=1, description="Height of the result in pixels.")
    width: int | None = Field(default=None, ge=1, description="Width of the result in pixels.")
    num_frames: int = Field(default=16, ge=1, description="Frames in the result.")
    num_inference_steps: int = Field(default=20, ge=1, description="Denoising steps.")
    guidance_scale: _Finite | None = Field(
        default=None, ge=0, description="Scale of classifier-free guidance. The page gives no default."
    )
    clip_skip: int | None = Field(default=None, ge=0, description="CLIP layers to skip. null skips none.")
    strength: _Finite = Field(
        default=0.7, ge=0, le=1, description="0 keeps the original video; with 1, only the prompt decides."
    )
    output_type: Literal["mp4", "gif"] | None = Field(default=None, description="Container of the result: mp4 or gif.")
    fps: int | None = Field(
        default=None, ge=1, description="Frames per second of the result. The page gives no default."
    )
    lora_models: _Names = Field(default=None, description="LoRAs for the model: a list, or names joined by commas.")
    lora_strength: _Strengths = Field(
        default=(1.0,), min_length=1, description="One strength for all LoRAs, or one for each."
    )
    motion_loras: _Names = Field(default=None, description="Motion LoRAs: a list, or names joined by commas.")
    motion_lora_strength: _Strengths = Field(
        default=(1.0,), min_length=1, description="One strength for all motion LoRAs, or one for each."
    )
    domain_lora_scale: _Finite = Field(default=1.0, description="Weight of the domain adapter (AnimateDiff v3).")
    adapter_lora: str = Field(default="v2_sd15_adapter", min_length=1, description="The domain adapter's name.")
    motion_module: str = Field(
        default="v2_sd15_mm",
        min_length=1,
        description="The motion module: v2_sd15_mm, animatelcm, animateDiff-lightning.",
    )
    upscale_height: int | None = Field(default=None, ge=1, description="Height after upscaling in pixels.")
    upscale_width: int | None = Field(default=None, ge=1, description="Width after upscaling in pixels.")
    upscale_strength: _Finite = Field(default=0.6, ge=0, le=1, description="Strength of the upscaling pass, 0 to 1.")
    upscale_guidance_scale: _Finite = Field(default=15.0, ge=0, description="Guidance scale of the upscaling pass.")
    upscale_num_inference_steps: int = Field(default=20, ge=1, description="Denoising steps of the upscaling pass.")
    use_improved_sampling: bool = Field(default=False, description="Steadier motion, but slower (FreeInit).")
    base64: bool = Field(
        default=False, description="Request the result as base64 text. It is decoded when it is copied to S3."
    )
    instant_response: bool = Field(
        default=False,
        description="Respond at once with the links of the future result, instead of keeping the call open.",
    )
    temp: bool = Field(
        default=False, description="Keep the result in the vendor's temporary storage, which is emptied every 24 h."
    )

    @field_validator("output_type", mode="before")
    @classmethod
    def _lower_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_strength_per_lora(self) -> Self:
        for names, strengths in (("lora_models", "lora_strength"), ("motion_loras", "motion_lora_strength")):
            loras, values = getattr(self, names) or (), getattr(self, strengths)
            if len(values) > 1 and len(values) != len(loras):
                raise ValueError(
                    f"{strengths}|has {len(values)} values for {len(loras)} {names}; give one value, or one for each"
                )
        return self

    def wire(self) -> dict[str, Any]:
        """The JSON body without the key: what was given, and ``seed``, which the page asks to be sent as ``null``.

        :raises InvalidRequestError: when ``init_video`` is no http(s) link, the only kind that the endpoint reads.
        """
        return {"seed": self.seed, **super().wire()}


ATTRIBUTES = Video2VideoRequest.attributes()
"""The endpoint's attributes in the order of the fields, the key left out."""
