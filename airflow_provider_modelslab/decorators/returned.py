"""Parses the return value of a decorated function; errors name the invalid field."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import InvalidRequestError

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.request import Video2VideoRequest

__all__ = ["attributes_in", "source_in"]

CLIP_VERSION = "clip_version"
"""What a function may return beside attributes of the endpoint."""


def attributes_in(returned: object, arguments: Collection[str]) -> dict[str, Any]:
    """The attributes that a function returned; their values are checked with the rest of the request.

    :param returned: a mapping of attributes, optionally with ``clip_version``, or a request.
    :param arguments: names of the decorator's arguments, for the advice in an error.
    :raises InvalidRequestError: for another type, and for unknown attribute names.
    """
    from airflow_provider_modelslab.api.request import ATTRIBUTES, Video2VideoRequest

    if isinstance(returned, Video2VideoRequest):
        return _given(returned)
    if not isinstance(returned, Mapping):
        raise InvalidRequestError.of(
            "request",
            "the function must return a mapping of the endpoint's attributes, or a Video2VideoRequest; it returned "
            + _shown(returned),
        )
    known = (*ATTRIBUTES, "extra_parameters", CLIP_VERSION)
    fields = {}
    for name in returned:
        if name in known:
            continue
        if name in arguments:
            advice = "is an argument of the decorator, not an attribute of the request; pass it to the decorator"
        elif near := difflib.get_close_matches(str(name), known, n=1):
            advice = f"is not an attribute of the endpoint; did you mean {near[0]}?"
        else:
            advice = "is not an attribute of the endpoint; extra_parameters passes others on"
        fields[str(name)] = [f"{advice} (returned by the function)"]
    if fields:
        raise InvalidRequestError.of_fields(fields)
    return dict(returned)


def source_in(returned: object, arguments: Collection[str], *, stored: bool) -> tuple[Any, dict[str, Any]]:
    """The source of a batch that a function returned, and attributes for all its clips.

    :param returned: what the operator takes as ``source`` (in a list, requests as well), or a mapping with ``source``
        and attributes for all clips.
    :param stored: whether the batch may be deferred; its plan is then stored, without possible secrets.
    :raises InvalidRequestError: for another type.
    """
    attributes: dict[str, Any] = {}
    if isinstance(returned, Mapping) and "source" in returned:
        attributes = attributes_in({k: v for k, v in returned.items() if k != "source"}, arguments)
        returned = returned["source"]
    if returned is None or isinstance(returned, bool | int | float | bytes):
        raise InvalidRequestError.of(
            "source",
            "the function must return s3://bucket/prefix/, a manifest file, a list of clips, the summary of a batch, "
            f"or a mapping with source and attributes for all clips; it returned {_shown(returned)}",
        )
    for name in ("init_video", CLIP_VERSION):
        if name in attributes:
            raise InvalidRequestError.of(name, "is one clip's own; name the clips in source")
    if stored:
        from airflow_provider_modelslab.api.redaction import holds_secret

        fields = {
            name: [
                "has a query, which may be a secret and is not stored while the batch waits; pass it to the decorator"
            ]
            for name, value in attributes.items()
            if holds_secret(value)
        }
        if fields:
            raise InvalidRequestError.of_fields(fields)
    if isinstance(returned, str | Mapping) or not hasattr(returned, "__iter__"):
        return returned, attributes
    return [_given(item) if hasattr(item, "model_fields_set") else item for item in returned], attributes


def _given(request: Video2VideoRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.model_fields_set}


def _shown(value: object) -> str:
    from airflow_provider_modelslab.api.redaction import hide_queries

    return "nothing" if value is None else f"{type(value).__name__} {hide_queries(repr(value))[:80]}"
