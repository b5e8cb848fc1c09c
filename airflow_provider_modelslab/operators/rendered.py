"""What came out of templates, where a Dag renders to Python's own types: ``render_template_as_native_obj=True``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_modelslab.api.endpoint_request import is_blank
from airflow_provider_modelslab.api.errors import InvalidRequestError

__all__ = ["clip_version_of", "texts_again"]

_TEXTS = ("model_id", "prompt", "negative_prompt", "adapter_lora", "motion_module")
_NAMES = ("lora_models", "motion_loras")


def clip_version_of(given: object) -> str | None:
    """A clip's version as text; ``None`` for what a template makes of a missing value.

    :raises InvalidRequestError: for another value than a text or a whole number.
    """
    if is_blank(given):
        return None
    if type(given) is int:
        return str(given)
    if not isinstance(given, str):
        raise InvalidRequestError.of("clip_version", f"must be text; got {given!r:.200}")
    return given.strip()


def texts_again(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes, with whole numbers as texts where a text belongs: the prompt 1984 comes as a number.

    One in the Dag's own file is refused while it is parsed, so it is what a template or a task made of a text. Of any
    other value it cannot be told what the text was: 1.50 has become 1.5.

    :raises InvalidRequestError: naming each text that has become another value.
    """
    given = dict(attributes)
    fields = {}
    for name in (*_TEXTS, *_NAMES):
        value = given.get(name)
        if type(value) is int:
            given[name] = str(value)
        elif name in _TEXTS and not (value is None or isinstance(value, str)):
            fields[name] = [
                f"must be text; got {value!r:.200}. With render_template_as_native_obj=True a text that looks like "
                "a Python value becomes that value. To keep the text, use the filter pprint: {{ "
                "params." + name + " | pprint }}"
            ]
    if fields:
        raise InvalidRequestError.of_fields(fields)
    return given
