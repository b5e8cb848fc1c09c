from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from airflow_provider_modelslab.net import addresses
from airflow_provider_modelslab.net.addresses import (
    AddressError,
    PrivateAddressError,
    UnknownHostError,
    check_host,
    check_written_host,
    checked_call,
)
from airflow_provider_modelslab.net.call_limit import CallLimit
from tests.support.scripted_server import Answer, HangUp, ScriptedServer


def call(method: str, url: str, **options: Any) -> int:
    arguments: dict[str, Any] = {"allow_private": True, "timeout": (5.0, 5.0), "headers": {}, **options}
    arguments.setdefault("limit", CallLimit(60))
    with checked_call(method, url, **arguments) as response:
        return response.status_code


@pytest.fixture
def resolves_to(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of every name."""
    found: list[str] = []
    monkeypatch.setattr(addresses, "resolve", lambda _host, _port: found)
    return found


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "0", "127.1", "0x7f000001", "2130706433", "10.0.0.8", "169.254.169.254", "[::1]", "[fd00::1]"),
        *("[::ffff:10.0.0.1]", "localhost", "LOCALHOST.", "files.localhost"),
    ],
)
def test_hosts_that_are_seen_to_be_closed_without_a_look_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "resolve", lambda *_: pytest.fail("looked up"))
    with pytest.raises(PrivateAddressError, match="which is outside the public internet"):
        check_written_host(f"https://{host}:8443/hook")


@pytest.mark.parametrize("host", ["hooks.example", "1.1.1.1", "[2606:4700::1111]", "localhost.example", "notlocalhost"])
def test_hosts_that_need_a_look_up_or_are_open(host: str) -> None:
    check_written_host(f"https://{host}/hook")


@pytest.mark.parametrize(
    "url", ["ftp://hooks.example/", "http:///hook", "http://[::1", "http://h:port/", "http://a..b/"]
)
def test_what_is_no_link(url: str) -> None:
    for check in (check_written_host, lambda link: check_host(link, allow_private=True)):
        with pytest.raises(AddressError, match=r"not a valid link|only http"):
            check(url)


def test_one_closed_address_closes_the_host(resolves_to: list[str]) -> None:
    resolves_to += ["93.184.216.34", "10.0.0.8"]
    with pytest.raises(PrivateAddressError, match=r"the host two.example has the address 10.0.0.8"):
        check_host("http://two.example/", allow_private=False)
    assert check_host("http://two.example/", allow_private=True) == resolves_to
    del resolves_to[1]
    assert check_host("http://two.example/", allow_private=False) == ["93.184.216.34"]


def test_an_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(addresses, "resolve", resolve)
    with pytest.raises(UnknownHostError, match=r"the host gone.example is not known"):
        check_host("http://gone.example/", allow_private=True)


def test_nothing_arrives_at_a_closed_address() -> None:
    with ScriptedServer(Answer()) as server:
        with pytest.raises(PrivateAddressError):
            call("POST", server.url, allow_private=False)
        assert server.connections == 0


def test_it_connects_to_what_was_checked_and_names_the_host(resolves_to: list[str]) -> None:
    resolves_to += ["127.0.0.2", "127.0.0.1"]  # nobody listens on the first
    with ScriptedServer(Answer()) as server:
        assert call("POST", f"http://Hooks.invalid:{server.port}/a?b=c", data=b"{}", headers={"X-Mine": "1"}) == 200
    [request] = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/a?b=c", b"{}")
    assert request.headers["host"] == f"hooks.invalid:{server.port}"
    assert request.headers["x-mine"] == "1"


def test_a_name_in_other_letters_is_asked_for_in_ascii(resolves_to: list[str]) -> None:
    resolves_to.append("127.0.0.1")
    with ScriptedServer(Answer()) as server:
        assert call("GET", f"http://żółw.invalid:{server.port}/") == 200
    assert server.requests[0].headers["host"] == f"xn--w-uga1v8h.invalid:{server.port}"


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("http://h.example:80/", "h.example"),
        ("https://h.example:443/", "h.example"),
        ("https://h.example:80/", "h.example:80"),
        ("https://[2606:4700::1111]/", "[2606:4700::1111]"),
        ("https://[2606:4700::1111]:8443/", "[2606:4700::1111]:8443"),
        ("https://me:word@h.example/", "h.example"),
    ],
)
def test_the_host_header(url: str, header: str) -> None:
    assert addresses._host_header(url) == header


def test_no_credentials_no_cookies_no_proxies_no_redirects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resolves_to: list[str]
) -> None:
    (tmp_path / "netrc").write_text("machine hooks.invalid login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.3:9")
    resolves_to.append("127.0.0.1")
    redirect = Answer(status=302, headers={"Location": "/elsewhere", "Set-Cookie": "session=1"})
    with ScriptedServer(redirect) as server:
        for _ in range(2):
            assert call("POST", f"http://me:word@hooks.invalid:{server.port}/hook") == 302
    assert server.paths == ["/hook", "/hook"]
    for request in server.requests:
        assert not {"authorization", "cookie"} & set(request.headers)


@pytest.mark.parametrize(("method", "tries"), [("POST", 1), ("PUT", 1), ("GET", 2)])
def test_what_has_arrived_is_not_sent_to_the_next_address(method: str, tries: int, resolves_to: list[str]) -> None:
    resolves_to += ["127.0.0.1", "127.0.0.1"]
    with ScriptedServer(HangUp()) as server:
        with pytest.raises(requests.ConnectionError):
            call(method, f"http://hooks.invalid:{server.port}/hook", data=b"{}")
        assert len(server.requests) == tries


@pytest.mark.parametrize(("name", "trusted"), [("hooks.example", True), ("other.example", False)])
def test_tls_asks_for_the_certificate_of_the_name(
    name: str, trusted: bool, tmp_path: Path, resolves_to: list[str]
) -> None:
    resolves_to.append("127.0.0.1")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(context)
    with ScriptedServer(Answer(), tls=context) as server:
        url = f"https://{name}:{server.port}/hook"
        if trusted:
            assert call("POST", url, ca_bundle=str(tmp_path / "ca.pem")) == 200
        else:
            with pytest.raises(requests.exceptions.SSLError):
                call("POST", url, ca_bundle=str(tmp_path / "ca.pem"))
        assert server.posts == trusted
