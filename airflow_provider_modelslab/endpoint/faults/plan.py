"""Who gets which of the faults that the endpoint can be told to have. Pure but for reading a file of faults.

They are for tests of clients and for campaigns: a paid call that is answered badly is the case that a client must get
right, and the vendor's server cannot be asked to fail. :mod:`.injector` carries them out.

Chances are drawn from hashes, never from a generator: whether a request gets a fault depends on the plan's seed, the
fault, the request's ``track_id`` (without one: its content) and how often that was submitted before. So a rerun with
the same seed and the same requests has the same faults, in whatever order and at whatever times they come.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from airflow_provider_modelslab.endpoint.faults.kinds import FAULTS, check_kind, fill, is_number

__all__ = ["NO_FAULTS", "FaultPlan", "Faults", "read_faults"]


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one request.

    :param chosen: for each fault that it has, all of the fault's options.
    :param token: what later chances of this request are drawn from.
    """

    chosen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    token: str = ""

    def __bool__(self) -> bool:
        return bool(self.chosen)

    def options(self, kind: str) -> Mapping[str, Any] | None:
        """A fault's options; ``None`` when the request does not have it."""
        return self.chosen.get(kind)

    def chance(self, *what: object) -> float:
        """A number from 0 to below 1, the same for the same request and the same ``what``."""
        return _chance(self.token, *what)

    def dump(self) -> str:
        """As JSON, for the state database."""
        if not self.chosen:
            return "{}"
        return json.dumps({"token": self.token, "chosen": {kind: dict(rest) for kind, rest in self.chosen.items()}})

    @classmethod
    def load(cls, text: str) -> Self:
        """The inverse of :meth:`dump`."""
        stored = json.loads(text)
        return cls(stored["chosen"], stored["token"]) if stored else cls()


NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which share of the submits gets which fault.

    A fault that happens on the way (``flaky_fetch``, ``late_links``, ...) is drawn at the submit too, and holds for
    that job.

    :param seed: of all chances.
    :param rates: for a fault of :data:`FAULTS`, the share of submits that has it, 0 to 1. A request may get several.
    :param options: for a fault, the options that are not to have their defaults.
    :raises ValueError: naming the fault or the option that cannot be.
    """

    seed: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise _wrong(f"seed must be a whole number; got {self.seed!r}")
        for name in ("rates", "options"):
            if not isinstance(getattr(self, name), Mapping):
                raise _wrong(f"{name} must be a mapping with the names of faults as keys; got {getattr(self, name)!r}")
        for kind, rate in self.rates.items():
            check_kind(kind)
            if not is_number(rate) or not 0 <= rate <= 1:
                raise ValueError(f"the rate of {kind} must be a number from 0 to 1; got {rate!r}")
        object.__setattr__(self, "rates", dict(self.rates))
        object.__setattr__(self, "options", {kind: fill(kind, given) for kind, given in self.options.items()})

    @classmethod
    def read(cls, text: str) -> Self:
        """A plan from JSON, or from a file that holds it: ``{"seed": 7, "rates": {"reset_after": 0.1}}``.

        :raises ValueError: saying what is wrong with it.
        """
        if not text.lstrip().startswith("{"):
            try:
                text = Path(text).read_text()
            except OSError as error:
                raise ValueError(f"The file of faults {text!r} cannot be read ({error.strerror})") from None
        try:
            given = json.loads(text)
        except ValueError as error:
            raise ValueError(f"The faults are not valid JSON: {error}") from None
        unknown = set(given) - {"seed", "rates", "options"} if isinstance(given, dict) else {"no object"}
        if unknown:
            raise ValueError(
                f"The faults must be an object with seed, rates and options only; got {', '.join(unknown)}"
            )
        return cls(**given)

    def token(self, subject: str, ordinal: int) -> str:
        """What later chances of a request are drawn from."""
        return hashlib.blake2b(_text(self.seed, subject, ordinal), digest_size=16).hexdigest()

    def draw(self, subject: str, ordinal: int) -> Faults:
        """The faults of a request.

        :param subject: its ``track_id``, or what stands for it.
        :param ordinal: how often that was submitted before.
        """
        chosen = {
            kind: self.options.get(kind, FAULTS[kind])
            for kind in FAULTS
            if _chance(self.seed, kind, subject, ordinal) < self.rates.get(kind, 0.0)
        }
        return Faults(chosen, self.token(subject, ordinal))

    def asked(self, value: object, subject: str, ordinal: int) -> Faults:
        """The faults that a request asks for itself (``x_faults``), with the plan's options where it gives none.

        :raises ValueError: saying what is wrong with it.
        """
        chosen = {
            kind: fill(kind, given, self.options.get(kind, FAULTS[kind])) for kind, given in read_faults(value).items()
        }
        return Faults(chosen, self.token(subject, ordinal))


def read_faults(value: object) -> dict[str, Mapping[str, Any]]:
    """The faults that are named, each with the options given.

    It reads ``"malformed"``, ``["malformed"]``, ``{"malformed": true}``,
    ``{"late_links": {"seconds": 2}}``.

    :raises ValueError: for anything else, and for a fault that is not one of :data:`FAULTS`.
    """
    named: dict[str, Mapping[str, Any]] = {}
    for item in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
        if isinstance(item, str):
            named[item] = {}
        elif isinstance(item, Mapping):
            named.update({kind: {} if options is True else options for kind, options in item.items()})
        else:
            raise _wrong(f"must be the name of a fault, a list of names, or an object with options; got {item!r:.100}")
    for kind in named:
        check_kind(kind)
    return named


def _wrong(text: str) -> ValueError:
    return ValueError(text)


def _text(*parts: object) -> bytes:
    return json.dumps(parts).encode()


def _chance(*parts: object) -> float:
    digest = hashlib.blake2b(_text(*parts), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53
