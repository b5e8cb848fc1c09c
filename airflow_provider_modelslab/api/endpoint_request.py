"""What the requests of all ModelsLab endpoints share: wire form, safe record, and what identifies a request.

A request for another endpoint is a subclass with its fields, its ``path`` and its frozen table of documented defaults.
Nothing in the client, the ledger, the triggers or the storage knows more of it than this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.redaction import SECRET_FIELDS, scrub, strip_query

__all__ = ["IDENTITY_VERSION", "EndpointRequest", "is_blank", "is_http"]

IDENTITY_VERSION = 1
"""Version of the rules by which two requests count as the same; it is stored with each submission.

Change nothing that alters the identity of a request under version 1: running jobs and stored results would count as
other ones, and be paid for again. A new rule needs a new version, beside the old one.
"""

# How the result is delivered, not what it shows. `audio` and `joins` are reserved: no attribute has these names yet.
_DELIVERY = frozenset({"webhook", "track_id", "instant_response", "temp", "base64", "audio", "joins"})

_NO_VALUE = frozenset({"", "none", "null"})


def is_blank(value: object) -> bool:
    """Whether a value means "not given": ``None``, or what a Jinja template for ``None`` renders to."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _NO_VALUE)


def is_http(link: str) -> bool:
    """Whether a text is an http(s) URL with a host."""
    try:
        parts = urlsplit(link)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


