"""The job: every attribute of the Enterprise video-to-video endpoint, with its range, default and wire form.

Ranges and defaults are those of the vendor's page. Only what the vendor's sources agree on is checked; names of models
and LoRAs stay open, because the vendor does not list them all. An attribute that was not given is not sent, so the
endpoint's own default holds (``seed`` is the exception: the page asks for an explicit ``null``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from airflow_provider_modelslab.api.errors import RequestValidationError
from airflow_provider_modelslab.api.redaction import SECRET_FIELDS, scrub, strip_query

__all__ = ["ATTRIBUTES", "MAX_SEED", "MODEL_IDS", "MOTION_MODULES", "Video2VideoRequest"]

MODEL_IDS = ("dark-sushi-mix", "epicrealismnaturalsi", "hellonijicute25d")
"""The model ids that the vendor's page names; others are passed on unchecked."""

MOTION_MODULES = ("v2_sd15_mm", "animatelcm", "animateDiff-lightning")
"""The motion modules that the vendor's page names; others are passed on unchecked."""

MAX_SEED = 2**32 - 1
"""The endpoint echoes seeds as unsigned 32-bit numbers."""

_NO_VALUE = {"", "none", "null"}


def _none_if_blank(value: object) -> object:
    """A Jinja template that renders to nothing gives ``""`` or ``"None"``; for a number or a switch both mean unset."""
    return None if isinstance(value, str) and value.strip().lower() in _NO_VALUE else value


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


_Blankable = BeforeValidator(_none_if_blank)
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Int = Annotated[int | None, _Blankable]
_Number = Annotated[_Finite | None, _Blankable]
_Switch = Annotated[bool, _Blankable]
_Names = Annotated[tuple[str, ...] | None, _Blankable, BeforeValidator(_names)]
_Strengths = Annotated[tuple[_Finite, ...], BeforeValidator(_strengths)]


