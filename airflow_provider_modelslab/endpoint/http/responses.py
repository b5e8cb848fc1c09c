"""The bodies of all answers: pure functions, in the vendor's two styles.

``legacy`` is what the vendor's servers were seen to do: HTTP 200 for errors, problems as a dict of lists, ``messege``.
``documented`` is what the vendor's documents of 2026 say: HTTP statuses and plain messages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.settings import AnswerStyle

__all__ = [
    "API_PREFIX",
    "ERRORS",
    "META_KEYS",
    "ApiResponse",
    "done",
    "failed",
    "fetched",
    "invalid_fields",
    "invalid_key",
    "invalid_request",
    "not_allowed",
    "not_found",
    "ok",
    "processing",
    "rate_limited",
    "requested_meta",
    "same_request",
    "server_error",
    "success",
    "too_many",
    "used_meta",
    "webhook_body",
]

API_PREFIX = "/api/v1/enterprise"

ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Refused. With `--answers legacy`, the default, the HTTP status is 200 and `message` may be a "
        "dict of lists by attribute; with `--answers documented` it is 400, 401, 403 or 429.",
        "content": {"application/json": {"example": {"status": "error", "message": "Invalid Api Key"}}},
    }
}
"""For the OpenAPI page: what every call may answer."""

META_KEYS = (
    "base64",
    "clip_skip",
    "file_prefix",
    "fps",
    "guidance_scale",
    "height",
    "init_video",
    "instant_response",
    "model_id",
    "negative_prompt",
    "num_frames",
    "num_inference_steps",
    "output_type",
    "prompt",
    "seed",
    "strength",
    "temp",
    "width",
)
"""The keys of ``meta`` in the page's example, in its order."""

_SWITCHES = ("base64", "instant_response", "temp")
_MEASURED = ("fps", "guidance_scale", "height", "num_frames", "num_inference_steps", "seed", "strength", "width")
_TIP = "Your video is processing in background, you can get this video using fetch API"
_TRY_AGAIN = "Try to fetch request after seconds estimated"
_SHORTEST_ETA = 0.01  # clients read 0 as no estimate
_REQUEST_TIPS = (
    "1. Make sure you are passing Content-Type: application/json in header. "
    "2. Make sure you are doing a POST request with valid JSON. "
    "3. Make sure your JSON does not have error, use jsonlint to validate JSON."
)
_KEY_TIPS = f"{_REQUEST_TIPS} 4. Make sure you have valid API key."


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """An answer: its HTTP status and its JSON body."""

    status: int
    body: dict[str, Any]


def requested_meta(request: Video2VideoRequest, file_prefix: str) -> dict[str, Any]:
    """``meta`` before the work: what was asked for; what the engine is going to choose is null."""
    given = request.model_dump(mode="json", include=set(META_KEYS))
    given.update({name: "yes" if given[name] else "no" for name in _SWITCHES}, file_prefix=file_prefix)
    return {name: given[name] for name in META_KEYS}


def used_meta(asked: Mapping[str, Any], engine: Mapping[str, Any]) -> dict[str, Any]:
    """``meta`` after the work: the numbers as the engine used them, and nothing that the page does not have.

    An engine that is not the real thing adds its ``engine``; which one was there at the submit does not matter.
    """
    used = {name: engine[name] for name in (*_MEASURED, "engine") if engine.get(name) is not None}
    return {**{name: value for name, value in asked.items() if name != "engine"}, **used}


def success(job: QueuedJob) -> ApiResponse:
    """The page's example response: a submit whose job was done while it was held."""
    return ApiResponse(
        200,
        {
            "status": "success",
            "generationTime": _seconds(job),
            "id": job.id,
            "output": list(job.links),
            "proxy_links": list(job.links),
            "meta": job.meta,
        },
    )


def processing(job: QueuedJob, *, eta: float, style: AnswerStyle) -> ApiResponse:
    """A submit whose job is not done yet.

    :param eta: seconds until it probably is.
    """
    track_id = job.body.get("track_id")
    return ApiResponse(
        200,
        {
            "status": "processing",
            "tip": _TIP,
            "eta": max(round(eta, 2), _SHORTEST_ETA),
            "messege" if style == "legacy" else "message": _TRY_AGAIN,
            "fetch_result": f"{job.base_url}{API_PREFIX}/video/fetch/{job.id}",
            "id": job.id,
            "output": [],
            "meta": {**job.meta, "id": str(job.id), "track_id": None if track_id is None else str(track_id)},
            "future_links": list(job.future_links),
        },
    )


def failed(job: QueuedJob) -> ApiResponse:
    """A submit whose job failed while it was held; with the id, unlike the answer to a fetch."""
    return ApiResponse(200, {"status": "failed", "id": job.id, "message": _failure(job), "output": ""})


def done(job: QueuedJob) -> ApiResponse:
    """A submit whose job ended, one way or the other, while it was held."""
    return success(job) if job.status == "success" else failed(job)