class EndpointRequest(BaseModel, frozen=True, extra="forbid", str_strip_whitespace=True):
    """One job of one endpoint.

    ``None``, ``""``, ``"None"`` and ``"null"`` mean "not given", because a template without a value renders to one of
    them. An attribute that was not given is not sent, so the endpoint's own default applies.

    :raises InvalidRequestError: with each invalid attribute, what was given and what is allowed.
    """

    path: ClassVar[str]
    """Path of the endpoint below the base URL, for example ``enterprise/video/video2video``."""

    clip_attribute: ClassVar[str | None] = None
    """The attribute with the link to the input clip; ``None`` for endpoints without one."""

    documented_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """The vendor page's defaults as of :data:`IDENTITY_VERSION`, frozen. A value equal to its default counts as not
    given when two requests are compared. A later default, or one of a local model, never enters this table."""

    vendor_limits: ClassVar[Mapping[str, int]] = MappingProxyType({})
    """The highest values on the vendor's page. They hold at the vendor only, see :meth:`check_vendor_limits`."""

    extensions: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Extra parameters that a served endpoint knows and the vendor does not, each with what to do at the vendor."""

    webhook: str | None = Field(default=None, description="URL that gets a POST when the job is done.")
    track_id: str | None = Field(default=None, coerce_numbers_to_str=True, description="Echoed in the webhook's body.")
    extra_parameters: dict[str, Any] = Field(
        default_factory=dict, description="Attributes that the vendor's page does not list; sent unchanged."
    )

    if not TYPE_CHECKING:  # the signature that type checkers see is the one made from the fields

        def __init__(self, **attributes: Any) -> None:
            try:
                super().__init__(**attributes)
            except ValidationError as error:
                raise InvalidRequestError.of_fields(_explain(error, type(self))) from None

    @classmethod
    def attributes(cls) -> tuple[str, ...]:
        """The endpoint's attributes in the order of its fields, those of delivery last; without the key."""
        own = [name for name in cls.model_fields if name not in EndpointRequest.model_fields]
        return (*own, "webhook", "track_id")

    @model_validator(mode="before")
    @classmethod
    def _drop_blanks(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if not is_blank(v)} if isinstance(data, Mapping) else data

    @field_validator("webhook")
    @classmethod
    def _check_webhook(cls, value: str | None) -> str | None:
        if value is not None and not is_http(value):
            raise ValueError("must be an http(s) URL")
        return value

    @field_validator("extra_parameters")
    @classmethod
    def _refuse_known_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        known = sorted(set(value) & (set(cls.attributes()) | SECRET_FIELDS))
        if known:
            raise ValueError(
                f"{', '.join(known)}: must not be in extra_parameters; use its own argument (the key: the connection)"
            )
        return value

    def check_vendor_limits(self) -> None:
        """Refuse values above the limits of the vendor's page, and extensions of a served endpoint.

        :raises InvalidRequestError: naming each attribute at fault, what was given and what is allowed.
        """
        given = {name: getattr(self, name) for name in self.vendor_limits}
        fields = {
            name: [f"must be at most {self.vendor_limits[name]}; got {value!r}"]
            for name, value in given.items()
            if value is not None and value > self.vendor_limits[name]
        }
        for name, value in self.extra_parameters.items():
            if name in self.extensions and not is_blank(value):
                fields[name] = [f"{self.extensions[name]}; got {value!r:.80}"]
        if fields:
            raise InvalidRequestError.of_fields(fields)

    @property
    def clip(self) -> str | None:
        """The input clip as it was given; ``None`` for endpoints without one."""
        return getattr(self, self.clip_attribute) if self.clip_attribute else None

    def with_delivery(self, *, clip: str | None, track_id: str | None) -> Self:
        """The request as it is sent: with a link that the endpoint can read, and the submission's track_id."""
        update = {"track_id": track_id} | ({self.clip_attribute: clip} if self.clip_attribute else {})
        return self.model_copy(update=update)

    def wire(self) -> dict[str, Any]:
        """The JSON body without the key: what was given; lists joined by commas.

        :raises InvalidRequestError: when the clip is no http(s) link, the only kind that the endpoint reads.
        """
        clip = self.clip
        if self.clip_attribute and not is_http(clip or ""):
            raise InvalidRequestError.of(
                self.clip_attribute,
                f"must be an http(s) link, the only kind that the endpoint reads; got {(clip or '')[:200]!r}",
            )
        body = {name: getattr(self, name) for name in self.attributes() if name in self.model_fields_set}
        for name, value in body.items():
            if isinstance(value, tuple):
                body[name] = ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
        return {**body, **self.extra_parameters}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Parse a JSON body: the key is dropped, unknown attributes become extra parameters."""
        attributes = cls.attributes()
        known = {name: value for name, value in body.items() if name in attributes}
        extra = {name: value for name, value in body.items() if name not in attributes and name not in SECRET_FIELDS}
        return cls(**known, extra_parameters=extra)

    def record(self) -> dict[str, Any]:
        """Every attribute with the value in force, safe to store: URLs without their query, which may be a signature.

        Only the host of the webhook is kept.
        """
        return dict(scrub(self.model_dump(mode="json")))

    def identity(self) -> dict[str, Any]:
        """What makes this request another one than the next, as plain JSON; see :data:`IDENTITY_VERSION`.

        Only what was given and differs from the vendor's documented default; numbers in one form, so that ``"0.70"``
        equals ``0.7`` and ``7.0`` equals ``7``. Left out: the clip, which is identified by its content, and how the
        result is delivered (webhook, track_id, instant_response, temp, base64). Extra parameters stand beside the
        attributes, so one that becomes an attribute later keeps its identity.
        """
        left_out = _DELIVERY | {"extra_parameters", self.clip_attribute}
        given = {
            name: _normalised(getattr(self, name))
            for name in self.model_fields_set - left_out
            if getattr(self, name) is not None
        }
        shaping = {
            name: value
            for name, value in given.items()
            if name not in self.documented_defaults or value != _normalised(self.documented_defaults[name])
        }
        return shaping | dict(_normalised(scrub(self.extra_parameters)))


def _normalised(value: Any) -> Any:
    """JSON with one form for each number; ``True`` stays apart from ``1``."""
    if isinstance(value, Mapping):
        return {str(name): _normalised(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_normalised(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


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


def _explain(error: ValidationError, model: type[EndpointRequest]) -> dict[str, list[str]]:
    """Pydantic's errors as one list of plain sentences per attribute."""
    fields: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        name, text = _sentence(detail, model)
        fields.setdefault(name, []).append(text)
    return fields


def _sentence(detail: ErrorDetails, model: type[EndpointRequest]) -> tuple[str, str]:
    name = str(detail["loc"][0]) if detail["loc"] else "request"
    if detail["type"] == "extra_forbidden":
        import difflib

        near = difflib.get_close_matches(name, model.attributes(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return name, f"is not an attribute of the endpoint; {hint}to send it anyway, put it into extra_parameters"
    if detail["type"] == "value_error":
        head, bar, text = str(detail["ctx"]["error"]).partition("|")
        return (head, text) if bar else (name, f"{head}; got {_shown(detail['input'])}")
    text = _TEXTS.get(detail["type"], detail["msg"]).format(**detail.get("ctx", {}))
    return name, text if detail["type"] == "missing" else f"{text}; got {_shown(detail['input'])}"


def _shown(value: object) -> str:
    return repr(strip_query(value) if isinstance(value, str) else scrub(value))[:200]
