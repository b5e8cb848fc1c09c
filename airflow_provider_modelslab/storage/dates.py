"""Dates in S3's answers, read by Python itself: dateutil, which botocore takes, needs most of the time of a listing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

__all__ = ["parse_dates_quickly"]


def parse_dates_quickly(session: Any) -> None:
    """Let the clients that this boto3 session makes from now on read dates without dateutil where that is possible."""
    factory = session._session.get_component("response_parser_factory")
    factory.set_parser_defaults(timestamp_parser=_date)


def _date(text: Any) -> datetime:
    if isinstance(text, str) and text.endswith("Z"):  # as listings have them; headers have another form
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    from botocore.utils import parse_timestamp

    found: datetime = parse_timestamp(text)
    return found
