from __future__ import annotations

import ast
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.api import errors
from airflow_provider_modelslab.api.errors import (
    BatchFailedError,
    ErrorCode,
    InvalidRequestError,
    JobTimeoutError,
    ModelsLabError,
    RateLimitError,
    Scope,
    StorageConfigurationError,
    TransportError,
    error_class,
    error_from_code,
    error_from_event,
)

PACKAGE = Path(errors.__file__).parents[1]

CLASSES = [
    cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, ModelsLabError) and cls is not ModelsLabError
]
DETAILS = {
    "job_id": "7",
    "http_status": 418,
    "retry_after": 30.0,
    "fields": {"prompt": ["is required"]},
    "submission": 2,
    "cause": ErrorCode.PAYMENT,
    "budget": "daily",
}


def make(code: ErrorCode) -> ModelsLabError:
    return error_from_code(code, "what happened", **DETAILS)


def bases(node: ast.ClassDef) -> set[str]:
    return {base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases}


def test_all_exceptions_of_the_package_are_defined_in_one_module() -> None:
    names = {cls.__name__ for cls in CLASSES} | {"ModelsLabError"}
    elsewhere = [
        f"{file.relative_to(PACKAGE)}: {node.name}"
        for file in PACKAGE.rglob("*.py")
        if file != Path(errors.__file__) and "plugins" not in file.parts  # those of the API server's pages
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef) and bases(node) & names
    ]
    assert elsewhere == []


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_class_says_itself_what_it_means(cls: type[ModelsLabError]) -> None:
    assert {"code", "scope", "retryable"} <= set(vars(cls))  # not inherited
    assert isinstance(cls.scope, Scope)
    assert isinstance(cls.retryable, bool)
    assert error_class(cls.code) is cls
    assert cls.__name__ in errors.__all__


def test_each_code_has_one_class() -> None:
    assert sorted(cls.code for cls in CLASSES) == sorted(ErrorCode)


def test_the_table_of_the_module_says_what_the_classes_say() -> None:
    rows = [line.split(maxsplit=3) for line in (errors.__doc__ or "").splitlines()]
    told = {row[0]: tuple(row[1:3]) for row in rows if len(row) == 4 and row[2] in {"yes", "no"}}
    assert told == {cls.code.value: (cls.scope.value, "yes" if cls.retryable else "no") for cls in CLASSES}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_exception_keeps_its_details(code: ErrorCode) -> None:
    error = make(code)
    assert error.code is code
    assert (error.message, error.job_id, error.http_status) == ("what happened", "7", 418)
    assert str(error) == "what happened (job 7)"
    assert {name: getattr(error, name) for name in error.details} == {name: DETAILS[name] for name in error.details}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_pickling_keeps_everything(code: ErrorCode) -> None:
    error = make(code)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert copy.__dict__ == error.__dict__
    assert (str(copy), copy.args) == (str(error), error.args)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_events_are_json_and_come_back_as_the_same_exception(code: ErrorCode) -> None:
    error = make(code)
    event: dict[str, Any] = json.loads(json.dumps(error.to_event()))
    assert (event["status"], event["code"]) == ("error", code.value)
    copy = error_from_event(event)
    assert type(copy) is type(error)
    assert copy.__dict__ == error.__dict__


def test_details_of_a_kind() -> None:
    limit, validation, batch = make(ErrorCode.RATE_LIMIT), make(ErrorCode.VALIDATION), make(ErrorCode.BATCH_FAILED)
    assert isinstance(limit, RateLimitError)
    assert limit.retry_after == 30
    assert isinstance(validation, InvalidRequestError)
    assert validation.fields == {"prompt": ["is required"]}
    assert isinstance(batch, BatchFailedError)
    assert batch.cause is ErrorCode.PAYMENT
    assert not hasattr(make(ErrorCode.TRANSPORT), "retry_after")


def test_python_code_can_catch_by_its_own_kinds() -> None:
    assert issubclass(InvalidRequestError, ValueError)
    assert issubclass(StorageConfigurationError, ValueError)
    assert issubclass(JobTimeoutError, TimeoutError)


def test_an_event_of_a_newer_version_is_still_a_failure() -> None:
    error = error_from_event({"status": "error", "code": "of_next_year", "message": "odd", "job_id": "7"})
    assert type(error) is TransportError
    assert str(error) == "odd (job 7)"
    assert "without a message" in str(error_from_event({}))
    with pytest.raises(ValueError, match="of_next_year"):
        error_from_code("of_next_year", "odd")


def test_validation_messages_have_a_line_for_each_attribute() -> None:
    one = InvalidRequestError.of("fps", "must be at least 1; got 0")
    assert str(one) == "The request was not sent, because it is not valid: fps: must be at least 1; got 0"
    two = InvalidRequestError.of_fields({"fps": ["a", "b"], "seed": ["c"]})
    assert str(two) == "The request was not sent, because it is not valid:\n  fps: a; b\n  seed: c"
    assert two.fields == {"fps": ["a", "b"], "seed": ["c"]}
