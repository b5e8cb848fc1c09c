"""The tolerant reader: whatever the endpoint answers becomes :class:`Finished`, :class:`Processing` or :class:`Failed`.

The API has grown over years and answers one thing in many forms: errors inside HTTP 200, ``messege`` for ``message``, a
dict of lists where a string is usual, ``output`` as a list, a bare string, ``""`` or ``null``. All of that ends here.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from airflow_provider_modelslab.api.errors import ErrorCode, ModelsLabError, error_from_code
from airflow_provider_modelslab.api.plain import bounded, parse_json, plain
from airflow_provider_modelslab.api.unreadable import blames_clip

__all__ = [
    "Answer",
    "Failed",
    "Finished",
    "Processing",
    "header_seconds",
    "read_answer",
    "read_body",
    "retry_after_seconds",
]


@dataclass(frozen=True, slots=True)
class Finished:
    """The job is done.

    :param job_id: the job's id, kept as text; ``None`` where the answer did not repeat it.
    :param links: where the result is, best first: ``output``, then ``proxy_links``, then ``future_links``.
    :param meta: the attributes as the endpoint used them; fetch answers have none.
    :param generation_time: seconds of work, where the endpoint tells.
    """

    job_id: str | None
    links: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    generation_time: float | None = None


@dataclass(frozen=True, slots=True)
class Processing:
    """The job is queued or running.

    :param status: the status word as given, for the log; unknown words count as still running.
    :param eta: seconds until the endpoint expects to be done, where it tells.
    """

    job_id: str | None
    status: str = "processing"
    eta: float | None = None
    future_links: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The call was refused, the job failed, or the answer was no answer of this API.

    :param retry_after: seconds, with :attr:`ErrorCode.RATE_LIMIT` where the endpoint tells.
    :param fields: the problems of each attribute, with :attr:`ErrorCode.VALIDATION` where the endpoint tells.
    :param job_id: the job's id, where the answer has one: a submit may be answered with a job that failed at once.
    :param is_unclear: whether this answer to a poll does not tell what became of the job, so that it ends no wait by
        itself: an error in unknown words, or a job that is done and names no result.
    """

    code: ErrorCode
    message: str
    http_status: int | None = None
    retry_after: float | None = None
    fields: dict[str, list[str]] = field(default_factory=dict)
    job_id: str | None = None
    is_unclear: bool = False

    def to_error(self, job_id: str | None = None) -> ModelsLabError:
        """The exception to raise for this answer."""
        code, message = self.code, self.message
        if code is ErrorCode.JOB_FAILED and blames_clip(message):
            code = ErrorCode.CLIP_UNREADABLE
            message = _advised(code, message)
        return error_from_code(
            code,
            message,
            job_id=job_id or self.job_id,
            http_status=self.http_status,
            retry_after=self.retry_after,
            fields=self.fields,
        )


Answer = Finished | Processing | Failed

_ADVICE = {
    ErrorCode.AUTHENTICATION: "Check the API key in the password of the Airflow connection.",
    ErrorCode.PAYMENT: "Nothing was generated. Add credits to the ModelsLab account, then try again.",
    ErrorCode.PERMISSION: "The plan or server of this key does not allow the call. Check the plan of the account.",
    ErrorCode.CLIP_UNREADABLE: "The endpoint cannot read this clip. The same request is not submitted again. Replace "
    "the clip, which pays for a new job.",
    ErrorCode.JOB_LOST: "The endpoint does not know this job. Its queue was cleared, or the job id is too old.",
}

_BY_STATUS = {
    400: ErrorCode.VALIDATION,
    401: ErrorCode.AUTHENTICATION,
    402: ErrorCode.PAYMENT,
    403: ErrorCode.PERMISSION,
    422: ErrorCode.VALIDATION,
    429: ErrorCode.RATE_LIMIT,
}

_LONGEST_RETRY_AFTER = 86400.0

_DONE = frozenset({"success", "succeeded", "completed", "complete", "finished", "done"})
_FAILED = frozenset({"failed", "failure", "canceled", "cancelled", "aborted"})

# Phrases of legacy answers, which come with HTTP 200. Compared in lower case, first match wins.
_BY_PHRASE = (
    ("rate limit", ErrorCode.RATE_LIMIT),
    ("same request multiple times", ErrorCode.RATE_LIMIT),
    ("api key", ErrorCode.AUTHENTICATION),
    ("unauthorized", ErrorCode.AUTHENTICATION),
    ("insufficient credits", ErrorCode.PAYMENT),
    ("add more credits", ErrorCode.PAYMENT),
    ("subscription", ErrorCode.PERMISSION),
    ("request not found", ErrorCode.JOB_LOST),
)


def read_answer(
    http_status: int, body: bytes | str, *, retry_after_header: str | None = None, polling: bool = False
) -> Answer:
    """Read the answer to a submit or a fetch.

    :param http_status: the answer's HTTP status; HTTP 200 is no promise of success.
    :param retry_after_header: the ``Retry-After`` header in seconds; the body's ``retry_after`` goes before it.
    :param polling: whether it answers a fetch: then the status decides what a text means, and a page that is no JSON
        (a challenge or an error page of something in between) says nothing about the job.
    """
    data = parse_json(body)
    if not isinstance(data, dict):
        return _no_answer(http_status, body, retry_after_header, polling=polling)
    return read_body(data, http_status=http_status, retry_after_header=retry_after_header, polling=polling)


