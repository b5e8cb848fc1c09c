"""How many clips may fail before the whole batch counts as failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

__all__ = ["FailureLimit"]


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """``max_failed``.

    :param count: so many may fail, at least 0.
    :param share: this share of what was found may fail, at least 0 and below 1.
    """

    count: int | None = None
    share: float | None = None

    @classmethod
    def of(cls, value: float | str | None) -> Self:
        """Read ``max_failed``: a whole number of clips, a share below 1, or text that holds one (``"5"``, ``"5%"``).

        ``None`` lets any number fail.

        :raises ValueError: for anything else.
        """
        if value is None:
            return cls()
        number: object = None
        if isinstance(value, str):
            text = value.strip()
            try:
                number = float(text[:-1]) / 100 if text.endswith("%") else int(text) if text.isdigit() else float(text)
            except ValueError:
                number = None
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = value
        if isinstance(number, int) and number >= 0:
            return cls(count=number)
        if isinstance(number, float) and 0 <= number < 1:
            return cls(share=number)
        raise ValueError(
            "max_failed: must be a number of clips (a whole number of at least 0), or a share of the clips (at least 0 "
            f"and below 1, such as 0.05 or '5%'); 1 means one clip; got {value!r}"
        )

    def exceeded(self, failed: int, found: int) -> bool:
        """Whether ``failed`` of ``found`` clips are too many."""
        if self.count is not None:
            return failed > self.count
        return self.share is not None and failed > self.share * found

    def __str__(self) -> str:
        if self.count is not None:
            return str(self.count)
        return "any number" if self.share is None else f"{self.share:.4g} of the clips"
