"""What a person may say about paying again: by an argument, or by the conf of a run, where JSON says it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from airflow_provider_modelslab.operators.task_ledger import policy_in_force
from airflow_provider_modelslab.storage.ledger_policy import LedgerPolicy


def in_force(**said: Any) -> LedgerPolicy:
    context = {"dag_run": SimpleNamespace(conf={"modelslab": said})}
    return policy_in_force(LedgerPolicy(), cast("Any", context))


def test_the_conf_of_a_run_goes_before_the_argument() -> None:
    assert in_force(reuse_landed=False) == LedgerPolicy(reuse_landed=False)
    assert in_force(on_changed_request="fail", submissions={}) == LedgerPolicy(on_changed_request="fail")


@pytest.mark.parametrize("said", ["false", "true", "", 2, None, []])
def test_only_true_and_false_say_whether_a_result_is_taken_again(said: object) -> None:
    """The text ``"false"`` would count as true, and the person would get the old result without a word."""
    with pytest.raises(ValueError, match=r"^reuse_landed: must be one of True, False; got "):
        in_force(reuse_landed=said)


def test_other_words_are_refused() -> None:
    with pytest.raises(ValueError, match="on_changed_request: must be one of resubmit, fail; got 'stop'"):
        in_force(on_changed_request="stop")
