"""The phases of a job's way, in their order, and which of them a process can come to."""

from __future__ import annotations

from typing import Literal

__all__ = ["ON_THE_WIRE", "PHASES", "Kind", "Role", "phases_of"]

Kind = Literal["single", "batch", "command"]
Role = Literal["execute", "trigger", "resume"]

_PAYING = ("before claim", "claim put", "after claim", "submit sent", "submit answered", "job put", "job recorded")
_WAITING = ("waiting", "poll answered")
_LANDING = ("download", "upload", "sidecar", "after landing", "landed put", "landing recorded")

PHASES = (
    "start",
    "batch planned",
    *_PAYING,
    "waiting",
    "batch saved",
    "deferring",
    "deferred",
    "poll answered",
    "resumed",
    *_LANDING,
    "batch report",
    "returning",
)
"""Each begins with what it is named after, and lasts until the next one that the process comes to:

=================== ===================================================================================================
start               a worker, or a command, begins
batch planned       the batch operator has its plan
before claim        the checks are done, and the claim is about to be written
claim put           the conditional put of the claim is on its way
after claim         the claim is written
submit sent         the one paid call is on its way
submit answered     the endpoint's answer is read
job put             the put of the ledger entry with the job's id is on its way
job recorded        the job's id is in the ledger
waiting             a worker begins to wait for the job
batch saved         the batch's state is in S3, before it defers
deferring           the task has deferred itself, and Airflow has not heard of it
deferred            the trigger begins
poll answered       a poll was answered, to a worker or to the triggerer
resumed             the worker begins anew after the trigger
download            the result's link is opened
upload              the put of the result is on its way
sidecar             the put of the sidecar is on its way
after landing       the result and its sidecar are in S3
landed put          the put of the ledger entry that says so is on its way
landing recorded    the ledger knows of the landing
batch report        the batch is about to write its report
returning           all is done, and Airflow has not heard of it
=================== ===================================================================================================
"""

ON_THE_WIRE = frozenset({"claim put", "submit sent", "job put", "download", "upload", "sidecar", "landed put"})
"""Phases that begin with a request; a kill that comes a moment later finds it under way."""


def phases_of(kind: Kind, role: Role, *, deferrable: bool, paid: bool) -> tuple[str, ...]:
    """What a process can come to.

    :param paid: whether the ledger knows a job that is not landed: nothing is submitted then.
    """
    if role == "trigger":
        return ("deferred", "poll answered")
    if kind == "batch":
        first = ("start", "batch planned") if role == "execute" else ("resumed",)
        last = ("batch saved", "deferring") if deferrable else ()
        return (*first, *_PAYING, *_WAITING, *_LANDING, *last, "batch report", "returning")
    if role == "resume":
        return ("resumed", *_LANDING, "returning")
    paying = () if paid else _PAYING
    if deferrable:
        return ("start", "poll answered", "deferring", *_LANDING) if paid else ("start", *paying, "deferring")
    return ("start", *paying, *_WAITING, *_LANDING, "returning")
