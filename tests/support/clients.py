"""Both clients behind one blocking interface, so that one test can run against each."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow_provider_modelslab.api.response import Answer
from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient
from airflow_provider_modelslab.client.client import ModelsLabClient
from airflow_provider_modelslab.client.config import SubmitPolicy, Timeouts

KEY = "sk-live/very+secret&key"
QUICK = SubmitPolicy(attempts=3, max_wait=2, base_wait=0.002)
LONG = Timeouts(connect=60, read=60)
SHORT = Timeouts(connect=60, read=0.3)
"""For servers that hang: any other may be late on a busy machine, and has to be waited for."""


def blocking_client(url: str, **options: Any) -> ModelsLabClient:
    """A blocking client for tests: it repeats quickly and gives up soon."""
    return ModelsLabClient(**{"key": KEY, "base_url": url, "timeouts": LONG, "submit_policy": QUICK, **options})


class Fetcher:
    """``fetch(url, "7", "8")`` makes one client, fetches the jobs one after the other, and closes it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return self.kind

    def __call__(self, url: str, *job_ids: Any, **options: Any) -> list[Answer]:
        if self.kind == "requests":
            with blocking_client(url, **options) as client:
                return [client.fetch(job_id) for job_id in job_ids]
        return asyncio.run(self._fetch(url, job_ids, {"key": KEY, "timeouts": LONG, **options}))

    @staticmethod
    async def _fetch(url: str, job_ids: tuple[Any, ...], options: dict[str, Any]) -> list[Answer]:
        async with AsyncModelsLabClient(base_url=url, **options) as client:
            return [await client.fetch(job_id) for job_id in job_ids]
