"""A small world for the ledger: attempts that run its real code over a store in memory and a vendor that bills.

What was billed, and what went wrong where, is kept apart from the ledger, so that its words are checked against facts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_provider_modelslab.api.errors import (
    JobFailedError,
    JobLostError,
    ModelsLabError,
    RateLimitError,
    StorageConfigurationError,
    SubmissionUnknownError,
)
from airflow_provider_modelslab.storage.ledger import Entry, Fingerprint, LedgerPolicy, entry_name, stale_take
from airflow_provider_modelslab.storage.ledger_stores import MemoryLedgerStore
from airflow_provider_modelslab.storage.manifest import Job
from airflow_provider_modelslab.storage.purchase import Attempt, Landed, Ledger
from tests.support.explorer import Actor, Stage

__all__ = ["LEASE", "OUTCOMES", "Submission", "World"]

LEASE = 1000.0
OUTCOMES = ("done", "answer lost", "refused", "job fails", "job lost", "fails at once")
"""What can become of a submission; the first five are the vendor's, the last is a job that the answer says failed."""

_FINGERPRINT = Fingerprint("request", "source")


@dataclass
class Submission:
    """What the vendor knows of one."""

    take: int
    outcome: str
    job_id: str

    @property
    def accepted(self) -> bool:
        """Whether it is billed."""
        return self.outcome != "refused"


