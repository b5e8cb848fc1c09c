"""Which hosts a stranger's link may reach, and connecting to just the address that was checked."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from requests.adapters import HTTPAdapter

__all__ = ["PinnedAdapter", "is_public", "resolve"]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def resolve(host: str, port: int) -> list[str]:
    """Every address of a host, in the order in which the system would try them.

    :raises OSError: when there is none. The time for it is the system resolver's; Python cannot limit it.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an IP address is of the public internet: not private, loopback, link-local, multicast or reserved."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        # These reach the IPv4 host that is written inside of them.
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class PinnedAdapter(HTTPAdapter):
    """Connects to ``address``, while TLS still asks for the certificate of ``host``.

    The caller sends the ``Host`` header itself: urllib3 would name the address.
    """

    def __init__(self, host: str, address: str) -> None:
        self._host = host
        self._address = address
        super().__init__()

    # Any: requests' own types differ between its versions, and name none of the keys that urllib3 takes.
    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """The place where requests lets a subclass choose the connection."""
        host_params, pool_kwargs = super().build_connection_pool_key_attributes(request, verify, cert)
        names = {"server_hostname": self._host, "assert_hostname": self._host}  # urllib3 drops them for plain http
        return {**host_params, "host": self._address}, {**pool_kwargs, **names}
