"""The calls of Airflow's API that tests and the demo make, against a server that fails now and then."""

from __future__ import annotations

import pytest
import requests

from tests.support.scripted_server import Answer, HangUp, Reset, ScriptedServer
from tools.stack.airflow_api import AirflowApi
from tools.stack.process import PartFailedError

TOKEN = Answer({"access_token": "a-token"}, status=201)
FAILED = Answer({"detail": "database is locked"}, status=500)
FOUND = Answer({"state": "success"})


def methods(server: ScriptedServer) -> list[str]:
    return [request.method for request in server.requests[1:]]  # the first one is for the token


@pytest.mark.parametrize("failures", [[FAILED], [Reset()], [HangUp()], [FAILED, Reset(), FAILED]])
def test_what_only_reads_is_asked_again(failures: list[Answer | Reset | HangUp]) -> None:
    with ScriptedServer(TOKEN, *failures, FOUND) as server:
        assert AirflowApi(server.url).run_state("a_dag", "a_run") == "success"
    assert methods(server) == ["GET"] * (len(failures) + 1)


def test_what_fails_each_time_is_told() -> None:
    with ScriptedServer(TOKEN, FAILED) as server, pytest.raises(PartFailedError, match=r"HTTP 500: .*is locked"):
        AirflowApi(server.url).run_state("a_dag", "a_run")
    assert methods(server) == ["GET"] * 4


@pytest.mark.parametrize("failure", [FAILED, Reset()])
def test_what_starts_something_is_sent_once(failure: Answer | Reset) -> None:
    with (
        ScriptedServer(TOKEN, failure, FOUND) as server,
        pytest.raises((PartFailedError, requests.ConnectionError)),
    ):
        AirflowApi(server.url).trigger("a_dag")
    assert methods(server) == ["POST"]
