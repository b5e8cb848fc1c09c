"""The paying sequence under every interleaving of two attempts, with crashes between any two effects.

What runs is the real ``PaidJob`` (``acquire``, ``land``, ``close``) and its ledger, over a store in memory and a vendor
that bills. An *effect* is a read of the store, the creation of an entry, a request leaving, its answer arriving, a poll
of the job, a sleep. Two attempts, alike, start at the same time: both of one Dag run, or each of its own. When they are
over, one more of each run follows undisturbed, and another one after it.

Covered, each run by its budget: every order of effects; kill -9 before any effect, with the process known to be dead or
not, and with the effect it stood before still on the wire and arriving at any later moment before the clock moves; for
the first submission each of: done, answer lost, refused, the job fails, the job is lost, the answer says that it
failed, the clip cannot be read (said by the job, or by the answer: it is never paid for again; where two faults meet:
for the first two, done or answer lost); everybody but one standing still for longer than the lease; a call of the store
failing with and without its effect having happened; a person who lets a submission of unknown outcome be made again.

Not covered: more than two attempts at a time (the state machine below walks through some at random), requests that
change in between, clocks that differ, and writes that arrive later than the pause with which a claim is given up.
States that were met before, the attempts' memories and the bills included, are not followed again.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from airflow_provider_modelslab.jobs import paid_job, timing
from airflow_provider_modelslab.ledger import service
from airflow_provider_modelslab.ledger.model import LedgerPolicy
from tests.support.explorer import Actor, Choices, Seen, Stage, acting, explore
from tests.support.ledger_world import RUN, World

Answer = Literal["fail", "resubmit"]
Reused = Literal["run", "always"]

TWO_RUNS = (RUN, "run 2")

FEW = {"outcomes": ("done", "answer lost"), "uncertain": 2}
BUDGETS: list[dict[str, Any]] = [
    {"kills": 1},
    {"stalls": 1},
    {"store_faults": 1},
    {"kills": 2, **FEW},
    {"kills": 1, "stalls": 1, **FEW},
    {"kills": 1, "store_faults": 1, **FEW},
]
BUDGETS_OF_TWO_RUNS: list[tuple[Reused, dict[str, Any]]] = [
    ("run", {"kills": 1}),
    ("run", {"stalls": 1}),
    ("run", {"store_faults": 1}),
    ("run", {"uncertain": 2}),
    ("always", {"kills": 1}),
    ("always", {"uncertain": 2}),
]

pytestmark = pytest.mark.usefixtures("one_process")


@pytest.fixture(scope="module")
def one_process() -> Iterator[None]:
    """Claims name the attempt, since all attempts are one process; no log, which would take most of the time.

    The world is a thousand seconds or so old, so no job has outlived its result.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (service, paid_job):
            patch.setattr(module.log, "disabled", True)
        patch.setattr(service, "describe_process", lambda: {"name": acting()})
        patch.setattr(timing, "time", SimpleNamespace(time=lambda: Stage(Seen()).clock))
        yield


def play(
    choices: Choices, stage: Stage, world: World, *, runs: tuple[str, str], kills: int, stalls: int, persons: int
) -> str | None:
    """One run of two attempts: its end, or ``None`` where it came to a state that an earlier run has met."""
    attempts = [world.enter(name, run=run) for name, run in zip("AB", runs, strict=True)]
    people = [world.enter_person() for _ in range(persons)]
    while True:
        if not choices.repeating:  # else an earlier run has looked at this
            world.check()
            if not stage.seen.is_new((world.state(), kills, stalls)):
                return None
        moves: list[tuple[Callable[[], None], int, int]] = []
        awake, asleep = stage.awake(), stage.asleep()
        if not world.numbers and attempts[0].live:
            # The two are alike: what follows when B claims first is the mirror image of what follows when A does.
            awake = [actor for actor in awake if actor is not attempts[1] or not actor.before.startswith("create")]
        moves += [(partial(stage.go, actor), 0, 0) for actor in awake]
        moves += [(partial(stage.arrive, number), 0, 0) for number in range(len(stage.under_way))]
        if not awake or stalls:
            # With nobody else able to move, nothing happens until a lease ends; else it is a stall of the others.
            moves += [(partial(world.stall, actor), 0, int(bool(awake))) for actor in asleep]
        if kills:
            for actor in (actor for actor in attempts if actor.live):
                ways = [True, False] if actor.before.startswith(("create", "request")) else [False]
                if actor is attempts[0] and not world.numbers:
                    ways.remove(False)  # the mirror image, again
                for provably in (False, True):
                    moves += [(partial(world.kill, actor, provably=provably, under_way=way), 1, 0) for way in ways]
        if not any(actor.live for actor in attempts + people) and not stage.under_way:
            break
        move, killed, stalled = moves[choices.choose(len(moves))]
        kills, stalls = kills - killed, stalls - stalled
        move()
    return world.check_end()


