"""Numbers and durations as arguments: as numbers, as text, and as templates that render to one of them."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any

from airflow_provider_modelslab.api.errors import InvalidRequestError

__all__ = ["Number", "Seconds", "Whole", "is_template", "number_of", "seconds_of", "whole_of"]

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "sec": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(min|sec|ms|[dhms])\s*")
_CLOCK = re.compile(r"(?:(\d+) days?, )?(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)")
_DURATION = 'seconds as a number, text such as "90", "90s", "15m", "1h30m" or "1:30:00", or a timedelta'


def is_template(value: object) -> bool:
    """Whether a value is known only when the task runs: a Jinja template, or the output of another task."""
    return ("{{" in value or "{%" in value) if isinstance(value, str) else hasattr(value, "resolve")


def seconds_of(given: object, field: str, *, above: float | None = None, least: float | None = None) -> float:
    """A duration in seconds.

    :param given: seconds as a number; text with a number, with units (``1h30m``) or as a clock shows it (``1:30:00``);
        or a timedelta.
    :param field: the argument's name, for the error.
    :param above: the result must be more than this.
    :param least: the result must be this or more.
    :raises InvalidRequestError: for anything else.
    """
    value = _seconds(given)
    if value is None:
        raise InvalidRequestError.of(field, f"must be {_DURATION}; got {given!r:.200}")
    return _in_range(value, field, "seconds", given, above=above, least=least)


def number_of(
    given: object, field: str, *, above: float | None = None, least: float | None = None, most: float | None = None
) -> float:
    """A finite number, also as text.

    :raises InvalidRequestError: for anything else, and outside of the limits.
    """
    value = _number(given)
    if value is None:
        raise InvalidRequestError.of(field, f"must be a number; got {given!r:.200}")
    return _in_range(value, field, "", given, above=above, least=least, most=most)


def whole_of(given: object, field: str, *, least: int) -> int:
    """A whole number, also as text.

    :raises InvalidRequestError: for anything else, and for less than ``least``.
    """
    value = _number(given)
    if value is None or not value.is_integer():
        raise InvalidRequestError.of(field, f"must be a whole number, {least} or more; got {given!r:.200}")
    return int(_in_range(value, field, "", given, least=least))


class _Quantity:
    """An attribute of an operator that reads what is assigned to it.

    Airflow assigns a template's result to the attribute of the operator's copy that runs. So a literal is checked while
    the Dag is parsed, and a template when it has been rendered; until then it is kept as it is.
    """

    def __init__(self, **limits: Any) -> None:
        self._limits = limits

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        try:
            return instance.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, instance: object, value: object) -> None:
        instance.__dict__[self._name] = value if value is None or is_template(value) else self._read(value)

    def _read(self, value: object) -> float:
        raise NotImplementedError


class Seconds(_Quantity):
    """A duration, see :func:`seconds_of`."""

    def _read(self, value: object) -> float:
        return seconds_of(value, self._name, **self._limits)


class Number(_Quantity):
    """A number, see :func:`number_of`."""

    def _read(self, value: object) -> float:
        return number_of(value, self._name, **self._limits)


class Whole(_Quantity):
    """A whole number, see :func:`whole_of`."""

    def _read(self, value: object) -> float:
        return whole_of(value, self._name, **self._limits)


def _seconds(given: object) -> float | None:
    if isinstance(given, timedelta):
        return given.total_seconds()
    if not isinstance(given, str):
        return _number(given)
    text = given.strip().lower()
    if (clock := _CLOCK.fullmatch(text)) is not None:
        days, hours, minutes, seconds = clock.groups(default="0")
        return float(days) * 86400 + float(hours) * 3600 + float(minutes) * 60 + float(seconds)
    if text and not _PART.sub("", text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return _number(text)


def _number(given: object) -> float | None:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return None
    try:
        value = float(given)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _in_range(
    value: float,
    field: str,
    unit: str,
    given: object,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> float:
    limits = [
        *([f"more than {above:g}"] if above is not None else []),
        *([f"at least {least:g}"] if least is not None else []),
        *([f"at most {most:g}"] if most is not None else []),
    ]
    fits = (above is None or value > above) and (least is None or value >= least) and (most is None or value <= most)
    if not fits:
        text = f"must be {' and '.join(limits)} {unit}".rstrip()
        raise InvalidRequestError.of(field, f"{text}; got {given!r:.200}")
    return value
