"""A budget under every interleaving of two submits, with kills between any two effects.

What runs is the real ``PaidJob.acquire`` with its ledger and its budget, over stores in memory and a vendor that bills.
Each attempt wants a result of its own, so all that they share is the budget. An *effect* is a read or a write of the
budget's state, a write of a ledger's entry, a read of another result's ledger, or a submit.

Covered: every order of effects; kill -9 before any effect, and with that effect still on the wire and arriving at any
later moment before the clock moves; one attempt, or all, standing still for longer than a reservation lasts; each of a
done, a refused and an unknown submit, priced per job and per second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import (
    BudgetExhaustedError,
    RateLimitError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.api.prices import Prices
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.budget.definition import Caps
from airflow_provider_modelslab.budget.model import BudgetState
from airflow_provider_modelslab.budget.service import LEASE, Budget
from airflow_provider_modelslab.budget.spending import Spending
from airflow_provider_modelslab.jobs import paid_job as paid_job_module
from airflow_provider_modelslab.ledger import service
from airflow_provider_modelslab.ledger.model import Submission, unresolved_submission
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import MemoryLedgerStore
from airflow_provider_modelslab.storage.result_manifest import Job
from tests.support.budgets import MemoryBudgetLog
from tests.support.explorer import Choices, Seen, Stage, explore
from tests.support.paid_jobs import FakeHook, paid_job

LONG = 3 * LEASE
OUTCOMES = ("done", "refused", "answer lost")
PRICES = {"job": {"per_job": "0.1"}, "second": {"per_second": "0.01", "max_seconds": 10}}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (service, paid_job_module):
        monkeypatch.setattr(module.log, "disabled", True)


class World:
    """One budget, results that are each wanted by one attempt, and a vendor."""

    def __init__(self, stage: Stage, caps: Caps, choose: Callable[[int], int], *, price: str = "job") -> None:
        self.stage = stage
        self.caps = caps
        self.choose = choose
        self.prices = Prices.of(PRICES[price])
        self.log = MemoryBudgetLog()
        self.ledgers: dict[str, MemoryLedgerStore] = {}
        self.billed: list[str] = []

    def enter(self, name: str, *, block: int = 0) -> Any:
        """An attempt at a result of its own; ``block`` more are likely to come next."""
        return self.stage.enter(name, partial(self._attempt, name, block))

    def _attempt(self, name: str, block: int) -> str:
        store = self.ledgers.setdefault(name, MemoryLedgerStore())
        numbers = iter(range(100))
        budget = Budget(
            _Log(self),
            self.caps,
            title="budget",
            how_to_raise="raise it",
            user="films.restyle",
            read_ledger=self.read_ledger,
            clock=lambda: self.stage.clock,
            sleep=lambda seconds: None,
            new_id=lambda: f"{name}.{next(numbers)}",
            process={"name": name},
            is_dead=self._is_dead,
        )
        spending = Spending(self.prices, (budget,), ledger_of=lambda place: f"{name}{place or ''}")
        job = paid_job(
            Ledger(_Store(self.stage, store), clock=lambda: self.stage.clock, sleep=lambda seconds: None),
            FakeHook(lambda number: self._submit(name, number)),
        )
        price = spending.price_of(job.request)
        upcoming = [(f"/{number}", price) for number in range(block)]
        job = replace(job, destination=None, spending=spending, upcoming=lambda: upcoming)
        try:
            found = job.acquire()
        except BudgetExhaustedError:
            return "exhausted"
        except (RateLimitError, SubmissionUnknownError, TransportError) as error:
            return error.code.value
        finally:
            spending.close()
        assert isinstance(found, Submission)
        return found.job.job_id

    def _is_dead(self, process: Mapping[str, Any]) -> bool:
        return any(actor.provably_dead for actor in self.stage.actors if actor.name == process.get("name"))

    def _submit(self, name: str, number: int) -> tuple[Job, Finished | None]:
        outcome = OUTCOMES[self.choose(len(OUTCOMES))]

        def send() -> None:
            if outcome != "refused":
                self.billed.append(name)

        self.stage.effect(f"submit, which is {outcome}", send)
        if outcome == "refused":
            raise RateLimitError("full")
        if outcome == "answer lost":
            raise SubmissionUnknownError("lost")
        return Job(f"{name}-{number}", "conn", submitted_at=self.stage.clock), None

    def read_ledger(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        entries = self.ledgers.get(name, MemoryLedgerStore()).entries
        return self.stage.look(f"read ledger {name}", lambda: _Entries(entries))

    # -- what must hold -------------------------------------------------------------------------------------------

    def check(self) -> None:
        assert self.caps.max_jobs is not None
        assert len(self.billed) <= self.caps.max_jobs, "more was paid for than the budget allows"
        known = self.log.load()[1]
        assert known.total().jobs <= self.caps.max_jobs

    def state(self) -> Any:
        ledgers = tuple((name, repr(_Entries(store.entries))) for name, store in sorted(self.ledgers.items()))
        return self.stage.state(), repr(self.log.load()), ledgers, tuple(self.billed)

    def check_end(self) -> None:
        """When all are gone, exactly what nobody can have paid for is free again."""
        assert self.caps.max_jobs is not None
        self.stage.pass_time(LONG)
        self.choose = lambda count: 0
        self._fill("first")
        self.check()
        state = self.log.load()[1]
        unknown = [slot.ledger for slot in state.held.values() if slot.ledger not in self.billed]
        assert not state.open
        assert all(self._is_open(name) for name in unknown), "something that nobody can have paid for is kept"
        assert len(self.billed) + len(unknown) == self.caps.max_jobs, "something that was reserved is lost"
        for name in unknown:  # a person finds no job
            ledger = Ledger(self.ledgers[name], clock=lambda: self.stage.clock)
            assert ledger.resolve(1, by="me", why="not there")
        self.stage.pass_time(LONG)
        assert self._fill("second") == len(unknown), "what a person said was not there is lost"
        self.check()

    def _is_open(self, name: str) -> bool:
        return unresolved_submission(self.ledgers[name].entries, now=self.stage.clock, is_dead=lambda _: True) == 1

    def _fill(self, name: str) -> int:
        """Submit until there is no room; how often that was possible."""
        for number in range(99):
            actor = self.enter(f"{name}{number}")
            while not actor.done:
                self.stage.go(actor)
            if actor.result == "exhausted":
                return number
        raise AssertionError("there is no end")


class _Log:
    """A budget's state, with an effect for each call."""

    def __init__(self, world: World) -> None:
        self._world = world

    def load(self) -> tuple[int, BudgetState]:
        return self._world.stage.look("load", self._world.log.load)

    def append(self, number: int, state: BudgetState, about: Mapping[str, Any]) -> bool:
        def write() -> bool:
            self._world.stage.version += 1
            return self._world.log.append(number, state, about)

        return self._world.stage.effect(f"append {number}", write)


