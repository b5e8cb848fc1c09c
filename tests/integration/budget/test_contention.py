"""Processes that want more of one budget than there is, on real S3 servers: exactly the cap is granted."""

from __future__ import annotations

import secrets

import pytest

from benchmarks.budget import Load, measure
from tests.support.s3 import S3Server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("single", [False, True])
def test_exactly_the_cap_is_granted(any_server: S3Server, *, single: bool) -> None:
    load = Load(processes=4, reservations=40 if single else 160, cap=25 if single else 100, single=single)
    figures = measure(any_server, load, f"budget-{secrets.token_hex(4)}")
    assert (figures["granted"], figures["overspent"], figures["open"]) == (load.cap, 0, 0)
    assert figures["refused"] == load.reservations - load.cap
    assert figures["recorded"] == load.cap


def test_a_batch_alone_makes_few_calls(s3_server: S3Server) -> None:
    figures = measure(s3_server, Load(processes=1, reservations=64, cap=1000), f"budget-{secrets.token_hex(4)}")
    assert figures["granted"] == 64
    assert figures["calls_per_grant"] < 0.2
