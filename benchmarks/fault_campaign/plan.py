"""What happens to each run and process: drawn from the seed, and steered towards the phases that were hit least."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.fault_campaign.phases import ON_THE_WIRE, PHASES, Kind, Role, phases_of

__all__ = ["BACKGROUND", "ENDPOINT_FAULTS", "KILLS", "LOSES_ANSWER", "S3_FAULTS", "Adversity", "Planner", "RunPlan"]
__all__ += ["Strike", "Trouble", "UnknownPolicy", "draw_faults"]

UnknownPolicy = Literal["fail", "resubmit"]

KILLS = ("kill", "term", "stop", "endpoint kill", "endpoint freeze")
"""Kinds of faults that end or freeze a process."""

LOSES_ANSWER = ("reset_after", "error_after", "malformed", "hang")
"""Faults of the endpoint after which a job is accepted and its id does not arrive."""

S3_FAULTS: Mapping[str, tuple[float, ...]] = {
    "503": (1, 7),  # so many requests of the task; the client sends one five times
    "late": (1.8,),  # seconds after which the answer comes; the client waits for 1.2
    "denied": (1.0,),  # seconds, for a minute, for which S3 answers 403
    "reset before": (0,),
    "reset after": (0,),
}
"""What goes wrong with a process's requests to S3, and how much of it."""

ENDPOINT_FAULTS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "submit": {"html 403": (1,), "drip": (1,), "kill before": (1,), "kill after": (1,), "freeze": (0.4, 0.8)},
    "poll": {
        "error in 200": (1, 2, 3),
        "html 403": (1,),
        "html 502": (1, 2),
        "500": (1, 2),
        "429": (1, 2),
        "empty": (1, 2),
        "cut": (1, 2),
        "reset": (1, 2),
        "drip": (1,),
        "kill before": (1,),
        "freeze": (0.4, 0.8),
    },
    "file": {"drip": (1,), "cut": (1,), "html 403": (1,), "kill before": (1,), "freeze": (0.4,)},
}
"""What goes wrong with a process's calls of the endpoint: for how many of them, or for how many seconds it is frozen.

Faults of submits, jobs and files that the endpoint has of its own are asked for with the request, see
:func:`draw_faults`."""

_CALLS = {
    "after claim": "submit",
    "submit sent": "submit",
    "start": "poll",
    "waiting": "poll",
    "deferred": "poll",
    "poll answered": "poll",
    "resumed": "file",
    "download": "file",
}
"""The call of the endpoint that comes after a phase."""

_SUBMIT: tuple[dict[str, Any], ...] = (
    {"reset_before": {}},
    {"reset_after": {}},
    {"error_before": {"status": 500}},
    {"error_before": {"status": 503}},
    {"error_after": {"status": 502}},
    {"malformed": {}},
    {"hang": {"when": "before", "seconds": 3.0}},  # the client waits for 2
    {"hang": {"when": "after", "seconds": 3.0}},
    {"rate_limit": {"submits": 1, "retry_after": 0}},
)
_FETCH: tuple[dict[str, Any], ...] = (
    {"flaky_fetch": {"probability": 0.5, "how": "any"}},
    {"not_found_at_first": {"fetches": 2}},
)
_FILE: tuple[dict[str, Any], ...] = (
    {"late_links": {"seconds": 0.5}},
    {"truncated_video": {"keep": 0.5, "times": 1}},
    {"corrupt_video": {"content": "html", "times": 1}},
    {"corrupt_video": {"content": "random", "times": 1}},
)

BACKGROUND: dict[str, Any] = {
    "rates": {"flaky_fetch": 0.1, "late_links": 0.1},
    "options": {"flaky_fetch": {"probability": 0.3}, "late_links": {"seconds": 0.4}},
}
"""The endpoint's own plan, for submits that ask for no faults of their own."""

_STRUCK: Mapping[Role, float] = {"execute": 0.95, "trigger": 0.35, "resume": 0.95}
"""Share of the processes that are killed or frozen, if they come so far."""

_FAULTY_SUBMITS = 2
_CLOCK_S = (60.0, 600.0)
_MEAN_DELAY_S = {"start": 0.05, "deferred": 0.15, "waiting": 0.15}


@dataclass(frozen=True, slots=True)
class Strike:
    """What ends or freezes a process.

    :param kind: ``kill`` (SIGKILL), ``term`` (SIGTERM, as Airflow ends a task, or Ctrl-C for a command; a moment later
        SIGKILL), ``stop`` (SIGSTOP, another attempt starts, SIGCONT after ``pause`` seconds).
    :param phase: when; the first time, or as many times later as ``nth`` says.
    :param delay: seconds after the phase has begun; 0 is exactly there.
    """

    kind: Literal["kill", "term", "stop"]
    phase: str
    delay: float = 0.0
    pause: float = 0.0
    nth: int = 1


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong while the process goes on.

    :param where: ``clock`` (it is set by ``value`` seconds), ``s3``, or the call of the endpoint.
    :param phase: after which.
    """

    where: Literal["clock", "s3", "submit", "poll", "file"]
    phase: str
    how: str = ""
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Adversity:
    """All that happens to one process.

    :param is_twin: another attempt starts in the same instant, and has the rest of this.
    :param is_cleared: a person clears the task while it waits.
    """

    strike: Strike | None = None
    troubles: tuple[Trouble, ...] = ()
    is_twin: bool = False
    is_cleared: bool = False


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run: a task instance, or a command.

    :param name: of the run.
    :param deferrable: waits in a trigger, or in the worker.
    :param from_s3: reads its input from S3, or names a link; a batch lists a prefix.
    :param unknown: what it does about a submission of unknown outcome.
    :param clears: how often it is cleared, or run again, when it has landed.
    :param has_budget: whether its jobs are of the campaign's budget.
    :param has_clocks: whether clocks go wrong. Jobs that never end do not go with it: with a clock that was ten minutes
        ahead at the submit they are waited for so much longer.
    """

    name: str
    kind: Kind = "single"
    deferrable: bool = False
    from_s3: bool = False
    unknown: UnknownPolicy = "fail"
    clears: int = 0
    has_budget: bool = False
    has_clocks: bool = False
    skip: tuple[str, ...] = ()


