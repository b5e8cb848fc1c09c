"""From flags and a file to a checked request."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.endpoint_request import is_blank
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.cli.definition import FLAGS
from airflow_provider_modelslab.operators.arguments import output_type_of

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["attributes_of", "fields_as_typed", "request_of"]

# As the operators ask: the wait is this program's, and the container is known beforehand.
_DEFAULTS = {"output_type": "mp4", "instant_response": True}


def request_of(args: Namespace) -> Video2VideoRequest:
    """The request; flags go before the file.

    :raises InvalidRequestError: naming each attribute at fault, what was given and what is allowed.
    """
    given = attributes_of(args)
    if args.clip is not None:
        given["init_video"] = args.clip
    with fields_as_typed():
        return Video2VideoRequest(**given)


@contextmanager
def fields_as_typed() -> Iterator[None]:
    """Name the fields of an :class:`InvalidRequestError` as a command line does: flags, and ``CLIP``."""
    try:
        yield
    except InvalidRequestError as error:
        fields = {_as_typed(name): texts for name, texts in error.fields.items()}
        raise InvalidRequestError.of_fields(fields) from None


def attributes_of(args: Namespace) -> dict[str, Any]:
    """What flags and file say, unchecked.

    :raises InvalidRequestError: when the file holds no JSON object.
    """
    given = _file(args.request) | {name: value for name in FLAGS if (value := getattr(args, name)) is not None}
    if is_blank(given.get("output_type")):
        given["output_type"] = output_type_of(args.to) or _DEFAULTS["output_type"]
    return _DEFAULTS | given


def _as_typed(name: str) -> str:
    if name == "init_video":
        return "CLIP"
    return f"--{name.replace('_', '-')}" if name in FLAGS else name


def _file(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
        value = json.loads(text)
    except (OSError, ValueError) as error:
        raise InvalidRequestError.of("--request", f"{name} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequestError.of("--request", f"{name} must contain a JSON object of attributes")
    return value
