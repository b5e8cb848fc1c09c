"""The ledger under every interleaving of two attempts, with crashes between any two effects.

What runs is the real ``Ledger`` (``acquire``, and the notes after it) over a store in memory, and a vendor that bills.
An *effect* is a look at the store, the creation of an entry, a request leaving, its answer arriving, a look at the job,
a sleep. Two attempts, alike, start at the same time; a third follows when they are over, undisturbed, and one after it.

Covered, each run by its budget: every order of effects; kill -9 before any effect, with the owner known to be dead or
not, and with the effect it stood before still on the wire and arriving at any later moment before the clock moves; for
the first submission each of: done, answer lost, refused, the job fails, the job is lost, the answer says that it failed
(where two faults meet: for the first two, done or answer lost); everybody but one standing still for longer than the
lease; a call of the store failing with and without its effect having happened.

Not covered: more than two attempts at a time (the state machine below walks through some at random), requests that
change in between, clocks that differ, and writes that arrive later than the pause with which a claim is given up.
States that were met before, the attempts' memories and the bills included, are not followed again.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from airflow_provider_modelslab.storage import purchase
from airflow_provider_modelslab.storage.ledger import LedgerPolicy
from tests.support.explorer import Choices, Seen, Stage, acting, explore
from tests.support.ledger_world import World

Word = Literal["fail", "resubmit"]

FEW = {"outcomes": ("done", "answer lost"), "uncertain": 2}
BUDGETS: list[dict[str, Any]] = [
    {"kills": 1},
    {"stalls": 1},
    {"store_faults": 1},
    {"kills": 2, **FEW},
    {"kills": 1, "stalls": 1, **FEW},
    {"kills": 1, "store_faults": 1, **FEW},
]

pytestmark = pytest.mark.usefixtures("owners_by_name")


@pytest.fixture(scope="module")
def owners_by_name() -> Iterator[None]:
    """Claims name the attempt, since all attempts are one process. And no log: it would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(purchase.log, "disabled", True)
        patch.setattr(purchase, "describe_owner", lambda: {"name": acting()})
        yield


def play(choices: Choices, stage: Stage, world: World, *, kills: int, stalls: int) -> str | None:
    """One run of two attempts: its end, or ``None`` where it came to a state that an earlier run has met."""
    attempts = [world.enter("A"), world.enter("B")]
    while True:
        if not choices.repeating:  # else an earlier run has looked at this
            world.check()
            if not stage.seen.is_new((world.state(), kills, stalls)):
                return None
        moves: list[tuple[Callable[[], None], int, int]] = []
        awake, asleep = stage.awake(), stage.asleep()
        if not world.takes and attempts[0].live:
            # The two are alike: what follows when B claims first is the mirror image of what follows when A does.
            awake = [actor for actor in awake if actor is attempts[0] or not actor.before.startswith("create")]
        moves += [(partial(stage.go, actor), 0, 0) for actor in awake]
        moves += [(partial(stage.arrive, number), 0, 0) for number in range(len(stage.under_way))]
        if not awake or stalls:
            # With nobody else able to move, nothing happens until a lease ends; else it is a stall of the others.
            moves += [(partial(world.stall, actor), 0, int(bool(awake))) for actor in asleep]
        if kills:
            for actor in (actor for actor in attempts if actor.live):
                ways = [True, False] if actor.before.startswith(("create", "request")) else [False]
                if actor is attempts[0] and not world.takes:
                    ways.remove(False)  # the mirror image, again
                for provably in (False, True):
                    moves += [(partial(world.kill, actor, provably=provably, under_way=way), 1, 0) for way in ways]
        if not any(actor.live for actor in attempts) and not stage.under_way:
            break
        move, killed, stalled = moves[choices.choose(len(moves))]
        kills, stalls = kills - killed, stalls - stalled
        move()
    return world.check_end()


def explore_all(
    policy: LedgerPolicy, *, kills: int = 0, stalls: int = 0, **of_the_world: Any
) -> tuple[int, Counter[str]]:
    """Every run within these budgets: how many there were, and how many had which end."""
    seen = Seen()
    ends: Counter[str] = Counter()

    def run(choices: Choices) -> None:
        stage = Stage(seen)
        world = World(stage, policy, choices.choose, **of_the_world)
        try:
            end = play(choices, stage, world, kills=kills, stalls=stalls)
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
@pytest.mark.parametrize("word", ["fail", "resubmit"])
def test_every_run_of_two_attempts(word: Word, budget: dict[str, Any]) -> None:
    executions, ends = explore_all(LedgerPolicy(on_unknown_submission=word), **budget)
    assert executions > 1500
    # That the worst was among them: with "fail" a person is asked, with "resubmit" something was paid twice.
    assert ends["unknown" if word == "fail" else "paid twice"] > 0
    assert ends["landed"] > 0


def test_without_a_fault_there_is_one_payment_and_one_result() -> None:
    executions, ends = explore_all(LedgerPolicy(), outcomes=("done",))
    assert executions > 20
    assert set(ends) == {"landed"}


class ManyAttempts(RuleBasedStateMachine):
    """Up to four attempts at a time, new ones whenever a task is cleared, and faults without a budget."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(Seen())
        self.tries = 0
        self.pick = 0

    @initialize(word=st.sampled_from(["fail", "resubmit"]), store_faults=st.integers(0, 2))
    def begin(self, word: Word, store_faults: int) -> None:
        policy = LedgerPolicy(on_unknown_submission=word)
        self.world = World(self.stage, policy, lambda count: self.pick % count, uncertain=99, store_faults=store_faults)
        for _ in range(3):
            self.clear()

    @rule()
    def clear(self) -> None:
        """The task is cleared, or a second worker starts it."""
        assume(sum(actor.live for actor in self.stage.actors) < 4)
        self.tries += 1
        self.world.enter(f"try {self.tries}", try_number=self.tries, first_try=self.tries)

    @rule(number=st.integers(0, 3), steps=st.integers(1, 4), pick=st.integers(0, 11))
    def go(self, number: int, steps: int, pick: int) -> None:
        self.pick = pick
        awake = self.stage.awake()
        assume(awake)
        actor = awake[number % len(awake)]
        for _ in range(steps):
            if actor in self.stage.awake():
                self.stage.go(actor)
                self.world.check()

    @rule(number=st.integers(0, 3), provably=st.booleans(), under_way=st.booleans())
    def kill(self, number: int, provably: bool, under_way: bool) -> None:
        live = [actor for actor in self.stage.actors if actor.live]
        assume(live)
        actor = live[number % len(live)]
        sends = actor.before.startswith(("create", "request"))
        self.world.kill(actor, provably=provably, under_way=under_way and sends)

    @rule(number=st.integers(0, 9))
    def arrive(self, number: int) -> None:
        assume(self.stage.under_way)
        self.stage.arrive(number % len(self.stage.under_way))

    @rule(number=st.integers(0, 3))
    def stall(self, number: int) -> None:
        asleep = self.stage.asleep()
        assume(asleep)
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


TestManyAttempts = pytest.mark.usefixtures("owners_by_name")(ManyAttempts.TestCase)
ManyAttempts.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None, derandomize=True)
