"""What happens to each clip, drawn from the seed alone: the same plan, in whatever order things happen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["BACKGROUND", "LOSES_ANSWER", "SLOW", "Adversity", "ClipPlan", "Role", "draw_clip"]

Role = Literal["execute", "trigger", "resume"]
Kind = Literal["kill", "stop", "twin", "clear"]

# The boundaries that a process passes, in their order. Each is also the name of the phase that begins there.
_PAYING = ("start", "before claim", "claimed", "submitting", "submitted", "id written")
_LANDING = ("landing", "object written", "landed", "in ledger", "returning")
_BOUNDARIES: dict[tuple[Role, bool], tuple[str, ...]] = {
    ("execute", True): (*_PAYING, "deferring"),
    ("execute", False): (*_PAYING, "waiting", *_LANDING),
    ("resume", True): ("start", *_LANDING),
}
_DELICATE = ("claimed", "submitting", "submitted")  # these are hit three times as often as others

_MEAN_DELAY_S = {"start": 0.2, "before claim": 0.02, "submitting": 0.01, "waiting": 0.3, "landing": 0.08}
_TRIGGER_DELAY_S = 0.4

LOSES_ANSWER = ("reset_after", "error_after", "malformed", "hang")
"""Faults of the endpoint after which a job is accepted and its id does not arrive."""

SLOW = ("lost_id", "never_ending")
"""Faults of the endpoint that show only after a minute: "Request not found" is tolerated for so long."""

_SUBMIT: tuple[dict[str, Any], ...] = (
    {"reset_before": {}},
    {"reset_after": {}},
    {"error_before": {"status": 500}},
    {"error_before": {"status": 503}},
    {"error_after": {"status": 502}},
    {"malformed": {}},
    {"hang": {"when": "before", "seconds": 1.0}},
    {"hang": {"when": "after", "seconds": 1.0}},
    {"rate_limit": {"submits": 1, "retry_after": 1}},
)
_FETCH: tuple[dict[str, Any], ...] = (
    {"flaky_fetch": {"probability": 0.5, "how": "any"}},
    {"not_found_at_first": {"fetches": 2}},
)
_FILE: tuple[dict[str, Any], ...] = (
    {"late_links": {"seconds": 1.5}},
    {"truncated_video": {"keep": 0.5, "times": 1}},
    {"corrupt_video": {"content": "html", "times": 1}},
    {"corrupt_video": {"content": "random", "times": 1}},
)

BACKGROUND: dict[str, Any] = {
    "rates": {"flaky_fetch": 0.1, "late_links": 0.1, "same_request_filter": 0.5},
    "options": {
        "flaky_fetch": {"probability": 0.3},
        "late_links": {"seconds": 1.0},
        "same_request_filter": {"seconds": 3.0},
    },
}
"""The endpoint's own plan, for submits that ask for no faults of their own: a clip's third, and later ones."""


@dataclass(frozen=True, slots=True)
class Adversity:
    """What happens to one process.

    :param kind: ``kill`` (SIGKILL); ``stop`` (SIGSTOP, another attempt starts, SIGCONT after ``pause``); ``twin``
        (another attempt starts in the same instant, and is killed at ``at`` unless that is empty); ``clear`` (a person
        clears the waiting task).
    :param at: the boundary at which it happens.
    :param delay: seconds after the boundary; 0 is exactly there.
    :param pause: seconds that a stopped process is stopped for.
    """

    kind: Kind
    at: str = ""
    delay: float = 0.0
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """One clip: how its task is set up, and what happens to it.

    :param name: the clip's, and its run's.
    :param deferrable: waits in a trigger, or in the worker.
    :param from_s3: reads its input from S3, or names a link.
    :param submit_faults: the faults of the endpoint for the first submits; ``None``: as the endpoint's own plan says.
    :param adversities: for each role, one for each process of that role, ``None``: nothing happens to it.
    :param clears: how often the landed task is cleared while the campaign runs.
    """

    name: str
    deferrable: bool
    from_s3: bool
    submit_faults: tuple[dict[str, Any] | None, ...]
    adversities: dict[Role, tuple[Adversity | None, ...]]
    clears: int

    @property
    def slow(self) -> bool:
        """Whether it takes more than a minute."""
        return any(faults and not faults.keys().isdisjoint(SLOW) for faults in self.submit_faults)


def draw_clip(seed: int, number: int, *, intensity: float, skip: Sequence[str] = ()) -> ClipPlan:
    """Draw a clip's plan.

    :param intensity: 1 for about three faults a clip; more, or less, for others.
    :param skip: faults of the endpoint to leave out.
    """
    rng = random.Random(f"{seed}/{number}")

    def happens(chance: float) -> bool:
        return rng.random() < min(0.95, chance * intensity)

    def draw_faults(share: float) -> dict[str, Any]:
        faults: dict[str, Any] = {}
        for kinds, chance in ((_SUBMIT, 0.5), (_FETCH, 0.35), (_FILE, 0.35)):
            if happens(chance * share):
                faults |= rng.choice(kinds)
        if happens(0.13 * share):
            faults |= rng.choices(
                ({"job_failed": {}}, {"lost_id": {"fetch": 1}}, {"never_ending": {}}), (0.6, 0.25, 0.15)
            )[0]
        return {kind: options for kind, options in faults.items() if kind not in skip}

    deferrable = rng.random() < 0.6
    submit_faults = (draw_faults(1.0), draw_faults(0.6), None)
    adversities: dict[Role, tuple[Adversity | None, ...]] = {
        "execute": tuple(_worker(rng, "execute", deferrable) if happens(0.55) else None for _ in range(4)),
        "trigger": tuple(_trigger(rng) if happens(0.4) else None for _ in range(3)),
        "resume": tuple(_worker(rng, "resume", True) if happens(0.5) else None for _ in range(3)),
    }
    return ClipPlan(
        name=f"clip{number:04d}",
        deferrable=deferrable,
        from_s3=rng.random() < 0.3,
        submit_faults=submit_faults,
        adversities=adversities,
        clears=int(rng.random() < 0.35),
    )


def _worker(rng: random.Random, role: Role, deferrable: bool) -> Adversity:
    places = _BOUNDARIES[role, deferrable]
    at = rng.choices(places, [3 if place in _DELICATE else 1 for place in places])[0]
    delay = 0.0 if rng.random() < 0.5 else rng.expovariate(1 / _MEAN_DELAY_S.get(at, 0.05))
    chance, pause = rng.random(), rng.uniform(1.0, 4.0)
    if role == "execute" and chance < 0.2:
        return Adversity("twin", at if rng.random() < 0.4 else "", delay)
    return Adversity("stop", at, delay, pause) if chance < 0.4 else Adversity("kill", at, delay)


def _trigger(rng: random.Random) -> Adversity:
    delay, pause = rng.expovariate(1 / _TRIGGER_DELAY_S), rng.uniform(1.0, 3.0)
    kinds: tuple[Kind, ...] = ("kill", "kill", "stop", "clear")
    kind = rng.choice(kinds)
    return Adversity(kind, "start", delay, pause)
