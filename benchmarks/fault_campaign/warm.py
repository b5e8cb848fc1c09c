"""Loads once what every process needs, and makes waits short; what is forked from here has both for nothing.

Loading is most of a short process's work. All waits are scaled down alike: what an attempt does after which other
attempt stays, and no clock time is spent on pauses that are long because real jobs and real outages are. The lease of a
claim stays at minutes, and a frozen process is frozen for a second: one that wakes after its lease may pay again, which
the documents say.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import threading
from pathlib import Path
from typing import Any

from benchmarks.fault_campaign import clock
from benchmarks.fault_campaign.replace import replace

__all__ = ["load", "settle"]

_NEEDED = (
    "aiohttp",
    "av",
    "boto3.s3.transfer",
    "PIL.Image",
    "uvicorn",
    "airflow.cli.cli_parser",
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.sdk.execution_time.supervisor",
    "airflow_provider_modelslab.batch.planning.plan",
    "airflow_provider_modelslab.batch.running.runner",
    "airflow_provider_modelslab.batch.results.checkpoint",
    "airflow_provider_modelslab.batch.sources.discovery",
    "airflow_provider_modelslab.batch.running.window",
    "airflow_provider_modelslab.cli.submit",
    "airflow_provider_modelslab.client.async_client",
    "airflow_provider_modelslab.client.client",
    "airflow_provider_modelslab.client.polling.registry",
    "airflow_provider_modelslab.endpoint.echo",
    "airflow_provider_modelslab.hooks.webhook",
    "airflow_provider_modelslab.jobs.batch_jobs",
    "airflow_provider_modelslab.jobs.paid_job",
    "airflow_provider_modelslab.jobs.task_ledger",
    "airflow_provider_modelslab.lineage.batch",
    "airflow_provider_modelslab.storage.checks",
    "airflow_provider_modelslab.storage.landing",
    "airflow_provider_modelslab.triggers.batch",
    "airflow_provider_modelslab.triggers.video2video",
    "benchmarks.fault_campaign.campaign",
)


def load(folder: Path) -> None:
    """Import what every process needs; to be called before anything of it is imported.

    :param folder: Airflow's home.
    """
    clock.install()
    os.environ["AIRFLOW_HOME"] = str(folder / "airflow")
    os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
    # The wait for Airflow's executor, which is not here, see triggers.minimum_wait.
    os.environ["AIRFLOW__MODELSLAB__MIN_DEFERRAL"] = "0"
    for name in _NEEDED:
        importlib.import_module(name)
    import botocore.session
    from airflow.cli.cli_parser import get_parser

    from airflow_provider_modelslab.storage import boto_session

    get_parser()
    # botocore reads its description of S3 again for each session, which is most of a short process's work. The package
    # shares one copy in a process; here that is the one of the sessions in the process that is forked.
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    replace(boto_session, "_loader", botocore.session.create_loader)
    _shorten_waits()


def settle() -> None:
    """Right before the first fork."""
    gc.collect()
    gc.freeze()  # or each child would copy the memory that its collector looks at
    if threading.active_count() != 1:
        raise RuntimeError(f"Forking needs a process without threads; there are {threading.enumerate()}")


def _shorten_waits() -> None:
    from botocore.retries.standard import ExponentialBackoff

    from airflow_provider_modelslab.api.poll_policy import PollPolicy
    from airflow_provider_modelslab.batch.running import window
    from airflow_provider_modelslab.cli import progress
    from airflow_provider_modelslab.client.config import SubmitPolicy, Timeouts
    from airflow_provider_modelslab.hooks import modelslab
    from airflow_provider_modelslab.jobs import timing
    from airflow_provider_modelslab.ledger import service
    from airflow_provider_modelslab.operators import many_jobs
    from airflow_provider_modelslab.storage import landing

    backoff: Any = ExponentialBackoff.delay_amount
    replace(ExponentialBackoff, "delay_amount", lambda self, context: 0.05 * backoff(self, context))
    replace(modelslab, "Timeouts", functools.partial(Timeouts, connect=2.0, read=2.0))
    replace(modelslab, "SubmitPolicy", functools.partial(SubmitPolicy, base_wait=0.1))
    replace(timing, "PollPolicy", functools.partial(PollPolicy, not_found_grace=1.0))
    policy = landing.LandingPolicy(ready_timeout=3.0, min_backoff=0.1, max_backoff=0.5, read_timeout=2.0)
    replace(landing, "LandingPolicy", lambda: policy)
    replace(service, "_HOLD_POLL", 0.3)
    replace(window, "_FIRST_PAUSE", 0.1)
    replace(window, "_LONGEST_PAUSE", 1.0)
    replace(progress, "INTERVALS", (0.1, 0.4))
    replace(many_jobs, "_DEFER_AFTER_FIRST", 0.2)