class Video2VideoRequest(BaseModel, frozen=True, extra="forbid", str_strip_whitespace=True):
    """One video-to-video job.

    Strings that hold a number or a switch are converted, since templates render to strings; ``None`` means "not given".

    :raises RequestValidationError: naming each attribute at fault, what was given and what is allowed.
    """

    # `default=` by its name: type checkers without pydantic's plugin take a field for required otherwise.
    model_id: str = Field(
        min_length=1,
        description="The checkpoint: dark-sushi-mix, epicrealismnaturalsi, hellonijicute25d, or another.",
    )
    prompt: str = Field(min_length=1, description="What the video should show.")
    init_video: str = Field(min_length=1, description="Link to the mp4 or gif that conditions the result.")
    negative_prompt: str | None = Field(default=None, description="What should not be in the video.")
    seed: _Int = Field(
        default=None,
        ge=0,
        le=MAX_SEED,
        description="Same seed, same result; null draws one, which the result's meta tells.",
    )
    height: _Int = Field(default=None, ge=1, le=768, description="Height of the result in pixels, at most 768.")
    width: _Int = Field(default=None, ge=1, le=768, description="Width of the result in pixels, at most 768.")
    num_frames: Annotated[int, _Blankable] = Field(
        default=16, ge=1, le=25, description="Frames in the result, at most 25."
    )
    num_inference_steps: Annotated[int, _Blankable] = Field(
        default=20, ge=1, le=50, description="Denoising steps, at most 50."
    )
    guidance_scale: _Number = Field(
        default=None, ge=0, description="Scale of classifier-free guidance; no documented default."
    )
    clip_skip: _Int = Field(default=None, ge=0, description="CLIP layers to skip; null skips none.")
    strength: Annotated[_Finite, _Blankable] = Field(
        default=0.7, ge=0, le=1, description="0 keeps the original video, 1 lets the prompt decide all."
    )
    output_type: Literal["mp4", "gif"] | None = Field(default=None, description="Container of the result: mp4 or gif.")
    fps: _Int = Field(default=None, ge=1, description="Frames per second of the result; the page has no default.")
    lora_models: _Names = Field(default=None, description="LoRAs for the model: a list, or names joined by commas.")
    lora_strength: _Strengths = Field(
        default=(1.0,), min_length=1, description="One strength for all LoRAs, or one each."
    )
    motion_loras: _Names = Field(default=None, description="Motion LoRAs: a list, or names joined by commas.")
    motion_lora_strength: _Strengths = Field(
        default=(1.0,), min_length=1, description="One strength for all motion LoRAs, or one each."
    )
    domain_lora_scale: Annotated[_Finite, _Blankable] = Field(
        default=1.0, description="Weight of the domain adapter (AnimateDiff v3)."
    )
    adapter_lora: str = Field(default="v2_sd15_adapter", min_length=1, description="The domain adapter's name.")
    motion_module: str = Field(
        default="v2_sd15_mm",
        min_length=1,
        description="The motion module: v2_sd15_mm, animatelcm, animateDiff-lightning.",
    )
    upscale_height: _Int = Field(
        default=None, ge=1, le=1024, description="Height after upscaling in pixels, at most 1024."
    )
    upscale_width: _Int = Field(
        default=None, ge=1, le=1024, description="Width after upscaling in pixels, at most 1024."
    )
    upscale_strength: Annotated[_Finite, _Blankable] = Field(
        default=0.6, ge=0, le=1, description="Strength of the upscaling pass, 0 to 1."
    )
    upscale_guidance_scale: Annotated[_Finite, _Blankable] = Field(
        default=15.0, ge=0, description="Guidance scale of the upscaling pass."
    )
    upscale_num_inference_steps: Annotated[int, _Blankable] = Field(
        default=20, ge=1, description="Denoising steps of the upscaling pass."
    )
    use_improved_sampling: _Switch = Field(default=False, description="Steadier over time, and slower (FreeInit).")
    base64: _Switch = Field(default=False, description="Ask for the result as base64 text; landing decodes it.")
    instant_response: _Switch = Field(
        default=False, description="Answer at once with future links, without holding the call."
    )
    temp: _Switch = Field(
        default=False, description="Keep the result on the vendor's temporary storage, cleaned every 24 h."
    )
    webhook: str | None = Field(default=None, description="URL that gets a POST when the job is done.")
    track_id: str | None = Field(default=None, coerce_numbers_to_str=True, description="Echoed in the webhook's body.")
    extra_parameters: dict[str, Any] = Field(
        default_factory=dict, description="Attributes outside the vendor's page, sent as they are."
    )

    if not TYPE_CHECKING:  # the signature that type checkers see is the one made from the fields

        def __init__(self, **attributes: Any) -> None:
            try:
                super().__init__(**attributes)
            except ValidationError as error:
                raise RequestValidationError.of_fields(_explain(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _none_is_not_given(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, Mapping) else data

    @field_validator("output_type", mode="before")
    @classmethod
    def _lower_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("webhook")
    @classmethod
    def _is_link(cls, value: str | None) -> str | None:
        if value is not None and not _is_http(value):
            raise ValueError("must be an http(s) URL")
        return value

    @field_validator("extra_parameters")
    @classmethod
    def _no_known_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        known = sorted(set(value) & (set(ATTRIBUTES) | SECRET_FIELDS))
        if known:
            raise ValueError(f"{', '.join(known)}: must be given by its own argument (the key: in the connection)")
        return value

    @model_validator(mode="after")
    def _one_strength_per_lora(self) -> Self:
        for names, strengths in (("lora_models", "lora_strength"), ("motion_loras", "motion_lora_strength")):
            loras, values = getattr(self, names) or (), getattr(self, strengths)
            if len(values) > 1 and len(values) != len(loras):
                raise ValueError(f"{strengths}|has {len(values)} values for {len(loras)} {names}; give one or one each")
        return self

    def wire(self) -> dict[str, Any]:
        """The JSON body without the key: what was given, and ``seed``; lists joined by commas.

        :raises RequestValidationError: when ``init_video`` is no http(s) link, the only kind that the endpoint reads.
        """
        if not _is_http(self.init_video):
            raise RequestValidationError.of(
                "init_video", f"the endpoint reads http(s) links only; got {self.init_video[:200]!r}"
            )
        body = {name: getattr(self, name) for name in ATTRIBUTES if name in self.model_fields_set}
        for name, value in body.items():
            if isinstance(value, tuple):
                body[name] = ",".join(f"{v:g}" if isinstance(v, float) else v for v in value)
        return {**body, "seed": self.seed, **self.extra_parameters}

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Self:
        """Read a JSON body as an endpoint gets it: the key is dropped, unknown attributes become extra parameters."""
        known = {name: value for name, value in body.items() if name in ATTRIBUTES}
        extra = {name: value for name, value in body.items() if name not in ATTRIBUTES and name not in SECRET_FIELDS}
        return cls(**known, extra_parameters=extra)

    def record(self) -> dict[str, Any]:
        """Every attribute with the value in force, safe to store: links carry no query, which may be a signature.

        Of the webhook only its host is left.
        """
        return dict(scrub(self.model_dump(mode="json")))


ATTRIBUTES = tuple(name for name in Video2VideoRequest.model_fields if name != "extra_parameters")
"""The endpoint's attributes in the order of the fields, the key left out."""


def _is_http(link: str) -> bool:
    try:
        parts = urlsplit(link)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


_TEXTS = {
    "missing": "is required",
    "greater_than_equal": "must be at least {ge:.10g}",
    "less_than_equal": "must be at most {le:.10g}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "literal_error": "must be one of {expected}",
}


def _explain(error: ValidationError) -> dict[str, list[str]]:
    """Pydantic's findings as one list of plain sentences per attribute."""
    fields: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        name, text = _sentence(detail)
        fields.setdefault(name, []).append(text)
    return fields


def _sentence(detail: ErrorDetails) -> tuple[str, str]:
    name = str(detail["loc"][0]) if detail["loc"] else "request"
    if detail["type"] == "extra_forbidden":
        import difflib

        near = difflib.get_close_matches(name, ATTRIBUTES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return name, f"is not an attribute of the endpoint; {hint}extra_parameters passes others on"
    if detail["type"] == "value_error":
        head, bar, text = str(detail["ctx"]["error"]).partition("|")
        return (head, text) if bar else (name, f"{head}; got {_shown(detail['input'])}")
    text = _TEXTS.get(detail["type"], detail["msg"]).format(**detail.get("ctx", {}))
    return name, text if detail["type"] == "missing" else f"{text}; got {_shown(detail['input'])}"


def _shown(value: object) -> str:
    return repr(strip_query(value) if isinstance(value, str) else scrub(value))[:200]