def read_body(
    data: Mapping[str, Any],
    *,
    http_status: int = 200,
    retry_after_header: str | None = None,
    polling: bool = False,
    is_usable: Callable[[str], bool] = bool,
) -> Answer:
    """Read a parsed JSON object; webhook bodies have the same form. Other parameters as in :func:`read_answer`.

    :param is_usable: says of each id and link whether it may be used; one that may not counts as missing.
    """
    data = plain(data)
    status = str(data.get("status") or "").strip().lower()
    message, fields = _message(data)
    meta = bounded(data["meta"]) if isinstance(data.get("meta"), dict) else {}
    ids = (_job_id(value) for value in (data.get("id"), data.get("request_id"), meta.get("id")))
    job_id = next((text for text in ids if text and is_usable(text)), None)
    if http_status >= 400 or status in {"error", *_FAILED}:
        code = _code(http_status, status, message, fields, polling=polling)
        return Failed(
            code,
            _advised(code, message or f"HTTP {http_status}, status {status!r}, without a message"),
            http_status=http_status,
            retry_after=retry_after_seconds(data.get("retry_after"), retry_after_header, message),
            fields=fields,
            job_id=job_id,
            is_unclear=polling and code is ErrorCode.VALIDATION and http_status < 400,
        )
    future = tuple(filter(is_usable, _links(data.get("future_links"))))
    if status in _DONE:
        found = [_links(data.get(name)) for name in ("output", "output_url", "url", "proxy_links")]
        links = tuple(dict.fromkeys(link for part in (*found, future) for link in part if is_usable(link)))
        if links:
            return Finished(job_id, links, meta, _number(data.get("generationTime")))
        if polling:
            text = f"The endpoint reports the job as done ({status}), but its response has no usable link to the result"
            return Failed(ErrorCode.JOB_FAILED, text, http_status=http_status, job_id=job_id, is_unclear=True)
    return Processing(job_id, status or "unknown", _number(data.get("eta")), future, meta, message)


def retry_after_seconds(body_value: object, header: str | None = None, message: str = "") -> float | None:
    """Seconds to stay away, at most a day: from the body, the header, or the legacy text "wait for 30 seconds"."""
    for seconds in (_number(body_value), header_seconds(header)):
        if seconds is not None and seconds >= 0:
            return min(seconds, _LONGEST_RETRY_AFTER)
    words = message.lower().split()
    for number, unit in itertools.pairwise(words):
        if number.isdecimal() and len(number) <= 9 and unit.startswith("second"):
            return min(float(number), _LONGEST_RETRY_AFTER)
    return None


def header_seconds(value: str | None) -> float | None:
    """A ``Retry-After`` header in seconds: a number, or an HTTP date (RFC 9110, 10.2.3); ``None`` for anything else."""
    seconds = _number(value)
    if seconds is None and value:
        try:
            at = parsedate_to_datetime(value)
            seconds = max(0.0, at.replace(tzinfo=at.tzinfo or UTC).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None
    return seconds if seconds is not None and seconds >= 0 else None


def _no_answer(http_status: int, body: bytes | str, retry_after_header: str | None, *, polling: bool) -> Failed:
    text = plain(body.decode("utf-8", "replace") if isinstance(body, bytes) else body)
    code = _BY_STATUS.get(http_status, ErrorCode.TRANSPORT)
    if polling and code is not ErrorCode.RATE_LIMIT:
        code = ErrorCode.TRANSPORT
    start = " ".join(text.split())[:200] or "an empty body"
    return Failed(
        code,
        _advised(code, f"The endpoint returned HTTP {http_status} and a body that is not a JSON object: {start}"),
        http_status=http_status,
        retry_after=retry_after_seconds(None, retry_after_header),
    )


def _code(
    http_status: int, status: str, message: str, fields: Mapping[str, Any], *, polling: bool = False
) -> ErrorCode:
    lowered = message.lower()
    if polling and http_status < 400 and status in _FAILED:
        return ErrorCode.JOB_LOST if "request not found" in lowered else ErrorCode.JOB_FAILED
    for phrase, code in _BY_PHRASE:
        if phrase in lowered and not fields:
            return code
    if http_status in _BY_STATUS:
        return _BY_STATUS[http_status]
    if (
        http_status >= 500
        or http_status == 408
        or "internal server error" in lowered
        or "temporarily unavailable" in lowered
    ):
        return ErrorCode.TRANSPORT
    if http_status == 404 and not status:
        return ErrorCode.TRANSPORT
    return ErrorCode.JOB_FAILED if status in _FAILED else ErrorCode.VALIDATION


def _advised(code: ErrorCode, message: str) -> str:
    advice = _ADVICE.get(code)
    return f"{message.rstrip('. ')}. {advice}" if advice else message


def _message(data: Mapping[str, Any]) -> tuple[str, dict[str, list[str]]]:
    """The message as one text, and the problems per attribute where the endpoint sent a dict of them."""
    value = data.get("message") or data.get("messege") or data.get("error") or ""
    tip = data.get("tips")
    fields: dict[str, list[str]] = {}
    if isinstance(value, Mapping):
        fields = {str(name): _texts(texts) for name, texts in value.items()}
        text = "; ".join(f"{name}: {' '.join(texts)}" for name, texts in fields.items())
    else:
        text = " ".join(_texts(value))
    # The legacy filter for identical requests explains itself, and says how long to wait, in `tips` alone.
    return (f"{text}: {tip}" if text and isinstance(tip, str) else text or str(tip or "")), fields


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


def _links(value: object) -> tuple[str, ...]:
    """The links in a text, an object with a ``url``, or a list of these."""
    items = value if isinstance(value, list) else [value]
    texts = (item.get("url") if isinstance(item, Mapping) else item for item in items)
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())


def _job_id(value: object) -> str | None:
    return (str(value).strip() or None) if isinstance(value, int | str) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
