"""Explores what concurrent attempts can do to each other: every interleaving of their effects, and crashes in between.

The attempts are the real code, each in a greenlet that stops before every effect. A run is a sequence of choices (who
goes next, who is killed, what the other side answers); :func:`explore` repeats it until every sequence has been taken.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import greenlet  # type: ignore[import-untyped]

__all__ = ["Actor", "Choices", "Killed", "Seen", "Stage", "acting", "explore"]

T = TypeVar("T")


class Killed(BaseException):
    """kill -9: the attempt has no further effect; its handlers run, and their effects raise this again."""


class Choices:
    """The choices of one run: a given beginning, then always the first possibility."""

    def __init__(self, beginning: list[int]) -> None:
        self._beginning = beginning
        self.taken: list[tuple[int, int]] = []

    @property
    def repeating(self) -> bool:
        """Whether the run is still where an earlier run was."""
        return len(self.taken) < len(self._beginning)

    def choose(self, count: int) -> int:
        """A number below ``count``."""
        if count == 1:
            return 0
        number = self._beginning[len(self.taken)] if self.repeating else 0
        self.taken.append((number, count))
        return number


def explore(run: Callable[[Choices], None]) -> int:
    """Call ``run`` until it has made every possible choice, depth first; the number of calls."""
    beginning: list[int] = []
    for executions in range(1, 10**9):
        choices = Choices(beginning)
        run(choices)
        taken = choices.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return executions
        beginning = [number for number, _ in taken[:-1]] + [taken[-1][0] + 1]
    raise AssertionError("unreachable")


class Seen:
    """States that were met before, kept exactly: what follows from one of them needs no second look."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def number(self, state: Hashable) -> int:
        """The same small number for equal states, another for others."""
        return self._numbers.setdefault(state, len(self._numbers))

    def is_new(self, state: Hashable) -> bool:
        """Whether this is the first time; from now on it is not."""
        before = len(self._numbers)
        self.number(state)
        return len(self._numbers) > before


def acting() -> str:
    """The name of the actor that calls."""
    return str(greenlet.getcurrent().name)


@dataclass(eq=False)
class Actor:
    """One attempt.

    :param memory: a number for all that it has seen: with equal numbers, two of them do the same from here on.
    :param before: the effect it stands before.
    :param asleep: whether that is a long sleep.
    :param knew: its memory before it last looked.
    :param saw: the stage's version when it last looked.
    :param provably_dead: whether others can tell that it was killed.
    :param result: what it returned; an exception that ended it.
    """

    name: str
    memory: int = 0
    before: str = ""
    asleep: bool = False
    knew: int = 0
    saw: int = -1
    done: bool = False
    killed: bool = False
    provably_dead: bool = False
    result: Any = None
    effect: Callable[[], Any] = field(default=lambda: None)
    thread: Any = None

    @property
    def live(self) -> bool:
        """Whether it runs."""
        return not (self.done or self.killed)


class Stage:
    """Where actors run, one effect at a time, in virtual time.

    :param seen: shared by the runs of one exploration.
    """

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.actors: list[Actor] = []
        self.clock = 1_000_000.0
        self.version = 0
        self.under_way: list[tuple[str, Callable[[], Any]]] = []
        self.trace: list[str] = []
        self.running: Actor | None = None

    def enter(self, name: str, main: Callable[[], Any]) -> Actor:
        """Add an actor; it runs up to its first effect."""
        actor = Actor(name)

        def run() -> None:
            try:
                actor.result = main()
            except Exception as error:  # noqa: BLE001 - what ended it is the result
                actor.result = error
            except Killed:
                return
            actor.done = True
            self.trace.append(f"{name} ends with {actor.result!r}")

        actor.thread = greenlet.greenlet(run)
        actor.thread.name = name
        self.actors.append(actor)
        self._switch(actor)
        return actor

    def effect(self, label: str, do: Callable[[], T], *, asleep: bool = False) -> T:
        """Called by an actor: stop, and do it when it is the actor's turn."""
        actor = self.running
        assert actor is not None
        if actor.killed:
            raise Killed
        actor.before, actor.effect, actor.asleep = label, do, asleep
        actor.thread.parent.switch()
        actor.asleep = False
        try:
            result = do()
        except Exception as error:
            self._saw(actor, label, repr(error))
            raise
        self._saw(actor, label, result)
        return result

    def look(self, label: str, do: Callable[[], T]) -> T:
        """An effect that reads what the others change."""
        actor = self.running
        assert actor is not None
        actor.knew = actor.memory

        def read() -> T:
            actor.saw = self.version
            return do()

        return self.effect(label, read)

    def wait(self) -> None:
        """Called by an actor to whom the last look told nothing: it sleeps until a look could tell something else."""
        actor = self.running
        assert actor is not None
        self.effect("wait", lambda: None, asleep=True)
        actor.memory = actor.knew

    def pass_time(self, seconds: float) -> None:
        """Move the clock; whatever was under way has arrived by then."""
        while self.under_way:
            self.arrive(0)
        self.clock += seconds

    def awake(self) -> list[Actor]:
        """Who can go on: all that live but those who sleep and would see nothing new."""
        return [actor for actor in self.actors if actor.live and not (actor.asleep and actor.saw == self.version)]

    def asleep(self) -> list[Actor]:
        """The others that live."""
        awake = self.awake()
        return [actor for actor in self.actors if actor.live and actor not in awake]

    def go(self, actor: Actor) -> None:
        """Let an actor do the effect it stands before, and go on to its next one."""
        self._switch(actor)

    def kill(self, actor: Actor, *, provably: bool, under_way: bool = False) -> None:
        """Kill an actor before its next effect; with ``under_way`` that has left, and arrives at some later time."""
        self.trace.append(f"{actor.name} is killed before: {actor.before}{' (under way)' if under_way else ''}")
        if under_way:
            self.under_way.append((f"{actor.name}'s {actor.before}", actor.effect))
        actor.killed, actor.provably_dead = True, provably
        self.version += 1
        self.running = actor
        actor.thread.throw(Killed)

    def arrive(self, number: int) -> None:
        """Something that was under way when its sender was killed arrives."""
        label, do = self.under_way.pop(number)
        self.trace.append(f"{label} arrives")
        running, self.running = self.running, None
        do()
        self.running = running

    def clear(self) -> None:
        """End what still runs."""
        for actor in self.actors:
            if actor.live:
                self.kill(actor, provably=False)

    def state(self) -> Hashable:
        """Of the actors and of time; whoever runs the stage adds its own."""
        actors = tuple(
            (a.memory, a.before, a.asleep and a.saw == self.version) if a.live else a.provably_dead for a in self.actors
        )
        return actors, self.clock, tuple(label for label, _ in self.under_way)

    def _switch(self, actor: Actor) -> None:
        self.running = actor
        actor.thread.switch()

    def _saw(self, actor: Actor, label: str, result: Any) -> None:
        self.trace.append(f"{actor.name}: {label} -> {result!r}")
        dead = tuple(other.provably_dead for other in self.actors)
        actor.memory = self.seen.number((actor.memory, label, repr(result), self.clock, dead))
