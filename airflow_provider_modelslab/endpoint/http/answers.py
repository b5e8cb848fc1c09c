"""Answers as HTTP responses, errors included: the vendor's shape in place of FastAPI's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from airflow_provider_modelslab.endpoint.http import responses
from airflow_provider_modelslab.endpoint.http.responses import ApiResponse
from airflow_provider_modelslab.endpoint.settings import AnswerStyle

__all__ = ["ApiError", "add_error_handlers", "json_response"]

_TEXTS = {
    "missing": "is required",
    "string_too_short": "is required",
    "string_type": "must be text",
    "string_unicode": "must be text",
    "string_too_long": "must be at most {max_length} characters",
    "literal_error": "must be one of {expected}",
}
"""By pydantic's type of error; none repeats the value, which may be a credential."""


class ApiError(HTTPException):
    """A call that is refused. FastAPI lets an HTTPException through wherever it is raised.

    :param answer: makes the answer in the style of the settings.
    """

    def __init__(self, answer: Callable[[AnswerStyle], ApiResponse]) -> None:
        super().__init__(400)
        self.answer = answer


def json_response(answer: ApiResponse) -> JSONResponse:
    """The answer with its HTTP status."""
    return JSONResponse(answer.body, answer.status)


def add_error_handlers(app: FastAPI, style: AnswerStyle) -> None:
    """Answer errors as the vendor does."""

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> JSONResponse:
        return json_response(error.answer(style))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return json_response(_invalid(error.errors(), style))

    @app.exception_handler(StarletteHTTPException)
    async def http_error(request: Request, error: StarletteHTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code in {404, 405}:
            message = f"{message}: {request.method} {request.url.path} is not a call of this endpoint"
        return JSONResponse({"status": "error", "message": message}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return json_response(responses.server_error())


def _invalid(errors: Iterable[Mapping[str, Any]], style: AnswerStyle) -> ApiResponse:
    fields: dict[str, list[str]] = {}
    for error in errors:
        name = error["loc"][1] if len(error["loc"]) > 1 else None
        if not isinstance(name, str) or error["loc"][-1] == "[key]":
            return responses.invalid_request(style)  # no JSON object, or a name that is no text
        text = _TEXTS.get(error["type"], str(error["msg"]))
        fields.setdefault(name, []).append(text.format(**error.get("ctx", {})))
    if "key" in fields:
        return responses.invalid_key(style)
    return responses.invalid_fields(fields, style)
