"""Errors of gateways which prove that a request was not forwarded, according to the gateways' documentation.

A submit is paid, so this list is short and its matching is strict: the status, the whole text, and for Cloudflare its
``Server`` header too. Everything else counts as an unknown outcome: 500, 502 and 504 of any server, the 503 of nginx
and of AWS load balancers (it does not say whether a server was reached), Cloudflare's 520, 522 and 524 (a connection
may have been made), and each text below with another status, or quoted within another text.

A gateway that is configured to repeat POSTs may have delivered an earlier one. Envoy says so ("retried and the latest
reset reason"), and that text does not count as evidence.

=========== ============================================================== ============================================
gateway     answer                                                         documented at
=========== ============================================================== ============================================
Envoy       503, "no healthy upstream" (flag UH); "... reset reason:       https://www.envoyproxy.io/docs/envoy/latest/
            [local or remote] connection failure" (flag UF)                configuration/observability/access_log/usage
HAProxy     503, "No server is available to handle this request."          https://docs.haproxy.org/3.2/
                                                                           configuration.html#1.3.1
Cloudflare  521 (the origin refuses the connection), 523 (no route to      https://developers.cloudflare.com/support/
            it), 525 (TLS handshake failed), 526 (its certificate is       troubleshooting/http-status-codes/
            invalid, so no connection is made)                             cloudflare-5xx-errors/
Cloudflare  530 with error 1016 (the origin's name cannot be resolved)     https://developers.cloudflare.com/support/
            or 1033 (no tunnel to it)                                      troubleshooting/http-status-codes/
                                                                           cloudflare-1xxx-errors/
=========== ============================================================== ============================================
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_modelslab.client.config import HttpResponse

__all__ = ["refused_by_gateway"]

_ENVOY = re.compile(
    r"no healthy upstream"
    r"|upstream connect error or disconnect/reset before headers\. "
    r"reset reason: (?:(?:local|remote) )?connection failure(?:, transport failure reason: [^\r\n]*)?"
)
_HAPROXY = re.compile(
    r"<html><body><h1>503 Service Unavailable</h1>\s+No server is available to handle this request\.\s+</body></html>"
)
_CLOUDFLARE = {521: {521}, 523: {523}, 525: {525}, 526: {526}, 530: {1016, 1033}}
"""The codes of Cloudflare's own errors that count as evidence, by HTTP status."""

_CLOUDFLARE_CODE = re.compile(r"error code:? (\d{3,4})", re.IGNORECASE)  # plain text, or within its HTML page
_CLOUDFLARE_PAGE = 'id="cf-error-details"'
_MAX_BYTES = 64 * 1024  # Cloudflare's page has 10 kB; a longer one is not Cloudflare's


def refused_by_gateway(reply: HttpResponse) -> str | None:
    """The gateway's error, if it proves that the request did not reach the server behind it; else ``None``."""
    if reply.status < 500 or len(reply.body) > _MAX_BYTES:
        return None
    text = reply.body.decode("utf-8", "replace").strip()
    if reply.status == 503:
        return text if _ENVOY.fullmatch(text) or _HAPROXY.fullmatch(text) else None
    evidence = _CLOUDFLARE.get(reply.status)
    if evidence is None or (reply.server or "").strip().lower() != "cloudflare":
        return None
    code = _cloudflare_code(text)
    return f"Cloudflare error {code}" if code in evidence else None


def _cloudflare_code(text: str) -> int | None:
    """The code of Cloudflare's own error response: in plain text, JSON, or its HTML page.

    Cloudflare adds its header to the origin's responses too, so the header alone proves nothing.
    """
    if found := _CLOUDFLARE_CODE.fullmatch(text):
        return int(found[1])
    if text.startswith("{"):
        try:
            error = json.loads(text)
        except ValueError:
            return None
        code = error.get("error_code")
        return code if error.get("cloudflare_error") is True and isinstance(code, int) else None
    codes = {int(code) for code in _CLOUDFLARE_CODE.findall(text)} if _CLOUDFLARE_PAGE in text else set()
    return codes.pop() if len(codes) == 1 else None
