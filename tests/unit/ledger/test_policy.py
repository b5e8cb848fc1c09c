"""What a person may choose."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_modelslab.ledger.model import LedgerPolicy


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("reuse", ["run", "always", "never"]),
        ("on_changed_request", ["resubmit", "fail"]),
        ("on_unknown_submission", ["fail", "resubmit"]),
    ],
)
def test_a_policy_says_what_is_allowed(name: str, values: list[str]) -> None:
    assert getattr(LedgerPolicy(), name) == values[0]
    for value in values:
        given: dict[str, Any] = {name: value}
        assert getattr(LedgerPolicy(**given), name) == value
    wrongs: list[object] = ["retry", "", None, True, False, []]
    for wrong in wrongs:
        given = {name: wrong}
        with pytest.raises(ValueError, match=f"^{name}: "):
            LedgerPolicy(**given)
