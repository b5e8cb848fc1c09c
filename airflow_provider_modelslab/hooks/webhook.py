"""Webhook settings: two fields of a connection's extra, read by the submitting task and by the receiving API server.

The URL contains a secret, so it is built immediately before a submit and never stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from airflow_provider_modelslab.api.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_modelslab.api.endpoint_request import EndpointRequest

__all__ = ["WEBHOOK_PATH", "WebhookSettings", "with_webhook"]

WEBHOOK_PATH = "/modelslab/webhook"
"""Path of the webhook below the API server's base URL; the token follows."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Push instead of poll for one connection. Disabled if both fields are empty.

    :param base_url: the API server's URL as reached from the endpoint, for example ``https://airflow.example.com``.
    :param tokens: the accepted secrets; a webhook must carry one of them. Submits send the first; the others are still
        accepted, so that a token can be replaced while jobs run.
    """

    base_url: str | None = None
    tokens: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any] | None) -> Self:
        """Read ``webhook_url`` and ``webhook_token`` (several are joined by commas) of a connection's extra.

        :raises InvalidRequestError: for an invalid URL, a URL without a token, or a token that can be guessed; a token
            is never shown.
        """
        given = {name: str((extra or {}).get(name) or "").strip() for name in ("webhook_url", "webhook_token")}
        tokens = tuple(part.strip() for part in given["webhook_token"].split(",") if part.strip())
        url = given["webhook_url"].rstrip("/") or None
        if not all(_TOKEN.fullmatch(token) for token in tokens):
            raise InvalidRequestError.of(
                "webhook_token",
                "in the connection's extra is not valid. It must have 32 to 128 random letters, digits, - and _, for "
                "example from `openssl rand -hex 32`. Several tokens are joined by commas",
            )
        if url is not None:
            _check_url(url)
            if not tokens:
                raise InvalidRequestError.of(
                    "webhook_token", "is required in the connection's extra if webhook_url is given"
                )
        return cls(url, tokens)

    @property
    def target(self) -> str | None:
        """The URL that the endpoint calls, including the secret; ``None`` if webhooks are disabled."""
        return f"{self.base_url}{WEBHOOK_PATH}/{self.tokens[0]}" if self.base_url and self.tokens else None


def with_webhook(request: EndpointRequest, extra: Mapping[str, Any] | None) -> EndpointRequest:
    """The request with the connection's webhook, unless it has its own.

    :raises InvalidRequestError: see :meth:`WebhookSettings.from_extra`.
    """
    if request.webhook is not None:
        return request
    target = WebhookSettings.from_extra(extra).target
    return request if target is None else request.model_copy(update={"webhook": target})


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        fine = fine and not parts.query and not parts.fragment and not any(c.isspace() for c in url)
    except ValueError:
        fine = False
    if not fine:
        raise InvalidRequestError.of(
            "webhook_url",
            "must be the http(s) URL under which the endpoint reaches Airflow's API server, without user, password "
            f"and query; got one that begins {url[:8]!r}",
        )
    if parts.path.endswith(WEBHOOK_PATH):
        raise InvalidRequestError.of("webhook_url", f"must not contain {WEBHOOK_PATH}, which is added to it")
