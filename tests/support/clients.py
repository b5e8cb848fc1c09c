"""Both transports behind one blocking face, so that one test can run against each."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from airflow_provider_modelslab.client.aio import AsyncModelsLabClient
from airflow_provider_modelslab.client.core import SubmitPolicy, Timeouts
from airflow_provider_modelslab.client.sync import ModelsLabClient

KEY = "sk-live/very+secret&key"
QUICK = SubmitPolicy(attempts=3, max_wait=2, base_wait=0.002)
LONG = Timeouts(connect=60, read=60)
SHORT = Timeouts(connect=60, read=0.3)
"""For servers that hang: any other may be late on a busy machine, and has to be waited for."""

Work = Callable[[Any], list[Any]]


class Driver:
    """``run(url, ("fetch", "7"), ...)`` makes one client, calls its methods one after the other, and closes it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return self.kind

    def run(self, url: str, *calls: tuple[Any, ...], **options: Any) -> list[Any]:
        options = {"timeouts": LONG, "submit_policy": QUICK, "key": KEY, **options}
        if self.kind == "requests":
            with ModelsLabClient(base_url=url, **options) as client:
                return [getattr(client, name)(*_args(rest), **_kwargs(rest)) for name, *rest in calls]
        return asyncio.run(self._run(url, calls, options))

    def one(self, url: str, *call: Any, **options: Any) -> Any:
        return self.run(url, call, **options)[0]

    @staticmethod
    async def _run(url: str, calls: tuple[tuple[Any, ...], ...], options: dict[str, Any]) -> list[Any]:
        async with AsyncModelsLabClient(base_url=url, **options) as client:
            results = []
            for name, *rest in calls:
                kwargs = _kwargs(rest)
                if "sleep" in kwargs and not inspect.iscoroutinefunction(kwargs["sleep"]):
                    kwargs["sleep"] = _awaitable(kwargs["sleep"])
                results.append(await getattr(client, name)(*_args(rest), **kwargs))
            return results


def _args(rest: list[Any]) -> list[Any]:
    return [value for value in rest if not isinstance(value, Kwargs)]


def _kwargs(rest: list[Any]) -> dict[str, Any]:
    return {name: value for part in rest if isinstance(part, Kwargs) for name, value in part.items()}


class Kwargs(dict[str, Any]):
    """Keyword arguments within a call of :meth:`Driver.run`."""


def _awaitable(sleep: Callable[[float], object]) -> Callable[[float], Any]:
    async def wait(seconds: float) -> None:
        sleep(seconds)

    return wait