def explore_all(
    policy: LedgerPolicy,
    *,
    runs: tuple[str, str] = (RUN, RUN),
    kills: int = 0,
    stalls: int = 0,
    persons: int = 0,
    **of_the_world: Any,
) -> tuple[int, Counter[str]]:
    """Every run within these budgets: how many there were, and how many had which end."""
    seen = Seen()
    ends: Counter[str] = Counter()

    def run(choices: Choices) -> None:
        stage = Stage(seen)
        world = World(stage, policy, choices.choose, runs=runs, **of_the_world)
        try:
            end = play(choices, stage, world, runs=runs, kills=kills, stalls=stalls, persons=persons)
        except AssertionError as error:
            error.add_note("\n".join(stage.trace))
            raise
        finally:
            stage.clear()
        if end is not None:
            ends[end] += 1

    gc.disable()  # thousands of small worlds: looking for cycles among them would take a quarter of the time
    try:
        return explore(run), ends
    finally:
        gc.enable()


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: "-".join(b))
@pytest.mark.parametrize("answer", ["fail", pytest.param("resubmit", marks=pytest.mark.slow)])
def test_every_run_of_two_attempts(answer: Answer, budget: dict[str, Any]) -> None:
    executions, ends = explore_all(LedgerPolicy(on_unknown_submission=answer), **budget)
    assert executions > 1500
    # That the worst was among them: with "fail" a person is asked, with "resubmit" something was paid twice.
    assert ends["unknown" if answer == "fail" else "paid twice"] > 0
    assert ends["landed"] > 0
    assert bool(ends["bad clip"]) is ("outcomes" not in budget)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reuse", "budget"), BUDGETS_OF_TWO_RUNS, ids=lambda v: v if isinstance(v, str) else "-".join(v)
)
@pytest.mark.parametrize("answer", ["fail", "resubmit"])
def test_every_run_of_attempts_of_two_dag_runs(answer: Answer, reuse: Reused, budget: dict[str, Any]) -> None:
    """Who has seen a submission before it landed never pays for another one, unless that came to nothing."""
    executions, ends = explore_all(LedgerPolicy(reuse, on_unknown_submission=answer), runs=TWO_RUNS, **budget)
    assert executions > 1000
    assert ends["unknown" if answer == "fail" else "paid twice"] > 0
    assert ends["landed"] > 0
    assert bool(ends["one each"]) is (reuse == "run")
    assert ends["bad clip"] > 0


@pytest.mark.parametrize(("reuse", "paid"), [("run", 2), ("always", 1)])
def test_after_it_has_landed_another_dag_run_pays_once_more_or_never(reuse: Reused, paid: int) -> None:
    world = World(Stage(Seen()), LedgerPolicy(reuse), lambda count: 0, runs=TWO_RUNS)
    jobs = [world.run_alone(f"{number} of {run}", run=run) for number in (1, 2) for run in TWO_RUNS]
    assert [one.run for one in world.billed] == list(TWO_RUNS)[:paid]
    assert jobs == ["job1", *[f"job{paid}"] * 3]


