"""Which clips of a batch are done now: all of them, the first, or a sample."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from airflow_provider_modelslab.api.endpoint_request import is_blank
from airflow_provider_modelslab.api.errors import InvalidRequestError

__all__ = ["ALL", "Selection"]


@dataclass(frozen=True, slots=True)
class Selection:
    """``limit``, ``sample`` and ``sample_seed``.

    :param limit: so many clips from the beginning, 1 or more; ``None`` is all of them.
    :param sample: so many clips from all over the batch, 1 or more; ``None`` is all of them.
    :param seed: chooses the clips of a sample at random; without it they are spread evenly.
    """

    limit: int | None = None
    sample: int | None = None
    seed: str | None = None

    @classmethod
    def of(cls, limit: object, sample: object, seed: object = None) -> Self:
        """Read the arguments, perhaps out of templates; blank ones count as not given.

        :raises InvalidRequestError: for another count than a whole number of at least 1, and for limit with sample.
        """
        found = cls(_count(limit, "limit"), _count(sample, "sample"), None if is_blank(seed) else str(seed).strip())
        if found.limit is not None and found.sample is not None:
            raise InvalidRequestError.of("sample", "cannot be given together with limit")
        return found

    def pick(self, names: Sequence[str]) -> list[int]:
        """The positions of the clips that are done, in rising order.

        With a seed, a larger sample contains a smaller one, and a clip that is added later replaces one clip at most.

        :param names: one for each clip, each of which is unique.
        """
        total = len(names)
        if self.limit is not None:
            return list(range(min(self.limit, total)))
        if self.sample is None or self.sample >= total:
            return list(range(total))
        if self.seed is None:
            return [(2 * part + 1) * total // (2 * self.sample) for part in range(self.sample)]
        ranked = sorted(
            range(total), key=lambda index: hashlib.sha256(f"{self.seed}\0{names[index]}".encode()).digest()
        )
        return sorted(ranked[: self.sample])

    @property
    def left_out(self) -> str:
        """Why other clips are not done."""
        return "not in the sample" if self.limit is None else "beyond the limit"


ALL = Selection()


def _count(given: object, field: str) -> int | None:
    if is_blank(given):
        return None
    text = str(given).strip()
    if isinstance(given, bool | float) or not text.isdecimal() or int(text) < 1:
        raise InvalidRequestError.of(field, f"must be a whole number of at least 1; got {given!r:.80}")
    return int(text)