class World:
    """The stage's ledger, vendor and attempts.

    :param choose: picks a number below its argument: for answers of the vendor, and of the store.
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
        outcomes: tuple[str, ...] = OUTCOMES,
        uncertain: int = 1,
        store_faults: int = 0,
    ) -> None:
        self.stage = stage
        self.policy = policy
        self.choose = choose
        self.outcomes = outcomes
        self.uncertain = uncertain
        self.store_faults = store_faults
        self.faulted = False
        self.store = MemoryLedgerStore()
        self.submissions: list[Submission] = []
        self.excuses: dict[int, str] = {}

    # -- the attempts' side ---------------------------------------------------------------------------------------

    def enter(self, name: str, *, try_number: int = 1, first_try: int = 1) -> Actor:
        """Start an attempt."""
        return self.stage.enter(name, lambda: self._attempt(Attempt(try_number, first_try, LEASE)))

    def _attempt(self, attempt: Attempt) -> str:
        """What the operator does: acquire, look, land; the id of the job whose result it returns."""
        ledger = Ledger(self, clock=lambda: self.stage.clock, sleep=self._sleep, is_dead=self._is_dead)
        while True:
            found = ledger.acquire(_FINGERPRINT, self.policy, attempt, lambda: self._send)
            if isinstance(found, Landed):
                return str(found.manifest["job_id"])
            job_id = found.job.job_id
            end = self.stage.effect(f"look at {job_id}", partial(self._outcome, job_id))
            if end == "done":
                ledger.landed(found.take, {"job_id": job_id})
                return job_id
            kind = JobFailedError if end == "job fails" else JobLostError
            error: ModelsLabError = kind(end, job_id=job_id)
            ledger.failed(found.take, error)
            if not found.resumed:
                raise error

    def _send(self, take: int) -> tuple[Job, None]:
        sent = self.stage.effect(f"request {take} leaves", lambda: self._receive(take))
        self.stage.effect(f"answer {take} arrives", lambda: None)
        if sent.outcome == "refused":
            raise RateLimitError("too many jobs")
        if sent.outcome == "answer lost":
            raise SubmissionUnknownError("no answer")
        if sent.outcome == "fails at once":
            raise JobFailedError("cannot do this", job_id=sent.job_id)
        return Job(sent.job_id, "conn", submitted_at=self.stage.clock), None

    def _sleep(self, seconds: float) -> None:
        """Time stands still in a sleep: it passes only where somebody outlives a lease."""
        if seconds < 2:
            self.stage.effect("nap", lambda: None)
        elif stale_take(self.store.entries, now=self.stage.clock, is_dead=self._is_dead) is None:
            self.stage.wait()
        else:
            self.stage.effect("let arrive what is under way", lambda: self.stage.pass_time(0))

    def _is_dead(self, owner: Mapping[str, Any]) -> bool:
        return any(actor.name == owner["name"] and actor.provably_dead for actor in self.stage.actors)

    # -- the store (a LedgerStore) ----------------------------------------------------------------------------------

    def load(self) -> dict[str, dict[str, Any]]:
        """All entries."""

        def read() -> _Entries:
            self._maybe_fault("load fails", 2)
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

    def _receive(self, take: int) -> Submission:
        number = len(self.submissions)
        outcome = self.outcomes[self.choose(len(self.outcomes))] if number < self.uncertain else "done"
        if outcome == "answer lost":
            self.excuses[take] = outcome
        sent = Submission(take, outcome, f"job{number + 1}")
        self.submissions.append(sent)
        return sent

    def _outcome(self, job_id: str) -> str:
        return next(sent.outcome for sent in self.submissions if sent.job_id == job_id)

    # -- faults that the stage plays -----------------------------------------------------------------------------------

    def kill(self, actor: Actor, *, provably: bool, under_way: bool = False) -> None:
        """Kill an attempt; a take that it has sent without its id being written or under way is excused."""
        sent = [s.take for s in self.submissions]
        for take in self._open_takes_of(actor):
            leaves = under_way and actor.before == f"request {take} leaves"
            writes = under_way and actor.before == f"create {entry_name(take, Entry.JOB)}"
            if (take in sent and not writes) or leaves:
                self.excuses[take] = "killed"
        self.stage.kill(actor, provably=provably, under_way=under_way)

    def stall(self, sleeper: Actor) -> None:
        """Everybody but ``sleeper`` makes no step for longer than any lease; the takes they are at are excused."""
        for actor in self.stage.actors:
            if actor is not sleeper:
                self.excuses.update(dict.fromkeys(self._open_takes_of(actor), "outlived its lease"))
        self.stage.pass_time(2 * LEASE)
        self.stage.go(sleeper)

    def _open_takes_of(self, actor: Actor) -> list[int]:
        claims = {take: self.store.entries.get(entry_name(take, Entry.CLAIM), {}) for take in self.open_takes}
        return [take for take, claim in claims.items() if claim.get("owner") == {"name": actor.name}]

    # -- what is asked of it ------------------------------------------------------------------------------------------

    def has(self, take: int, *kinds: Entry) -> bool:
        """Whether the ledger has an entry of any of these kinds."""
        return any(entry_name(take, kind) in self.store.entries for kind in kinds)

    @property
    def takes(self) -> list[int]:
        """All that were claimed."""
        return sorted({int(name[:4]) for name in self.store.entries})

    @property
    def open_takes(self) -> list[int]:
        """Those claimed of which nothing else is known than, perhaps, that it is not known."""
        return [t for t in self.takes if not self.has(t, Entry.JOB, Entry.LANDED, Entry.FAILED, Entry.RELEASED)]

    @property
    def paid(self) -> list[Submission]:
        """Accepted, and not known to have come to nothing."""
        return [s for s in self.submissions if s.accepted and not self.has(s.take, Entry.FAILED, Entry.RELEASED)]

    def state(self) -> Hashable:
        """All that what follows depends on, and all that the checks look at."""
        sent = tuple((s.take, s.outcome) for s in self.submissions)
        excuses = tuple(sorted(self.excuses.items()))
        return self.stage.state(), repr(_Entries(self.store.entries)), sent, excuses, self.store_faults

    def check(self) -> None:
        """What must hold at every moment."""
        sent = [s.take for s in self.submissions]
        assert len(sent) == len(set(sent)), "a take was submitted twice"
        for one in self.submissions:
            assert not (one.accepted and self.has(one.take, Entry.RELEASED)), "what was accepted counts as refused"
            assert self.has(one.take, Entry.CLAIM), "submitted without a claim"
        paid = self.paid
        if self.policy.on_unknown_submission == "fail":
            assert len(paid) <= 1, "paid twice"
        for one in sorted(paid, key=lambda s: s.take)[:-1]:
            assert one.take in self.excuses, "paid again although the id was, or was about to be, in the ledger"

    def check_end(self) -> str:
        """What later attempts must find when all is over: one that sees it through, and one after it.

        :return: ``"unknown"`` where a person is asked, ``"paid twice"``, or ``"landed"``.
        """
        expected_unknown = bool(self.open_takes) and self.policy.on_unknown_submission == "fail"
        for take in self.open_takes:
            assert self._may_be_open(take), (
                f"take {take} has no outcome, although nothing kept its owner from writing it"
            )
        self.uncertain = self.store_faults = 0
        last = self.run_alone("last")
        if expected_unknown:
            assert isinstance(last, SubmissionUnknownError), "a submission of unknown outcome was passed over"
            return "unknown"
        assert isinstance(last, str), f"the last attempt ended with {last!r}"
        done = {s.job_id for s in self.paid if s.outcome in {"done", "answer lost"}}
        assert last in done, "the result is of a job that was not paid for"
        before = len(self.submissions)
        assert self.run_alone("afterwards") == last, "another result than before"
        assert len(self.submissions) == before, "a landed task was submitted again"
        return "paid twice" if len(self.paid) > 1 else "landed"

    def _may_be_open(self, take: int) -> bool:
        owner = self.store.entries[entry_name(take, Entry.CLAIM)]["owner"]["name"]
        killed = any(actor.killed for actor in self.stage.actors if actor.name == owner)
        lost = any(sent.take == take and sent.outcome == "answer lost" for sent in self.submissions)
        return killed or lost or self.faulted

    def run_alone(self, name: str) -> Any:
        """An attempt that nothing disturbs; what it returned or raised."""
        actor = self.enter(name, try_number=9)
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
        shown = [f"{name}@{entry.get('expires_at', '')}{_owner(entry)}" for name, entry in sorted(self.items())]
        return ",".join(shown) or "nothing"


def _owner(entry: Mapping[str, Any]) -> str:
    return str((entry.get("owner") or {}).get("name") or entry.get("job_id") or "")
