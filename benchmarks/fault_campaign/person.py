"""What a person does when a run has failed for good: reads the message, looks at the vendor's bills, clears."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import requests

from airflow_provider_modelslab.storage.uri import S3Uri
from benchmarks.fault_campaign.allowance import Allowance, cap_in
from benchmarks.fault_campaign.journal import Journal
from benchmarks.fault_campaign.run import Outcome, Result, Run
from benchmarks.fault_campaign.stage import Stage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Person"]

Done = Literal[
    "later", "park", "gave a job's id", "said resubmit", "cleared after a cap", "cleared after the last retry"
]

_REPORT = re.compile(r"outcome of each clip: (s3://\S+\.jsonl)")
_ADVICE = re.compile(r'modelslab_submissions to \{"([^"]+)": "<the job\'s id>"\}')


class Person:
    """Knows only what the messages, the batch's report and the vendor's pages say.

    A person does not answer while a worker of the run is frozen, since that one may yet submit.
    """

    def __init__(self, stage: Stage, s3: S3Client, journal: Journal, allowance: Allowance) -> None:
        self._stage = stage
        self._allowance = allowance
        self._s3 = s3
        self._journal = journal

    def look(self, run: Run, outcome: Outcome) -> Done:
        """Find out what is to be done, and note the answer for the next try; ``later`` while the vendor is down.

        :raises RuntimeError: when the message does not name a submission by which the bills can be searched.
        """
        if run.running:
            return "later"
        try:
            jobs = self._stage.bills()["jobs"]
        except requests.RequestException:
            return "later"
        cap = cap_in(outcome["text"])
        if cap is not None:
            self._allowance.reached(cap)
        unknown = self._unknown(run, outcome)
        if not unknown and cap is not None:
            return "cleared after a cap"
        if not unknown:
            stuck = [job for job in jobs if job["status"] == "stuck" and _is_of(job, run.results)]
            return "park" if stuck else "cleared after the last retry"
        answers = {}
        for name in unknown:
            found = [str(job["id"]) for job in jobs if job["track_id"] == name]
            answers[name] = found[0] if found else "resubmit"
            self._journal.note("a person answers", submission=name, found=found)
        if run.plan.kind == "command":
            adopted = self._options(run, answers)
        else:
            run.answer(answers)
            adopted = any(answer != "resubmit" for answer in answers.values())
        run.paid = adopted
        return "gave a job's id" if adopted else "said resubmit"

    def _options(self, run: Run, answers: Mapping[str, str]) -> bool:
        """What to add to a command; whether it is a job's id. A command has one submission of unknown outcome."""
        ((name, answer),) = answers.items()
        number = name.rpartition("submission")[2]
        found = bool(answer != "resubmit")
        # What lies at the destination already is of an earlier submission.
        run.options = ("--adopt", f"{number}={answer}") if found else ("--resubmit", number, "--overwrite")
        return found

    def has_queue_cleared(self) -> bool:
        """Ask the vendor to drop what never ends; ``False`` while it cannot be reached."""
        try:
            self._stage.clear_queue()
        except requests.RequestException:
            return False
        self._journal.note("the vendor clears its queue")
        return True

    def _unknown(self, run: Run, outcome: Outcome) -> list[str]:
        """The submissions of unknown outcome that wait for an answer."""
        if run.plan.unknown == "resubmit":
            return []  # the next try submits again by itself
        text = outcome["text"]
        if run.plan.kind == "batch":
            report = _REPORT.search(text)
            return self._in_report(report[1]) if report else []
        number = outcome["unknown_submission"]
        if number is None:
            return []
        name = run.results[0].submission(number)
        if name not in text:
            raise RuntimeError(f"The message does not name {name}: {text}")
        return [name]

    def _in_report(self, place: str) -> list[str]:
        where = S3Uri.parse(place)
        body = self._s3.get_object(Bucket=where.bucket, Key=where.key)["Body"].read()
        lines = [line for line in map(json.loads, body.splitlines()) if line.get("code") == "submission_unknown"]
        advised = [_ADVICE.search(line["message"]) for line in lines]
        if not all(advised):
            raise RuntimeError(f"Not every line of {place} says what to answer: {lines}")
        return [found[1] for found in advised if found]


def _is_of(job: dict[str, Any], results: Sequence[Result]) -> bool:
    return any(str(job["track_id"]).startswith(f"{result.track}/") for result in results)
