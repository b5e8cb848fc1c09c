from __future__ import annotations

import socket
import ssl
from http.client import BadStatusLine

import pytest

from airflow_provider_modelslab.client.config import NoResponse, Timeouts
from airflow_provider_modelslab.client.transport_errors import no_response

TIMEOUTS = Timeouts(3, 7)


class WrappedError(Exception):
    """Hides its cause, as the libraries do, in ``args``, ``reason``, ``os_error`` or ``__cause__``."""

    def __init__(self, *args: object, reason: object = None, os_error: object = None) -> None:
        super().__init__(*args)
        self.reason = reason
        self.os_error = os_error


def judged(error: BaseException, *, sent: bool = False, retriable: bool = True, timed_out: bool = False) -> NoResponse:
    return no_response(error, sent=sent, retriable=retriable, timed_out=timed_out, timeouts=TIMEOUTS)


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


REFUSED = ConnectionRefusedError(111, "Connection refused")


@pytest.mark.parametrize(
    "error",
    [
        WrappedError("http://user:hush@proxy", REFUSED),
        WrappedError("x", reason=WrappedError(REFUSED)),
        WrappedError("x", os_error=REFUSED),
    ],
)
def test_the_innermost_cause_is_told_in_the_systems_words(error: Exception) -> None:
    assert judged(error) == NoResponse("ConnectionRefusedError: Connection refused", sent=False)


def test_what_has_no_words_is_told_by_name_and_never_by_its_text() -> None:
    assert judged(WrappedError("http://user:hush@proxy"), sent=True) == NoResponse("WrappedError", sent=True)


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = WrappedError(), WrappedError()
    first.__cause__, second.__cause__ = second, first
    assert judged(first).text == "WrappedError"


def test_the_callers_own_trouble_is_not_taken_for_a_cause() -> None:
    error = WrappedError(REFUSED)
    error.__context__ = untrusted()
    assert judged(error) == NoResponse("ConnectionRefusedError: Connection refused", sent=False)


def test_time_outs() -> None:
    assert judged(TimeoutError(), timed_out=True) == NoResponse("no connection within 3 s", sent=False)
    assert judged(TimeoutError(), sent=True, timed_out=True) == NoResponse("no answer within 7 s", sent=True)


def test_tls_faults_are_a_matter_of_settings_only_before_the_call_was_sent() -> None:
    certificate = judged(WrappedError(untrusted()))
    assert certificate == NoResponse("SSLCertVerificationError: self-signed certificate", sent=False, permanent=True)
    assert judged(ssl.SSLError(1, "wrong version number")).permanent
    assert not judged(ssl.SSLError(1, "bad record mac"), sent=True).permanent
    assert not judged(ssl.SSLEOFError(8, "EOF occurred in violation of protocol")).permanent


def test_what_is_no_matter_of_connections_is_one_of_settings() -> None:
    assert judged(OSError("no CA bundle"), retriable=False).permanent
    assert not judged(socket.gaierror(-2, "Name or service not known")).permanent


def explained(error: BaseException, url: str) -> str:
    return no_response(error, sent=True, retriable=True, timed_out=False, timeouts=TIMEOUTS, url=url).text


def test_the_wrong_scheme_for_a_port_is_told() -> None:
    not_tls = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    not_tls.reason = "WRONG_VERSION_NUMBER"
    assert "with http://" in explained(WrappedError("x", reason=not_tls), "https://gpu:8188")
    assert "with https://" in explained(
        WrappedError("Aborted", BadStatusLine("\x15\x03\x03\x00\x02")), "http://gpu:8188"
    )
    reset = ConnectionResetError(104, "Connection reset by peer")
    assert "with https://" in explained(WrappedError(reset), "http://gpu:8188")
    for other, url in ((reset, "https://gpu:8188"), (REFUSED, "http://gpu:8188"), (untrusted(), "https://gpu:8188")):
        assert "://" not in explained(other, url)
