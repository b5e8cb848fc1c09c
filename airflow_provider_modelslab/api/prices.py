"""What a job costs, in the user's own prices: the vendor publishes none for this endpoint.

Amounts are decimal numbers, read from and written as text, so no cent is lost to binary fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_modelslab.api.errors import InvalidRequestError

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.endpoint_request import EndpointRequest

__all__ = ["JobPrice", "Prices", "amount", "amount_text", "refuse_unknown"]

_ZERO = Decimal(0)
_RATES = ("per_job", "per_frame", "per_second", "per_gpu_second")
_FIELDS = (*_RATES, "max_seconds")


def amount(value: object, field_name: str) -> Decimal:
    """An amount of money, or a rate: a number of at least 0, best given as text (``"0.10"``).

    :raises InvalidRequestError: for anything else.
    """
    number: Decimal | None = None
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
        try:
            number = Decimal(str(value).strip())
        except InvalidOperation:
            number = None
    if number is None or not number.is_finite() or number < 0:
        raise InvalidRequestError.of(field_name, f'must be a number of at least 0, such as "0.10"; got {value!r:.80}')
    return number


def amount_text(value: Decimal) -> str:
    """An amount as text: ``0.1``, ``12``, never an exponent."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


@dataclass(frozen=True, slots=True)
class JobPrice:
    """The price of one job.

    :param currency: as the user writes it; may be empty.
    :param fixed: what it costs whatever happens: per job and per frame.
    :param per_second: of generation time.
    :param max_seconds: of generation that are reserved for it.
    """

    currency: str
    fixed: Decimal
    per_second: Decimal = _ZERO
    max_seconds: Decimal = _ZERO

    @property
    def is_exact(self) -> bool:
        """Whether the cost is known before the job ends."""
        return not self.per_second

    @property
    def reserved(self) -> Decimal:
        """The cost, or where it depends on the generation time, the cost of ``max_seconds``."""
        return self.fixed + self.per_second * self.max_seconds

    def cost(self, seconds: float | None) -> Decimal | None:
        """What a job did cost; ``None`` where that depends on a generation time that is not known.

        :param seconds: of generation.
        """
        if self.is_exact:
            return self.fixed
        return None if seconds is None else self.fixed + self.per_second * Decimal(str(seconds))

    def __str__(self) -> str:
        most = "" if self.is_exact else "at most "
        return f"{most}{amount_text(self.reserved)} {self.currency}".rstrip()

    def record(self) -> dict[str, str]:
        """As plain JSON; :meth:`from_record` is the inverse."""
        record = {"currency": self.currency, "fixed": amount_text(self.fixed)}
        if not self.is_exact:
            record |= {"per_second": amount_text(self.per_second), "max_seconds": amount_text(self.max_seconds)}
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Of what :meth:`record` wrote; keys of later versions are ignored."""
        numbers = {name: Decimal(record.get(name, "0")) for name in ("fixed", "per_second", "max_seconds")}
        return cls(str(record.get("currency") or ""), **numbers)


@dataclass(frozen=True, slots=True)
class _Rates:
    """``per_job`` + ``per_frame`` times frames + ``per_second`` times seconds of generation."""

    per_job: Decimal = _ZERO
    per_frame: Decimal = _ZERO
    per_second: Decimal = _ZERO
    per_gpu_second: Decimal = _ZERO
    max_seconds: Decimal | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], where: str) -> Self:
        return cls(**{name: amount(given[name], f"{where}.{name}") for name in _FIELDS if given.get(name) is not None})


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of a connection or a task.

    :param currency: as the user writes it: ``EUR``, ``credits``; may be empty.
    :param rates: of models without rates of their own.
    :param models: of the others, by ``model_id``.
    """

    currency: str = ""
    rates: _Rates = field(default_factory=_Rates)
    models: Mapping[str, _Rates] = field(default_factory=dict)

    @classmethod
    def of(cls, given: object, where: str = "prices") -> Self | None:
        """Read prices; ``None`` where none are given.

        :param given: ``{"currency": "EUR", "per_job": "0.10", "per_frame": "0.005", "per_second": "0.02",
            "max_seconds": 120, "per_gpu_second": "0.0006", "models": {"<model_id>": {"per_job": "0.30"}}}``. Rates add
            up. A model's own rates replace all others.
        :raises InvalidRequestError: for an unknown key, or a value that is no number of at least 0.
        """
        if given is None or given == "" or given == {}:
            return None
        if not isinstance(given, Mapping):
            raise InvalidRequestError.of(where, f"must be a mapping such as {{'per_job': '0.10'}}; got {given!r:.80}")
        refuse_unknown(given, ("currency", "models", *_FIELDS), where)
        models = given.get("models") or {}
        if not isinstance(models, Mapping) or not all(isinstance(rates, Mapping) for rates in models.values()):
            raise InvalidRequestError.of(
                f"{where}.models",
                'must be a mapping from each model_id to its rates, such as {"<model_id>": {"per_job": "0.30"}}',
            )
        for name, rates in models.items():
            refuse_unknown(rates, _FIELDS, f"{where}.models.{name}")
        return cls(
            str(given.get("currency") or "").strip(),
            _Rates.of(given, where),
            {str(name): _Rates.of(rates, f"{where}.models.{name}") for name, rates in models.items()},
        )

    def of_job(self, model_id: str | None, frames: int | None, *, timeout: float) -> JobPrice:
        """The price of one job at the endpoint.

        :param frames: of the result.
        :param timeout: seconds of generation that are reserved where the prices say no ``max_seconds``.
        """
        rates = self._rates(model_id)
        most = Decimal(str(timeout)) if rates.max_seconds is None else rates.max_seconds
        return JobPrice(self.currency, rates.per_job + rates.per_frame * (frames or 0), rates.per_second, most)

    def of_request(self, request: EndpointRequest, *, timeout: float) -> JobPrice:
        """The price of a request, see :meth:`of_job`."""
        model_id, frames = getattr(request, "model_id", None), getattr(request, "num_frames", None)
        return self.of_job(model_id, frames, timeout=timeout)

    def of_local(self, model_id: str | None) -> JobPrice | None:
        """The price of one clip on a GPU of your own; ``None`` without ``per_gpu_second``."""
        rates = self._rates(model_id)
        return JobPrice(self.currency, _ZERO, rates.per_gpu_second) if rates.per_gpu_second else None

    def _rates(self, model_id: str | None) -> _Rates:
        return self.models.get(model_id or "", self.rates)


def refuse_unknown(given: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    """Allow these keys alone.

    :raises InvalidRequestError: for ``where``, naming the others, and what there is.
    """
    unknown = sorted(str(name) for name in given if name not in known)
    if unknown:
        raise InvalidRequestError.of(where, f"unknown key: {', '.join(unknown)}; allowed: {', '.join(known)}")
