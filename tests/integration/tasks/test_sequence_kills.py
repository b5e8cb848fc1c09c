"""Processes that are killed between any two steps of a paid job, and what the next process makes of it.

The operator for one clip, the batch operator and the command line share one sequence and, for the same destination, one
ledger. So whichever of them was killed, each of them goes on with what is paid for.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.kills.moments import Strike
from tests.support.kills.processes import Outcome, Process, Processes
from tests.support.kills.vendor import Vendor
from tests.support.s3 import S3Server, keys_of
from tests.support.samples import small_mp4

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KINDS = ("single", "batch", "command")
MOMENTS = {  # how many jobs are paid for by then, and whether the next process can know it
    "claiming": (0, True),
    "claimed": (0, False),
    "answered": (1, False),
    "submitted": (1, False),
    "recorded": (1, True),
    "landing": (1, True),
    "object written": (1, True),
    "landed": (1, True),
    "landing recorded": (1, True),
}
ATTRIBUTES = {"model_id": "dark-sushi-mix", "prompt": "a fox", "num_frames": 2, "width": 64, "height": 64}
WAITING = {"poll_interval": 0.05, "max_poll_interval": 0.2, "deferrable": False, "retries": 1}


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    with Vendor(tmp_path_factory.mktemp("vendor"), seconds=0.0, workers=2) as vendor:
        yield vendor


@pytest.fixture(scope="module")
def processes(vendor: Vendor, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with Processes(tmp_path_factory.mktemp("processes"), vendor.environment(s3_server)) as running:
        yield running


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    """A vendor that takes every job, and does none."""
    faults = json.dumps({"rates": {"job_failed": 1.0}})
    folder = tmp_path_factory.mktemp("broken")
    with Vendor(folder, seconds=0.0, workers=2, more=("--faults", faults)) as vendor:
        yield vendor


@pytest.fixture(scope="module")
def processes_with_two(
    broken: Vendor, vendor: Vendor, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Processes]:
    """Their connection leads to the broken vendor, another one to the other."""
    environment = {**broken.environment(s3_server), "AIRFLOW_CONN_SPARE": vendor.connection()}
    with Processes(tmp_path_factory.mktemp("processes"), environment) as running:
        yield running


@dataclass(frozen=True)
class Case:
    """A process that makes ``out/clip.mp4`` of ``in/clip.mp4`` and is killed, and one that follows it.

    :param killed: which kind of process; ``then`` the kind of the next one.
    :param bucket: its own; it is the name of the Dag run too, so that its jobs can be told from others.
    """

    killed: str
    then: str
    bucket: str
    s3: S3Client
    processes: Processes
    more: dict[str, Any] = field(default_factory=dict)

    def start(self, strike: Strike) -> Process:
        """The one that is killed."""
        self.s3.create_bucket(Bucket=self.bucket)
        self.s3.put_object(Bucket=self.bucket, Key="in/clip.mp4", Body=small_mp4())
        return self._start(self.killed, strike=strike)

    def start_next(self) -> Process:
        """The one that is left alone: the next try of the same task, another task of the Dag run, or a command."""
        # A command belongs to no Dag run, so its results serve a task only where the task says so.
        more: dict[str, Any] = {"reuse": "always"} if (self.killed, self.then) == ("command", "single") else {}
        return self._start(self.then, try_number=2 if self.then == self.killed else 1, **more)

    def _start(self, kind: str, *, try_number: int = 1, strike: Strike | None = None, **more: Any) -> Process:
        source, target = f"s3://{self.bucket}/in/", f"s3://{self.bucket}/out/"
        if kind == "command":
            flags = [word for name, value in ATTRIBUTES.items() for word in (f"--{name.replace('_', '-')}", str(value))]
            words = ["submit", f"{source}clip.mp4", "--to", f"{target}clip.mp4", "--yes", *flags]
            return self.processes.start("command", words=words, strike=strike)
        places: dict[str, Any]
        if kind == "single":
            places = {"init_video": f"{source}clip.mp4", "destination": f"{target}clip.mp4"}
        else:
            places = {"source": source, "destination": target, "max_failed": None}
        return self.processes.start(
            "execute",
            operator=kind,
            task={**ATTRIBUTES, **WAITING, **places, **self.more, **more},
            run_id=self.bucket,
            try_number=try_number,
            max_tries=1,
            conf={},
            strike=strike,
        )

    def results(self) -> list[str]:
        """What is in the result's place."""
        return sorted(key for key in keys_of(self.s3, self.bucket) if key.startswith("out/clip"))

    def asks_a_person(self, outcome: Outcome) -> bool:
        """Whether the next process ended with the error for submissions of unknown outcome."""
        if self.then == "command":
            return outcome.get("exit_code") == 1 and "--adopt" in outcome["text"] and "--resubmit" in outcome["text"]
        if self.then == "batch":
            return [error["code"] for error in outcome["result"]["errors"]] == ["submission_unknown"]
        return (outcome["end"], outcome.get("code")) == ("failed", "submission_unknown")

    def require_landed(self, outcome: Outcome, job_id: str) -> None:
        """The next process has ended well, and the result of this job is whole and alone in its place."""
        assert outcome["end"] == "success", outcome
        assert self.results() == ["out/clip.mp4", "out/clip.mp4.json"]
        body, sidecar = (self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in self.results())
        told, digest = json.loads(sidecar), hashlib.sha256(body).hexdigest()
        assert (told["job_id"], told["sha256"]) == (job_id, digest)
        if self.then == "batch":
            assert outcome["result"]["landed"] + outcome["result"]["skipped"] == 1
        else:
            assert (outcome["result"]["job_id"], outcome["result"]["sha256"]) == (job_id, digest)


