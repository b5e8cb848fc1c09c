"""One forked child for each execution, trigger and resumption, as Airflow's workers have them, and for each command."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.fault_campaign.attempt import failed
from benchmarks.fault_campaign.journal import Journal, Who
from benchmarks.fault_campaign.listen import Listeners
from benchmarks.fault_campaign.plan import Adversity, RunPlan
from benchmarks.fault_campaign.probe import Probe
from benchmarks.fault_campaign.run import Outcome

__all__ = ["fork"]

_FIRST = {"execute": "start", "trigger": "deferred", "resume": "resumed"}


def fork(
    body: Callable[[Probe], Outcome],
    *,
    seed: int,
    plan: RunPlan,
    journal: Journal,
    who: Who,
    adversity: Adversity,
    log: Path,
    start_at: float = 0.0,
) -> tuple[int, int]:
    """Start a process; returns its id and the file descriptor from which it is heard.

    :param start_at: of the monotonic clock, when the work begins, so that two can begin at once.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(reading)
        output = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        print(f"-- {who}", flush=True)
        probe = Probe(journal, writing, who, adversity, plan, seed)
        Listeners(probe).attach()
        while time.monotonic() < start_at:
            time.sleep(0.001)
        probe.passed(_FIRST[who.role])
        try:
            outcome = body(probe)
        except BaseException as error:  # noqa: BLE001 - it ends this process, and the runner decides as Airflow does
            traceback.print_exc()
            outcome = failed(error)
        probe.tell(outcome=outcome)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
