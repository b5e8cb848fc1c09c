"""Outbound policy: which hosts a caller's link may name, and requests to exactly the address that was checked."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from airflow_provider_modelslab.net.call_limit import CallLimit, CallLimitError, LimitedAdapter, LimitedSession

__all__ = [
    "AddressError",
    "PinnedAdapter",
    "PrivateAddressError",
    "UnknownHostError",
    "check_host",
    "check_written_host",
    "checked_call",
    "is_public",
    "resolve",
]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}


class AddressError(ValueError):
    """A link that is refused. The text gives the reason without the link."""


class PrivateAddressError(AddressError):
    """The host has an address outside the public internet."""


class UnknownHostError(AddressError):
    """The host has no address, at least now."""


def resolve(host: str, port: int) -> list[str]:
    """Every address of a host, in the order in which the system would try them.

    :raises OSError: when there is none. The system resolver's time-out applies; Python cannot shorten it.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an IP address is of the public internet: not private, loopback, link-local, multicast or reserved."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        # These addresses contain the IPv4 address that they lead to.
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class PinnedAdapter(LimitedAdapter):
    """Connects to ``address``, while TLS still verifies the certificate of ``host``.

    The caller sets the ``Host`` header: urllib3 would send the address.
    """

    def __init__(self, host: str, address: str) -> None:
        self._host = host
        self._address = address
        super().__init__()

    # Any: requests' own types differ between its versions, and lack the keys that urllib3 accepts.
    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """Overrides the hook by which requests lets a subclass choose the connection."""
        host_params, pool_kwargs = super().build_connection_pool_key_attributes(request, verify, cert)
        names = {"server_hostname": self._host, "assert_hostname": self._host}  # urllib3 drops them for plain http
        return {**host_params, "host": self._address}, {**pool_kwargs, **names}


def check_host(url: str, *, allow_private: bool) -> list[str]:
    """Every address of a link's host, in the order in which the system would try them, all of them checked.

    :param allow_private: also accept addresses outside the public internet.
    :raises UnknownHostError: when there is none.
    :raises PrivateAddressError: when one of them is private.
    :raises AddressError: when ``url`` is not an http(s) link.
    """
    host, port = _host_and_port(url)
    try:
        addresses = resolve(host, port)
    except OSError:
        raise UnknownHostError(f"the host {host} is not known") from None
    if not allow_private:
        _refuse_private(host, addresses)
    return addresses


def check_written_host(url: str) -> None:
    """Refuse private IP addresses in any notation and localhost, without a DNS look-up.

    :raises AddressError: as :func:`check_host`.
    """
    host, port = _host_and_port(url)
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        _refuse_private(host, ["127.0.0.1"])
    try:
        # The system's own reading: 0, 127.1 and 2130706433 are addresses as well.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return
    _refuse_private(host, [str(entry[4][0]) for entry in found])


@contextmanager
def checked_call(
    method: str,
    url: str,
    *,
    allow_private: bool,
    limit: CallLimit,
    timeout: tuple[float, float],
    headers: Mapping[str, Any],
    data: Any = None,
    ca_bundle: str | None = None,
) -> Iterator[requests.Response]:
    """One request to exactly the address that was checked, which prevents DNS rebinding.

    Redirects are not followed, and the body of the response is not read yet. No credentials or cookies are sent, and no
    proxies of the environment are used, since a proxy would resolve the host again.

    The addresses of the host are tried in turn. A request other than GET goes to the next address only if no connection
    was made, so that nothing arrives twice.

    :param limit: for the whole call, including reading the response.
    :param timeout: seconds to connect to each address, and seconds without a byte.
    :param ca_bundle: by default that of ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE``, else certifi's.
    :raises AddressError: as :func:`check_host`.
    :raises requests.RequestException: when there was no response.
    """
    addresses = check_host(url, allow_private=allow_private)
    with LimitedSession() as session, limit.applied():
        session.trust_env = False  # no .netrc, no proxies
        environment = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        session.verify = ca_bundle or environment or True
        with _first_answer(session, method, url, addresses, limit, timeout, headers, data) as response:
            yield response


def _first_answer(
    session: requests.Session,
    method: str,
    url: str,
    addresses: list[str],
    limit: CallLimit,
    timeout: tuple[float, float],
    headers: Mapping[str, Any],
    data: Any,
) -> requests.Response:
    host, _ = _host_and_port(url)
    failure: requests.RequestException | None = None
    for address in addresses:
        try:
            limit.check()
        except CallLimitError as error:
            raise requests.Timeout(error) from None
        for scheme in _PORTS:
            session.mount(f"{scheme}://", PinnedAdapter(host, address))
        try:
            return session.request(
                method,
                url,
                # urllib3 would name the address as the host, since it connects to that.
                headers={"Accept-Encoding": "identity", **headers, "Host": _host_header(url)},
                data=data,
                auth=lambda prepared: prepared,  # nor user and password of the link
                allow_redirects=False,
                stream=True,
                timeout=limit.timeouts(*timeout),
            )
        except requests.RequestException as error:
            if method != "GET" and not _never_connected(error):
                raise
            failure = error
    raise failure or requests.ConnectionError("the host has no address")


def _never_connected(error: requests.RequestException) -> bool:
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, urllib3.exceptions.NewConnectionError)


def _refuse_private(host: str, addresses: list[str]) -> None:
    for address in addresses:
        if not is_public(address):
            problem = f"the host {host} has the address {address}, which is outside the public internet"
            raise PrivateAddressError(problem)


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        raise AddressError("is not a valid link") from None
    if parts.scheme not in _PORTS or not host:
        raise AddressError("only http(s) links can be read")
    return host, port


def _host_header(url: str) -> str:
    host, port = _host_and_port(url)
    name = f"[{host}]" if ":" in host else host
    return name if port == _PORTS[urlsplit(url).scheme] else f"{name}:{port}"
