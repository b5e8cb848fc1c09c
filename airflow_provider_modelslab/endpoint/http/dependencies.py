"""What the routes ask FastAPI for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from airflow_provider_modelslab.endpoint.http import responses
from airflow_provider_modelslab.endpoint.http.answers import ApiError
from airflow_provider_modelslab.endpoint.http.bodies import KeyBody
from airflow_provider_modelslab.endpoint.http.runtime import Runtime

__all__ = ["BaseUrl", "Caller", "CallerOf", "RuntimeOf"]


# The dependencies are coroutines, since FastAPI calls functions in a thread.
async def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeOf = Annotated[Runtime, Depends(_runtime)]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call.

    :param owner: what stands for the key in the queue.
    :param is_operator: whether it is the operator's key.
    """

    owner: str
    is_operator: bool

    @property
    def scope(self) -> str | None:
        """Whose jobs an administration call is about: the caller's, or with ``None`` everybody's."""
        return None if self.is_operator else self.owner


async def _caller(body: KeyBody, runtime: RuntimeOf) -> Caller:
    owner = runtime.service.owner(body.key)
    if owner is None:
        raise ApiError(responses.invalid_key)
    return Caller(owner, runtime.service.is_operator(body.key))


CallerOf = Annotated[Caller, Depends(_caller)]


async def _base_url(request: Request, runtime: RuntimeOf) -> str:
    return (runtime.settings.public_url or str(request.base_url)).rstrip("/")


BaseUrl = Annotated[str, Depends(_base_url)]
"""The base of links in answers."""
