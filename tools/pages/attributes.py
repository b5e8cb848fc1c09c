"""The attributes of a job, from :class:`Video2VideoRequest`."""

from __future__ import annotations

import inspect
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MinLen
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from airflow_provider_modelslab.api.clip_modes import EXTENSIONS
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from tools.pages.markdown import code, from_rst, table

__all__ = ["allowed", "default", "origins", "ranges"]

_WORDS: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "mapping"}

_NOT_IN_THE_TABLE = {
    "prompt": "the example of the vendor's page",
    "use_improved_sampling": "the example of the vendor's page",
    "base64": "the example of the vendor's page",
    "extra_parameters": "this provider",
}
"""Attributes that the vendor's table does not list."""

_IN_OTHER_WORDS = {"extra_parameters": "other names than these, and no credentials"}
"""Ranges of attributes whose check describes only the wrong value."""


def ranges() -> str:
    """Type, range, default and meaning of each attribute."""
    return table(
        ["attribute", "type", "range", "default", "meaning"],
        (
            [code(name), kind(field), allowed(name, field), default(field), field.description or ""]
            for name, field in Video2VideoRequest.model_fields.items()
        ),
    )


def origins() -> str:
    """Where each attribute comes from, what the operators send, and which local models honour it."""
    from airflow_provider_modelslab.operators.arguments import RequestArguments
    from airflow_provider_modelslab.operators.local_arguments import _DELIVERY

    unknown = set(_NOT_IN_THE_TABLE) - set(Video2VideoRequest.model_fields)
    if unknown:
        raise LookupError(f"no attributes: {', '.join(sorted(unknown))}")
    arguments = inspect.signature(RequestArguments.__init__).parameters
    rows = []
    for name in Video2VideoRequest.model_fields:
        given = arguments[name].default if name in arguments else None
        refused = f"refused by local tasks: {_DELIVERY[name]}" if name in _DELIVERY else families(name)
        rows.append(
            [
                code(name),
                _NOT_IN_THE_TABLE.get(name, "the table of the vendor's page"),
                "" if given is None else code(_shown(given)),
                refused,
            ]
        )
    return table(["attribute", "comes from", "operators send", "local models"], rows)


def kind(field: FieldInfo) -> str:
    """The type in words."""
    bare = _bare(field.annotation)
    if get_origin(bare) is Literal:
        return "choice"
    if get_origin(bare) is tuple:
        return "names" if get_args(bare)[0] is str else "numbers"
    return _WORDS[get_origin(bare) or bare]


def _bare(annotation: Any) -> Any:
    """A type without ``| None`` and without what validates it."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Annotated or (get_origin(annotation) in {Union, UnionType} and len(parts) == 1):
        return _bare(parts[0])
    return annotation


def allowed(name: str, field: FieldInfo) -> str:
    """The range in words: the field's limits and the vendor's, else the message of its check."""
    low = next((rule.ge for rule in field.metadata if isinstance(rule, Ge)), None)
    high = next(
        (rule.le for rule in field.metadata if isinstance(rule, Le)), Video2VideoRequest.vendor_limits.get(name)
    )
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"{low} or more"
    if high is not None:
        return f"at most {high}"
    if kind(field) == "choice":
        return " or ".join(code(choice) for choice in get_args(_bare(field.annotation)))
    if name in _checked():
        return _message_of_check(name)
    if kind(field) in {"names", "numbers"}:
        return "a list, or joined by commas"
    if kind(field) == "true or false":
        return ""
    return "not empty" if any(isinstance(rule, MinLen) for rule in field.metadata) else "any"


def default(field: FieldInfo) -> str:
    """The default in force when nothing is sent, as far as it is documented."""
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined or value is None:
        return "none"
    return code(_shown(value))


def families(name: str) -> str:
    """Which families of local models honour an attribute."""
    from airflow_provider_modelslab.local.families.registry import FAMILIES
    from airflow_provider_modelslab.local.validation import HONOURED_BY_ALL, unsupported_by_endpoint

    sample = {"model_id": "x", "prompt": "x", "init_video": "x"}
    if name == "extra_parameters" and unsupported_by_endpoint(Video2VideoRequest(**sample, extra_parameters={"x": 1})):
        return f"{', '.join(map(code, EXTENSIONS))} only"
    base = {"lora_strength": "lora_models", "motion_lora_strength": "motion_loras", "domain_lora_scale": "adapter_lora"}
    part = "upscale_height" if name.startswith("upscale_") else base.get(name, name)
    honouring = [family.name for family in FAMILIES.values() if part in family.honours or part in HONOURED_BY_ALL]
    return "all" if len(honouring) == len(FAMILIES) else ", ".join(honouring) or "refused by all"


@cache
def _checked() -> frozenset[str]:
    """Attributes with a check of their own, beyond their type."""
    checks = Video2VideoRequest.__pydantic_decorators__.field_validators.values()
    return frozenset(name for check in checks if check.info.mode == "after" for name in check.info.fields)


def _message_of_check(name: str) -> str:
    """The message with which a check refuses a wrong value; it says what is allowed."""
    wrong: Any = {"key": "x"} if name == "extra_parameters" else "no such thing"
    sample = {"model_id": "x", "prompt": "x", "init_video": "x", name: wrong}
    try:
        Video2VideoRequest(**sample)
    except InvalidRequestError as error:
        return _IN_OTHER_WORDS.get(name) or from_rst(error.fields[name][0].partition("; got")[0])
    raise LookupError(f"{name}: its check accepts everything")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(_shown(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
