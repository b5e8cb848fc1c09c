"""The table of docs/explanation/ledger.md: who gets a stored result, who waits for a job, who pays for a new one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from airflow_provider_modelslab.api.errors import ClipUnreadableError
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.listing import result_folder
from airflow_provider_modelslab.ledger.model import (
    Attach,
    Decision,
    Entry,
    Fingerprint,
    LedgerPolicy,
    Reuse,
    Stored,
    Submission,
    SubmitNew,
    decide,
    entry_name,
)
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import MemoryLedgerStore
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.uri import S3Uri

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "ledger.md"
WANTED = Fingerprint("request", "clip")
FIRST = AttemptId("films", "restyle", "run_1", try_number=1)
CLEARED = replace(FIRST, try_number=3, first_try=3)
OTHERS = (AttemptId("series", "restyle", "run_1"), AttemptId("airflow modelslab", "submit", "somebody at 12:00"))
ROOT = S3Uri("bucket", "_modelslab/ledger")
PLACE, OTHER_PLACE = S3Uri("bucket", "out/a.mp4"), S3Uri("bucket", "out/b.mp4")


def submitted(*, landed: bool) -> dict[str, dict[str, Any]]:
    """The ledger after the first try of a task, in which the result has landed or the job still runs."""
    claim = {"request": WANTED.request, "source": WANTED.source, "attempt": FIRST.record(), "expires_at": 0.0}
    entries: dict[str, dict[str, Any]] = {entry_name(1, Entry.CLAIM): claim, entry_name(1, Entry.JOB): {"job_id": "7"}}
    if landed:
        entries[entry_name(1, Entry.LANDED)] = {"manifest": {"uri": str(PLACE)}}
    return entries


def asked(row: str, policy: LedgerPolicy) -> set[type[Decision | ClipUnreadableError]]:
    """What those whom a row is about are told."""
    landed, at_once = submitted(landed=True), submitted(landed=False)
    elsewhere = landed if result_folder(ROOT, PLACE) == result_folder(ROOT, OTHER_PLACE) else {}
    next_run = replace(FIRST, run_id="run_2")
    everybody = (replace(FIRST, try_number=2), CLEARED, replace(FIRST, task_id="sibling"), next_run, *OTHERS)
    changed = (Fingerprint("other", "clip"), Fingerprint("request", "other"))
    cases: dict[str, list[tuple[dict[str, dict[str, Any]], Fingerprint, AttemptId]]] = {
        "a retry of the task": [(landed, WANTED, replace(FIRST, try_number=2))],
        "the task, after it was cleared": [(landed, WANTED, CLEARED)],
        "another task of the same Dag run": [
            (landed, WANTED, replace(FIRST, task_id="sibling")),
            (landed, WANTED, replace(FIRST, map_index=3)),
        ],
        "the next Dag run": [(landed, WANTED, next_run)],
        "another Dag, batch or command with this destination": [(landed, WANTED, other) for other in OTHERS],
        "anyone, while the job still runs": [(at_once, WANTED, anyone) for anyone in everybody],
        "the request or the clip has changed": [
            (entries, other, anyone) for entries in (landed, at_once) for other in changed for anyone in everybody
        ],
        "the job failed because the clip cannot be read": [
            (unreadable(), WANTED, anyone) for anyone in (everybody[1:] if policy.reuse == "never" else everybody)
        ],
        "the destination has changed": [(elsewhere, WANTED, anyone) for anyone in everybody],
    }
    return {decided(entries, fingerprint, policy, attempt) for entries, fingerprint, attempt in cases[row]}


def decided(
    entries: dict[str, dict[str, Any]], fingerprint: Fingerprint, policy: LedgerPolicy, attempt: AttemptId
) -> type[Decision | ClipUnreadableError]:
    try:
        return type(decide(entries, fingerprint, policy, attempt, now=0.0, is_dead=lambda process: False))
    except ClipUnreadableError as error:
        return type(error)


def unreadable() -> dict[str, dict[str, Any]]:
    """The ledger after the first try of a task, whose job failed because of the clip."""
    failed = {"error": ClipUnreadableError("cannot decode the video", job_id="7").to_event()}
    return {**submitted(landed=False), entry_name(1, Entry.FAILED): failed}


def table() -> list[tuple[str, str, str]]:
    """Row, setting and cell of the page's first table."""
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| who asks"))
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[start : lines.index("", start)]
    )
    return [
        (row, setting.strip('`"'), cell) for row, *cells in rows for setting, cell in zip(head[1:], cells, strict=True)
    ]


@pytest.mark.parametrize(("row", "setting", "cell"), table())
def test_a_cell_of_the_page(row: str, setting: str, cell: str) -> None:
    meant = {
        "stored result": Reuse,
        "new job": SubmitNew,
        "waits for it": Attach,
        "fails, and pays nothing": ClipUnreadableError,
        "new job once after each clear": SubmitNew,
    }[cell]
    assert asked(row, LedgerPolicy(reuse=cast("Any", setting))) == {meant}


def test_a_retry_pays_for_nothing_after_its_first_try_found_that_the_clip_cannot_be_read() -> None:
    for reuse in ("run", "always", "never"):
        retry = replace(FIRST, try_number=2)
        assert decided(unreadable(), WANTED, LedgerPolicy(reuse=cast("Any", reuse)), retry) is ClipUnreadableError


@pytest.mark.parametrize("reuse", ["run", "always", "never"])
def test_a_retry_pays_for_nothing_after_its_first_try_waited_for_anothers_job(reuse: Any) -> None:
    ledger, waits = Ledger(MemoryLedgerStore()), AttemptId("series", "restyle", "run_1")
    assert ledger.claim(1, WANTED, FIRST, lease=60.0, name="a", track_id="a")
    ledger.record(1, Job("7", "conn"))
    found = ledger.find(WANTED, LedgerPolicy(reuse), waits)
    assert isinstance(found, Submission)
    ledger.landed(1, {"uri": str(PLACE)})
    assert isinstance(ledger.find(WANTED, LedgerPolicy(reuse), replace(waits, try_number=2)), Stored)
    cleared = ledger.find(WANTED, LedgerPolicy(reuse), replace(waits, try_number=3, first_try=3))
    assert isinstance(cleared, SubmitNew if reuse == "never" else Stored)


def test_the_page_has_every_setting() -> None:
    assert {setting for _, setting, _ in table()} == {"run", "always", "never"}
    assert len(table()) == 27