@pytest.mark.parametrize("killed", ["single", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_between_two_steps_is_paid_for_once_and_landed_once(
    moment: str, killed: str, processes: Processes, vendor: Vendor, s3: S3Client
) -> None:
    """Each kind of process follows the killed one; the three cases run at the same time."""
    paid_before, is_known = MOMENTS[moment]

    def paid(case: Case) -> list[str]:
        return [str(job["id"]) for job in vendor.jobs() if case.bucket in str(job["track_id"])]

    cases = [Case(killed, then, f"test-{secrets.token_hex(6)}", s3, processes) for then in KINDS]
    for process in [case.start(Strike(moment)) for case in cases]:
        assert processes.wait(process) is None, "it was not killed"
    assert [len(paid(case)) for case in cases] == [paid_before] * len(cases)

    for case, process in [(case, case.start_next()) for case in cases]:
        outcome = processes.wait(process)
        assert outcome is not None
        if is_known:
            [job_id] = paid(case)
            case.require_landed(outcome, job_id)
        else:
            assert case.asks_a_person(outcome), outcome
            assert (len(paid(case)), case.results()) == (paid_before, [])


CHAIN = {  # of each place: the moments, and whether the next process can know what is paid for there by then
    0: {
        "claiming": True,
        "claimed": False,
        "answered": False,
        "submitted": False,
        "recorded": True,
        "recording a failure": True,
        "failure recorded": True,
    },
    1: {
        "claiming": True,
        "claimed": False,
        "answered": False,
        "submitted": False,
        "recorded": True,
        "landing": True,
        "object written": True,
        "landed": True,
        "landing recorded": True,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("place", CHAIN)
def test_a_kill_in_a_chain_of_two_places_pays_each_place_at_most_once(
    place: int, processes_with_two: Processes, broken: Vendor, vendor: Vendor, s3: S3Client
) -> None:
    """All moments at the same time; each killed task is tried again. An unknown outcome ends the chain."""
    processes, fallback = processes_with_two, {"fallback": [{"modelslab_conn_id": "spare"}]}

    def paid(case: Case) -> list[list[str]]:
        return [
            [str(job["id"]) for job in one.jobs() if case.bucket in str(job["track_id"])] for one in (broken, vendor)
        ]

    cases = {
        moment: Case("single", "single", f"test-{secrets.token_hex(6)}", s3, processes, fallback)
        for moment in CHAIN[place]
    }
    of_both = {"claiming", "claimed", "answered", "submitted", "recorded"}  # passed once for each place
    strikes = {moment: Strike(moment, nth=1 + place * (moment in of_both)) for moment in cases}
    for process in [case.start(strikes[moment]) for moment, case in cases.items()]:
        assert processes.wait(process) is None, "it was not killed"
    before = {moment: paid(case) for moment, case in cases.items()}

    for moment, process in [(moment, case.start_next()) for moment, case in cases.items()]:
        case, outcome = cases[moment], processes.wait(process)
        assert outcome is not None
        if CHAIN[place][moment]:
            [_], [job_id] = paid(case)  # each place once, whenever it was
            case.require_landed(outcome, job_id)
            assert outcome["result"]["made_by"]["modelslab_conn_id"] == "spare"
            assert [(one["modelslab_conn_id"], one["code"]) for one in outcome["result"]["fallback_from"]] == [
                ("modelslab_default", "job_failed")
            ]
        else:
            assert case.asks_a_person(outcome), outcome
            assert (paid(case), case.results()) == (before[moment], [])
