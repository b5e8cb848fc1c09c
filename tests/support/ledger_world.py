"""A small world for paid jobs: attempts that run the real sequence over a store in memory and a vendor that bills.

What was billed, and what went wrong where, is kept apart from the ledger, so its entries are checked against facts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_provider_modelslab.api.errors import (
    ClipUnreadableError,
    JobFailedError,
    JobLostError,
    ModelsLabError,
    RateLimitError,
    StorageConfigurationError,
    SubmissionUnknownError,
)
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import (
    Entry,
    LedgerPolicy,
    Stored,
    Submission,
    entry_name,
    last_submission,
    number_of,
    stale_submission,
    unresolved_submission,
)
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import MemoryLedgerStore
from airflow_provider_modelslab.storage.result_manifest import Job
from tests.support.explorer import Actor, Stage
from tests.support.paid_jobs import FakeHook, paid_job

__all__ = ["LEASE", "OUTCOMES", "RUN", "Billed", "World"]

LEASE = 1000.0
OUTCOMES = ("done", "answer lost", "refused", "job fails", "job lost", "fails at once", "bad clip", "bad at once")
"""What can become of a submission. ``at once``: the answer to the submit says so. ``bad``: the clip cannot be read."""

RUN = "run 1"


@dataclass
class Billed:
    """What the vendor knows of one submission.

    :param run: of the attempt that sent it.
    :param passed_over: submissions that this attempt had seen, not yet landed, before it sent this one.
    """

    number: int
    outcome: str
    job_id: str
    run: str
    passed_over: frozenset[int]

    @property
    def is_bad(self) -> bool:
        """Whether its job fails because the clip cannot be read."""
        return self.outcome.startswith("bad")

    @property
    def accepted(self) -> bool:
        """Whether it is billed."""
        return self.outcome != "refused"


class World:
    """The stage's ledger, vendor and attempts.

    :param choose: picks a number below its argument: for answers of the vendor, and of the store.
    :param runs: the Dag runs whose attempts want the result.
    :param outcomes: what may become of submissions.
    :param uncertain: how many submissions may end in any of these; later ones are done.
    :param store_faults: how many calls of the store may fail.
    """

    def __init__(
        self,
        stage: Stage,
        policy: LedgerPolicy,
        choose: Callable[[int], int],
        *,
        runs: Collection[str] = (RUN,),
        outcomes: tuple[str, ...] = OUTCOMES,
        uncertain: int = 1,
        store_faults: int = 0,
    ) -> None:
        self.stage = stage
        self.policy = policy
        self.choose = choose
        self.runs = sorted(set(runs))
        self.outcomes = outcomes
        self.uncertain = uncertain
        self.store_faults = store_faults
        self.faulted = False
        self.store = MemoryLedgerStore()
        self.billed: list[Billed] = []
        self.excuses: dict[int, str] = {}
        self._seen: dict[str, set[int]] = defaultdict(set)

    # -- the attempts' side ---------------------------------------------------------------------------------------

    def enter(self, name: str, *, run: str = RUN, try_number: int = 1, first_try: int = 1) -> Actor:
        """Start an attempt."""
        attempt = AttemptId("dag", "task", run, -1, try_number, first_try)
        return self.stage.enter(name, lambda: self._attempt(name, attempt))

    def enter_person(self) -> Actor:
        """Somebody who, once, lets a submission of unknown outcome be made again, as ``ledger resolve`` does."""
        return self.stage.enter("person", self._resolve)

    def _resolve(self) -> bool:
        number = unresolved_submission(self.load(), now=self.stage.clock, is_dead=self._is_dead)
        ledger = Ledger(self, clock=lambda: self.stage.clock, sleep=self._sleep, is_dead=self._is_dead)
        return number is not None and ledger.resolve(number, by="somebody", why="it is not there")

    def _attempt(self, name: str, attempt: AttemptId) -> str:
        """What the operator does: acquire, wait, land; the id of the job whose result it returns."""
        ledger = Ledger(self, clock=lambda: self.stage.clock, sleep=self._sleep, is_dead=self._is_dead)
        hook = FakeHook(partial(self._submit, name, attempt.run_id), lease=LEASE)
        job = paid_job(ledger, hook, policy=self.policy, attempt=attempt)
        while True:
            found = job.acquire()
            if isinstance(found, Stored):
                return str(found.manifest["job_id"])
            assert isinstance(found, Submission)
            job_id = found.job.job_id
            end = self.stage.effect(f"poll {job_id}", partial(self._outcome, job_id))
            if end == "done":
                return str(job.land(found, Finished(job_id, ("https://h/a.mp4",)))["job_id"])
            kinds = {"job fails": JobFailedError, "bad clip": ClipUnreadableError}
            error: ModelsLabError = kinds.get(end, JobLostError)(end, job_id=job_id)
            if not job.close(found, error):
                raise error

    def _submit(self, name: str, run: str, number: int) -> tuple[Job, None]:
        # What is under way when its sender is killed arrives all the same.
        receive = partial(self._receive, number, run, frozenset(self._seen[name]))
        sent = self.stage.effect(f"request {number} leaves", receive)
        self.stage.effect(f"answer {number} arrives", lambda: None)
        if sent.outcome == "refused":
            raise RateLimitError("too many jobs")
        if sent.outcome == "answer lost":
            raise SubmissionUnknownError("no answer")
        if sent.outcome == "fails at once":
            raise JobFailedError("cannot do this", job_id=sent.job_id)
        if sent.outcome == "bad at once":
            raise ClipUnreadableError("cannot read this", job_id=sent.job_id)
        return Job(sent.job_id, "conn", submitted_at=self.stage.clock), None

    def _sleep(self, seconds: float) -> None:
        """Time stands still in a sleep: it passes only where somebody outlives a lease."""
        if seconds < 2:
            self.stage.effect("nap", lambda: None)
        elif stale_submission(self.store.entries, now=self.stage.clock, is_dead=self._is_dead) is None:
            self.stage.wait()
        else:
            self.stage.effect("let arrive what is under way", lambda: self.stage.pass_time(0))

    def _is_dead(self, process: Mapping[str, Any]) -> bool:
        return any(actor.name == process["name"] and actor.provably_dead for actor in self.stage.actors)

    # -- the store (a LedgerStore) ----------------------------------------------------------------------------------

    def load(self) -> dict[str, dict[str, Any]]:
        """All entries."""
        running = self.stage.running
        assert running is not None
        seen = self._seen[running.name]

        def read() -> _Entries:
            self._maybe_fault("load fails", 2)
            if self.takes_turns:
                seen.update(number for number in self.numbers if not self.has(number, Entry.LANDED))
            return _Entries(self.store.load())

        return self.stage.look("load", read)

    def names(self) -> Collection[str]:
        """The names of all entries."""
        return self.load().keys()

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Write one."""

        def write() -> bool:
            if self._maybe_fault(f"create {name} fails", 3) == 2:
                self.store.create(name, entry)
                raise StorageConfigurationError(f"{name} was written and the answer lost")
            self.stage.version += 1
            return self.store.create(name, entry)

        return self.stage.effect(f"create {name}", write)

    def _maybe_fault(self, what: str, ways: int) -> int:
        """0 for no fault, 2 for one after the effect.

        :raises StorageConfigurationError: for one before it.
        """
        if not self.store_faults or self.stage.running is None:
            return 0  # of what arrives after its sender's death nobody hears: a fault is as if it had not left
        way = self.choose(ways)
        if way:
            self.store_faults -= 1
            self.faulted = True
            self.stage.version += 1
        if way == 1:
            raise StorageConfigurationError(what)
        return way

    # -- the vendor's side ------------------------------------------------------------------------------------------

    def _receive(self, number: int, run: str, seen: frozenset[int]) -> Billed:
        count = len(self.billed)
        outcome = self.outcomes[self.choose(len(self.outcomes))] if count < self.uncertain else "done"
        if outcome == "answer lost":
            self.excuses[number] = outcome
        sent = Billed(number, outcome, f"job{count + 1}", run, seen - {number})
        self.billed.append(sent)
        return sent

    def _outcome(self, job_id: str) -> str:
        return next(sent.outcome for sent in self.billed if sent.job_id == job_id)

    # -- faults that the stage plays -----------------------------------------------------------------------------------

    def kill(self, actor: Actor, *, provably: bool, under_way: bool = False) -> None:
        """Kill an attempt; a submission that it has sent without its job being written or under way is excused."""
        sent = [one.number for one in self.billed]
        for number in self._open_numbers_of(actor):
            leaves = under_way and actor.before == f"request {number} leaves"
            writes = under_way and actor.before == f"create {entry_name(number, Entry.JOB)}"
            if (number in sent and not writes) or leaves:
                self.excuses[number] = "killed"
        self.stage.kill(actor, provably=provably, under_way=under_way)

    def stall(self, sleeper: Actor) -> None:
        """Everybody but ``sleeper`` makes no step for longer than any lease; what they were submitting is excused."""
        for actor in self.stage.actors:
            if actor is not sleeper:
                self.excuses.update(dict.fromkeys(self._open_numbers_of(actor), "outlived its lease"))
        self.stage.pass_time(2 * LEASE)
        self.stage.go(sleeper)

    def _open_numbers_of(self, actor: Actor) -> list[int]:
        claims = {number: self.store.entries.get(entry_name(number, Entry.CLAIM), {}) for number in self.open_numbers}
        return [number for number, claim in claims.items() if claim.get("process") == {"name": actor.name}]

    # -- what is asked of it ------------------------------------------------------------------------------------------

    def has(self, number: int, *kinds: Entry) -> bool:
        """Whether the ledger has an entry of any of these kinds."""
        return any(entry_name(number, kind) in self.store.entries for kind in kinds)

    @property
    def numbers(self) -> list[int]:
        """All submissions that were claimed."""
        return sorted({number_of(name) for name in self.store.entries})

    @property
    def open_numbers(self) -> list[int]:
        """Those claimed of which nothing else is known than, perhaps, that it is not known."""
        return [n for n in self.numbers if not self.has(n, Entry.JOB, Entry.LANDED, Entry.FAILED, Entry.RELEASED)]

    @property
    def paid(self) -> list[Billed]:
        """Accepted, and not known to have come to nothing."""
        return [s for s in self.billed if s.accepted and not self.has(s.number, Entry.FAILED, Entry.RELEASED)]

    @property
    def takes_turns(self) -> bool:
        """Whether each run pays for a result of its own once that of the run before has landed."""
        return self.policy.reuse == "run" and len(self.runs) > 1

    def is_served(self, run: str) -> bool:
        """Whether the ledger has a result that was claimed by, or waited for by, this run."""
        mark = entry_name(0, Entry.ATTACHED, AttemptId("dag", "task", run)).partition("-")[2]
        return any(
            self.store.entries[entry_name(number, Entry.CLAIM)]["attempt"]["run_id"] == run
            or f"{number:04d}-{mark}" in self.store.entries
            for number in self.numbers
            if self.has(number, Entry.LANDED)
        )

    def state(self) -> Hashable:
        """All that what follows depends on, and all that the checks look at."""
        billed = tuple((s.number, s.outcome, s.run, s.passed_over) for s in self.billed)
        excuses = tuple(sorted(self.excuses.items()))
        seen = tuple(tuple(sorted(self._seen[actor.name])) for actor in self.stage.actors if actor.live)
        return self.stage.state(), repr(_Entries(self.store.entries)), billed, excuses, seen, self.store_faults

    def check(self) -> None:
        """What must hold at every moment."""
        sent = [s.number for s in self.billed]
        assert len(sent) == len(set(sent)), "a submission was sent twice"
        for one in self.billed:
            assert not (one.accepted and self.has(one.number, Entry.RELEASED)), "what was accepted counts as refused"
            assert self.has(one.number, Entry.CLAIM), "submitted without a claim"
        for bad in (s for s in self.billed if s.is_bad):
            again = [s.number for s in self.billed if s.number > bad.number]
            told = f"submission {bad.number} found that the clip cannot be read, and then {again} were sent"
            may = self.policy.on_unknown_submission == "resubmit" or self.has(bad.number, Entry.RESOLVED)
            unknown = may and bad.number in self.excuses
            assert not again or unknown, told
        for before, one in self._paid_again():
            told = f"submission {one.number} of {one.run} although {before.number} of {before.run} was good"
            may = self.policy.on_unknown_submission == "resubmit" or self.has(before.number, Entry.RESOLVED)
            assert may, f"paid twice: {told}"
            assert before.number in self.excuses, f"its job was, or was about to be, in the ledger: {told}"

    def _paid_again(self) -> list[tuple[Billed, Billed]]:
        """Each submission that paid for a result, and one before it that had paid for the same one."""
        paid = sorted(self.paid, key=lambda s: s.number)
        return [
            (before, one)
            for n, one in enumerate(paid)
            for before in paid[:n]
            if not self.takes_turns or before.run == one.run or before.number in one.passed_over
        ]

    def check_end(self) -> str:
        """What later attempts must find when all is over: one of each run that sees it through, and one after it.

        :return: ``"unknown"`` where a person is asked, ``"bad clip"`` where the clip cannot be read, ``"paid twice"``,
            ``"one each"`` where each run paid for a result of its own, or ``"landed"``.
        """
        for number in self.open_numbers:
            assert self._may_be_open(number), (
                f"submission {number} has no outcome, although nothing kept its process from writing it"
            )
        self.uncertain = self.store_faults = 0
        for run in self.runs[:: -1 if len(self.runs) > 1 and self.choose(2) else 1]:
            before = len(self.billed)
            expected = self._expected_of(run)
            last = self.run_alone(f"last of {run}", run=run)
            if expected == "unknown":
                assert isinstance(last, SubmissionUnknownError), "a submission of unknown outcome was passed over"
                return "unknown"
            if expected == "bad clip":
                assert isinstance(last, ClipUnreadableError), "a clip that cannot be read was not told"
                assert len(self.billed) == before, "a clip that cannot be read was paid for again"
                return "bad clip"
            assert isinstance(last, str), f"the last attempt of {run} ended with {last!r}"
            done = {s.job_id for s in self.paid if s.outcome in {"done", "answer lost"}}
            assert last in done, "the result is of a job that was not paid for"
            if expected == "stored":
                assert len(self.billed) == before, "a stored result was paid for again"
            if expected == "new":
                assert len(self.billed) == before + 1, "the run did not get a result of its own"
            before = len(self.billed)
            assert self.run_alone(f"afterwards of {run}", run=run) == last, "another result than before"
            assert len(self.billed) == before, "a landed result was paid for again"
        if self._paid_again():
            return "paid twice"
        return "one each" if len(self.paid) > 1 else "landed"

    def _expected_of(self, run: str) -> str:
        """What an attempt of a run finds: ``stored``, ``unknown``, ``bad clip``, ``new``, or nothing for any other."""
        landed = [number for number in self.numbers if self.has(number, Entry.LANDED)]
        if landed and (self.policy.reuse == "always" or self.is_served(run)):
            return "stored"
        unresolved = [number for number in self.open_numbers if not self.has(number, Entry.RESOLVED)]
        if unresolved and self.policy.on_unknown_submission == "fail":
            return "unknown"
        known = [s for s in self.billed if self.has(s.number, Entry.JOB, Entry.FAILED)]
        if known and max(known, key=lambda s: s.number).is_bad:
            return "bad clip"
        return "new" if landed and last_submission(self.store.entries) in landed else ""

    def _may_be_open(self, number: int) -> bool:
        claimer = self.store.entries[entry_name(number, Entry.CLAIM)]["process"]["name"]
        killed = any(actor.killed for actor in self.stage.actors if actor.name == claimer)
        lost = any(sent.number == number and sent.outcome == "answer lost" for sent in self.billed)
        return killed or lost or self.faulted

    def run_alone(self, name: str, *, run: str = RUN) -> Any:
        """An attempt that nothing disturbs; what it returned or raised."""
        actor = self.enter(name, run=run, try_number=9)
        for _ in range(100):
            if actor.done:
                self.check()
                return actor.result
            if actor.asleep:
                self.stage.pass_time(2 * LEASE)
            self.stage.go(actor)
        raise AssertionError(f"{name} does not come to an end")


class _Entries(dict[str, dict[str, Any]]):
    """Entries that are shown by their names, and claims by when they end: what else they hold follows from that."""

    def __repr__(self) -> str:
        shown = [f"{name}@{entry.get('expires_at', '')}{_by(entry)}" for name, entry in sorted(self.items())]
        return ",".join(shown) or "nothing"


def _by(entry: Mapping[str, Any]) -> str:
    return str((entry.get("process") or {}).get("name") or entry.get("job_id") or "")
