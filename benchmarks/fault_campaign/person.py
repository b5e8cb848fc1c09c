"""What a person does when a task has failed for good: reads the message, looks at the vendor's bills, clears."""

from __future__ import annotations

from typing import Literal

import requests

from benchmarks.fault_campaign.attempt import DAG_ID, TASK_ID, Outcome
from benchmarks.fault_campaign.clip import Clip
from benchmarks.fault_campaign.journal import Journal
from benchmarks.fault_campaign.stage import Stage

__all__ = ["Person", "submission_of"]

Done = Literal["later", "park", "gave a job's id", "said resubmit", "cleared after the last retry"]


def submission_of(clip: str, number: int) -> str:
    """The name under which the vendor has a submission, as the task's message says it."""
    return f"{DAG_ID}.{TASK_ID}/{clip}/submission{number}"


class Person:
    """Knows only what the task's message and the vendor's pages say."""

    def __init__(self, stage: Stage, journal: Journal) -> None:
        self._stage = stage
        self._journal = journal

    def look(self, clip: Clip, outcome: Outcome) -> Done:
        """Find out what is to be done, and put an answer into the run's conf; ``later`` while the vendor is down.

        :raises RuntimeError: when the message does not name the submission by which the bills can be searched.
        """
        try:
            jobs = self._stage.bills()["jobs"]
        except requests.RequestException:
            return "later"
        number = outcome["unknown_submission"]
        if number is None:
            mine = f"{DAG_ID}.{TASK_ID}/{clip.plan.name}/"
            never = [job for job in jobs if job["status"] == "stuck" and str(job["track_id"]).startswith(mine)]
            return "park" if never else "cleared after the last retry"
        name = submission_of(clip.plan.name, number)
        if name not in outcome["text"]:
            raise RuntimeError(f"The message does not name {name}: {outcome['text']}")
        found = [str(job["id"]) for job in jobs if job["track_id"] == name]
        clip.answer(name, found[0] if found else "resubmit")
        self._journal.note("a person answers", submission=name, found=found)
        return "gave a job's id" if found else "said resubmit"

    def has_queue_cleared(self) -> bool:
        """Ask the vendor to drop what never ends; ``False`` while it cannot be reached."""
        try:
            self._stage.clear_queue()
        except requests.RequestException:
            return False
        self._journal.note("the vendor clears its queue")
        return True