class _Store:
    """A ledger's store, with an effect for each write."""

    def __init__(self, stage: Stage, store: MemoryLedgerStore) -> None:
        self._stage = stage
        self._store = store
        self.load = store.load
        self.names = store.names

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        return self._stage.effect(f"create {name}", lambda: self._store.create(name, entry))


class _Entries(dict[str, dict[str, Any]]):
    def __repr__(self) -> str:
        return ",".join(f"{name}{entry.get('budget', '')}" for name, entry in sorted(self.items()))


def play(choices: Choices, stage: Stage, world: World, *, kills: int, stalls: int) -> None:
    actors = [world.enter(name) for name in "AB"]
    while True:
        if not choices.repeating:
            world.check()
            if not stage.seen.is_new((world.state(), kills, stalls)):
                return
        moves: list[tuple[Callable[[], None], int, int]] = [
            *((partial(stage.go, actor), 0, 0) for actor in stage.awake()),
            *((partial(stage.arrive, number), 0, 0) for number in range(len(stage.under_way))),
        ]
        if not moves:
            break
        if kills:
            for actor in (actor for actor in actors if actor.live):
                ways = {False, not actor.before.startswith(("load", "read"))}
                moves += [
                    (partial(stage.kill, actor, provably=provably, under_way=way), 1, 0)
                    for way in ways
                    for provably in (False, True)
                ]
        if stalls:
            moves.append((partial(stage.pass_time, LONG), 0, 1))
        move, killed, stalled = moves[choices.choose(len(moves))]
        kills, stalls = kills - killed, stalls - stalled
        move()
    world.check_end()


@pytest.mark.parametrize(
    ("price", "budget"),
    [
        ("job", {"kills": 1}),
        ("job", {"stalls": 1}),
        ("second", {"kills": 1}),
    ],
    ids=str,
)
def test_every_run_of_two_submits_where_one_may(price: str, budget: dict[str, int]) -> None:
    seen = Seen()
    ends: Counter[str] = Counter()

    def run(choices: Choices) -> None:
        stage = Stage(seen)
        world = World(stage, Caps(1), choices.choose, price=price)
        try:
            play(choices, stage, world, **{"kills": 0, "stalls": 0, **budget})
        except AssertionError as error:
            error.add_note("\n".join(stage.trace))
            raise
        finally:
            stage.clear()
        ends.update(str(actor.result) for actor in stage.actors[:2])

    assert explore(run) > 300
    assert ends["exhausted"] > 0


@given(
    cap=st.sampled_from([1, 2, 4, 20, 40]),
    cost=st.booleans(),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 5)), max_size=120),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_four_processes_with_faults_at_random(cap: int, cost: bool, steps: list[tuple[int, int, int]]) -> None:
    stage = Stage(Seen())
    pick = [0]
    caps = Caps(cap, Decimal(cap) / 10 if cost else None)
    world = World(stage, caps, lambda count: pick[0] % count)
    entered = 0
    try:
        for actor_number, kind, chosen in steps:
            pick[0] = chosen
            live = [actor for actor in stage.actors if actor.live]
            if len(live) < 4:
                world.enter(f"try {entered}", block=chosen)
                entered += 1
            elif kind == 0:
                stage.kill(live[actor_number], provably=chosen % 2 == 0, under_way=chosen > 2)
            elif kind == 1:
                stage.pass_time(LONG)
            elif kind == 2 and stage.under_way:
                stage.arrive(0)
            else:
                stage.go(live[actor_number])
            world.check()
        for actor in [actor for actor in stage.actors if actor.live]:
            while not actor.done:
                stage.go(actor)
            world.check()
        stage.pass_time(0)
        world.check_end()
    except AssertionError as error:
        error.add_note("\n".join(stage.trace))
        raise
    finally:
        stage.clear()