@pytest.mark.slow
@pytest.mark.parametrize("budget", [{"kills": 1, "uncertain": 0}, {"stalls": 1, "uncertain": 0}, {}], ids=str)
def test_a_person_who_decides_at_any_moment_never_hides_a_job_that_is_known(budget: dict[str, Any]) -> None:
    executions, ends = explore_all(LedgerPolicy(), persons=1, outcomes=("done", "answer lost"), **budget)
    assert executions > 100
    assert bool(ends["unknown"]) is ("stalls" not in budget)  # who only stood still writes down how it ended
    assert ends["paid twice"] > 0
    assert ends["landed"] > 0


def test_without_a_fault_there_is_one_payment_and_one_result() -> None:
    executions, ends = explore_all(LedgerPolicy(), outcomes=("done",))
    assert executions > 20
    assert set(ends) == {"landed"}


class ManyAttempts(RuleBasedStateMachine):
    """Up to four attempts of two Dag runs at a time, new ones whenever one is cleared, and faults without a budget.

    A rule that cannot apply does nothing: Hypothesis rejects a machine that discards most of its steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(Seen())
        self.tries = 0
        self.pick = 0

    @initialize(
        answer=st.sampled_from(["fail", "resubmit"]),
        reuse=st.sampled_from(["run", "always"]),
        store_faults=st.integers(0, 2),
    )
    def begin(self, answer: Answer, reuse: Reused, store_faults: int) -> None:
        self.world = World(
            self.stage,
            LedgerPolicy(reuse, on_unknown_submission=answer),
            lambda count: self.pick % count,
            runs=TWO_RUNS,
            uncertain=99,
            store_faults=store_faults,
        )
        for run in (*TWO_RUNS, RUN):
            self.clear(run)

    @property
    def live(self) -> list[Actor]:
        return [actor for actor in self.stage.actors if actor.live]

    @rule(run=st.sampled_from(TWO_RUNS))
    def clear(self, run: str) -> None:
        """The task is cleared, or a second worker starts it."""
        if len(self.live) == 4:
            return
        self.tries += 1
        self.world.enter(f"try {self.tries}", run=run, try_number=self.tries, first_try=self.tries)

    @rule(number=st.integers(0, 3), steps=st.integers(1, 4), pick=st.integers(0, 11))
    def go(self, number: int, steps: int, pick: int) -> None:
        self.pick = pick
        awake = self.stage.awake()
        for _ in range(steps if awake else 0):
            actor = awake[number % len(awake)]
            if actor in self.stage.awake():
                self.stage.go(actor)
                self.world.check()

    @rule(number=st.integers(0, 3), provably=st.booleans(), under_way=st.booleans())
    def kill(self, number: int, provably: bool, under_way: bool) -> None:
        if self.live:
            actor = self.live[number % len(self.live)]
            sends = actor.before.startswith(("create", "request"))
            self.world.kill(actor, provably=provably, under_way=under_way and sends)

    @rule(number=st.integers(0, 9))
    def arrive(self, number: int) -> None:
        if self.stage.under_way:
            self.stage.arrive(number % len(self.stage.under_way))

    @rule(number=st.integers(0, 3))
    def stall(self, number: int) -> None:
        if asleep := self.stage.asleep():
            self.world.stall(asleep[number % len(asleep)])

    @invariant()
    def paid_once(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.world.uncertain = self.world.store_faults = 0
                while moving := self.stage.awake() or self.stage.asleep():
                    if moving[0].asleep and moving[0] not in self.stage.awake():
                        self.world.stall(moving[0])
                    else:
                        self.stage.go(moving[0])
                    self.world.check()
                self.stage.pass_time(0)
                self.world.check_end()
        except AssertionError as error:
            error.add_note("\n".join(self.stage.trace))
            raise
        finally:
            self.stage.clear()


TestManyAttempts = pytest.mark.usefixtures("one_process")(ManyAttempts.TestCase)
ManyAttempts.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None, derandomize=True)