@dataclass
class Planner:
    """Draws what happens.

    :param resubmit: share of the runs that submit again when an outcome is unknown.
    :param skip: faults that the endpoint has of its own, to be left out.
    """

    seed: int
    resubmit: float = 0.25
    skip: Sequence[str] = ()
    hits: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(PHASES, 0)))
    is_quiet: bool = False

    def run(self, number: int) -> RunPlan:
        """Draw a run."""
        rng = random.Random(f"{self.seed}/{number}")
        kind = rng.choices(("single", "batch", "command"), (0.55, 0.25, 0.2))[0]
        return RunPlan(
            name=f"run{number:05d}",
            kind=kind,  # type: ignore[arg-type]  # one of them
            deferrable=kind != "command" and rng.random() < 0.6,
            from_s3=rng.random() < 0.3,
            unknown="resubmit" if rng.random() < self.resubmit else "fail",
            clears=int(rng.random() < 0.2),
            has_budget=True,
            has_clocks=rng.random() < 0.5,
            skip=tuple(self.skip),
        )

    def process(self, plan: RunPlan, role: Role, ordinal: int, *, paid: bool) -> Adversity:
        """Draw what happens to a run's next process; how often a phase was hit decides along with the seed.

        :param ordinal: which of the run's processes.
        :param paid: see :func:`.phases.phases_of`.
        """
        if self.is_quiet:
            return Adversity()
        rng = random.Random(f"{self.seed}/{plan.name}/{role}/{ordinal}")
        phases = phases_of(plan.kind, role, deferrable=plan.deferrable, paid=paid)
        strike = self._strike(rng, plan, role, phases) if rng.random() < _STRUCK[role] else None
        if role == "trigger" and rng.random() < 0.08:
            return Adversity(is_cleared=True)
        return Adversity(strike, self._troubles(rng, plan, phases, strike), role != "trigger" and rng.random() < 0.08)

    def hit(self, phase: str) -> None:
        """A process was killed or frozen in a phase."""
        self.hits[phase] += 1

    def _strike(self, rng: random.Random, plan: RunPlan, role: Role, phases: Sequence[str]) -> Strike:
        least = min(self.hits[phase] for phase in phases)
        # Now and then any of them, so that a phase that is hardly reached does not leave the process unharmed.
        weights = [0.02 + math.exp((least - self.hits[phase]) / 1.5) for phase in phases]
        phase = rng.choices(phases, weights)[0]
        kinds: tuple[Literal["kill", "term", "stop"], ...] = ("kill", "term", "stop")
        kind = rng.choices(kinds, (0.6, 0.0 if role == "trigger" else 0.15, 0.25))[0]
        later = phase in ON_THE_WIRE or rng.random() < 0.3
        delay = rng.expovariate(1 / _MEAN_DELAY_S.get(phase, 0.03)) if later else 0.0
        nth = 2 if plan.kind == "batch" and rng.random() < 0.2 else 1
        return Strike(kind, phase, delay, rng.uniform(0.3, 1.5), nth)

    def _troubles(
        self, rng: random.Random, plan: RunPlan, phases: Sequence[str], strike: Strike | None
    ) -> tuple[Trouble, ...]:
        reached = phases[: phases.index(strike.phase) + 1] if strike else phases
        found = []
        if plan.has_clocks and rng.random() < 0.35:
            found.append(Trouble("clock", rng.choice(reached), value=rng.uniform(*_CLOCK_S) * rng.choice((-1, 1))))
        if rng.random() < 0.28:
            how = rng.choice(tuple(S3_FAULTS))
            found.append(Trouble("s3", rng.choice(reached), how, rng.choice(S3_FAULTS[how])))
        calling = [phase for phase in reached if phase in _CALLS]
        if calling and rng.random() < 0.28:
            phase = rng.choice(calling)
            call = _CALLS[phase]
            how = rng.choice(tuple(ENDPOINT_FAULTS[call]))
            found.append(Trouble(call, phase, how, rng.choice(ENDPOINT_FAULTS[call][how])))  # type: ignore[arg-type]
        return tuple(found)


def draw_faults(seed: int, plan: RunPlan, result: str, number: int) -> dict[str, Any] | None:
    """The faults to ask the endpoint for with a submit; ``None`` leaves it to :data:`BACKGROUND`.

    :param result: which of the run's results.
    :param number: of the submission.
    """
    if number > _FAULTY_SUBMITS:
        return None
    rng = random.Random(f"{seed}/{result}/submission{number}")
    share = 0.4 if plan.kind == "batch" else 1.0
    faults: dict[str, Any] = {}
    for kinds, chance in ((_SUBMIT, 0.4), (_FETCH, 0.25), (_FILE, 0.3)):
        if rng.random() < chance * share:
            faults |= rng.choice(kinds)
    if rng.random() < 0.12 * share:
        bad: tuple[dict[str, Any], ...] = ({"job_failed": {}}, {"lost_id": {"fetch": 1}}, {"never_ending": {}})
        faults |= rng.choices(bad, (0.6, 0.3, 0.0 if plan.kind != "single" else 0.1))[0]
    skip = {*plan.skip, *(("lost_id", "never_ending") if plan.has_clocks else ())}
    return {kind: options for kind, options in faults.items() if kind not in skip}