def fetched(job: QueuedJob) -> ApiResponse:
    """A fetch: without ``meta``, and without the id unless the job is done.

    The vendor's documents show no ``generationTime`` here; with it, a manifest has the seconds whichever answer told of
    the end.
    """
    if job.status == "success":
        links = list(job.links)
        done = {"status": "success", "generationTime": _seconds(job), "id": job.id, "output": links}
        return ApiResponse(200, {**done, "proxy_links": links})
    if job.status == "failed":
        return ApiResponse(200, {"status": "failed", "id": "", "message": _failure(job), "output": ""})
    return ApiResponse(200, {"status": "processing", "message": "try again later.", "output": "", "tip": _TIP})


def not_found() -> ApiResponse:
    """A fetch of an id that is unknown, expired, cleared or another key's. Both styles give HTTP 200."""
    tip = "Results and their ids are kept for a limited time; a cleared queue forgets its jobs."
    return ApiResponse(200, {"status": "failed", "id": "", "message": "Request not found", "output": "", "tip": tip})


def invalid_request(style: AnswerStyle) -> ApiResponse:
    """The body is no JSON object, is too large, or was sent with another content type."""
    return _error(style, 400, {"message": "Invalid API Request", "tip": _REQUEST_TIPS})


def invalid_key(style: AnswerStyle) -> ApiResponse:
    """No key, or a wrong one."""
    if style == "legacy":
        return _error(style, 401, {"message": "Invalid Api Key", "tip": _KEY_TIPS})
    return _error(style, 401, {"message": "Invalid API key"})


def invalid_fields(fields: Mapping[str, Iterable[str]], style: AnswerStyle) -> ApiResponse:
    """Attributes that are not allowed.

    :param fields: for each attribute its problems, each one the end of a sentence that begins with its name.
    """
    if style == "legacy":
        message = {name: [f"The {name} field {text.rstrip('.')}." for text in texts] for name, texts in fields.items()}
        return _error(style, 400, {"message": message})
    return _error(
        style, 400, {"message": "; ".join(f"{name} {text}" for name, texts in fields.items() for text in texts)}
    )


def rate_limited(most: int, wait_s: float, style: AnswerStyle) -> ApiResponse:
    """The key has as many unfinished jobs as it may.

    :param most: that number.
    :param wait_s: seconds until one of them is probably done.
    """
    seconds = max(1, math.ceil(wait_s))
    if style == "legacy":
        tips = f"maximum {most} queued requests allowed, please wait for {seconds} seconds and try again"
        return _error(style, 429, {"message": "Rate limit exceeded", "tips": tips})
    message = f"Rate limit exceeded. Maximum {most} queued requests allowed."
    return _error(style, 429, {"message": message, "retry_after": seconds})


def too_many(message: str, style: AnswerStyle) -> ApiResponse:
    """What cannot be taken in now."""
    return _error(style, 429, {"message": message})


def not_allowed(style: AnswerStyle) -> ApiResponse:
    """A call that only the operator's key may make."""
    return _error(style, 403, {"message": "Only the operator's key may do this"})


def same_request(wait_s: float, style: AnswerStyle) -> ApiResponse:
    """The filter of identical requests, in the words of the vendor's older documents.

    :param wait_s: how long identical requests are refused.
    """
    seconds = max(1, math.ceil(wait_s))
    rest: dict[str, Any] = {
        "message": "Rate limit exceeded",
        "tips": "you are sending same request multiple times, spam filter is enabled, "
        f"please wait for {seconds} seconds and try again",
    }
    return _error(style, 429, rest if style == "legacy" else {**rest, "retry_after": seconds})


def server_error() -> ApiResponse:
    """The endpoint itself failed. HTTP 500 in both styles, as a gateway in front of a dead server would answer."""
    return ApiResponse(500, {"status": "error", "message": "Internal server error. Please try again."})


def ok(message: str) -> ApiResponse:
    """An administration call that was obeyed."""
    return ApiResponse(200, {"message": message, "status": "success"})


def webhook_body(job: QueuedJob) -> dict[str, Any]:
    """What the receiver of a finished or failed job's webhook gets."""
    track_id = job.body.get("track_id")
    if job.status == "success":
        return {
            "status": "success",
            "id": job.id,
            "output": list(job.links),
            "generationTime": _seconds(job),
            "track_id": track_id,
            "meta": job.meta,
        }
    return {"status": "failed", "id": job.id, "message": _failure(job), "track_id": track_id}


def _error(style: AnswerStyle, documented_status: int, rest: Mapping[str, Any]) -> ApiResponse:
    return ApiResponse(200 if style == "legacy" else documented_status, {"status": "error", **rest})


def _failure(job: QueuedJob) -> str:
    return f"Failed, Try Again: {job.message}"


def _seconds(job: QueuedJob) -> float:
    return round(job.seconds or 0.0, 2)
