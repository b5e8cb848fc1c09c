"""What a person may set about their own endpoint."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from airflow_provider_modelslab.endpoint.faults.plan import FaultPlan

__all__ = ["AnswerStyle", "Settings", "UnknownAttributes"]

AnswerStyle = Literal["legacy", "documented"]
"""``legacy``: errors inside HTTP 200, as the vendor's servers have long answered; ``documented``: the HTTP statuses and
plain messages of the vendor's current documents."""

UnknownAttributes = Literal["misspelt", "all", "none"]
"""Which attributes outside of the vendor's page are refused. The vendor ignores them, so a test double has to take what
its callers send beyond the page; ``misspelt`` refuses those that are almost an attribute of the page, which would
otherwise change a paid job without a word."""

_ADMIN_KEY = "MODELSLAB_ENDPOINT_ADMIN_KEY"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the endpoint behaves. Times are seconds.

    :param state_dir: where the queue, the S3 details and the finished files live; one endpoint at a time uses it.
    :param host: the address it listens on.
    :param allowed_hosts: further names that callers may use for it, see :mod:`.hosts`; ``*.example.com`` stands for all
        names below example.com, ``*`` for any name.
    :param public_url: base of the links in answers, such as ``http://gpu-box:8188``; when ``None``, the address under
        which each caller reached the endpoint.
    :param answers: which of the vendor's two styles of answers to give.
    :param hold_s: how long a submit without ``instant_response`` is held for the result before the answer is
        "processing". The vendor holds too, but does not document for how long.
    :param retention_s: how long results and their ids are kept; the vendor keeps them for 24 hours.
    :param publish_delay_s: how long a finished file on the endpoint's own storage still answers 404, as the vendor's
        links do for a while.
    :param api_keys: the keys that are accepted; empty accepts any key that is not empty, which only an endpoint may do
        that listens on loopback and has no ``public_url`` elsewhere.
    :param admin_key: the operator's key. It is accepted as the others are, clears the queue and restarts the workers of
        all keys, and is asked for by ``/admin``. Without it the only key of ``api_keys`` is the operator's.
    :param webhook_timeout_s: how long a webhook's receiver may take; the vendor says 30.
    :param allow_private_addresses: whether webhooks are called on, and results stored to, hosts of this machine and its
        private network, as whoever has a key can ask. ``init_video`` is read by the engine, within its own limits.
    :param max_queue: how many unfinished jobs one key may have (the vendor: 5, 10 or 15 by plan); ``None``: any number.
    :param max_total_queue: how many unfinished jobs all keys together may have; ``None``: any number.
    :param aliases: names under which callers may ask for a model: ``{"dark-sushi-mix": "demo"}``. Jobs, logs and
        answers name the model itself.
    :param preload: the models that each engine loads before its first job, by their own names or aliases.
    :param unknown_attributes: which attributes are refused that the vendor's page does not have.
    :param faults: which share of the calls goes wrong, for tests of clients; ``None``: none by plan.
    :param allow_request_faults: whether a request may ask for its own faults with the attribute ``x_faults``.
    :param admin: whether accepted jobs are written on a bill, and ``/admin/bills`` and ``/admin/reset`` are there.
        They ask for ``admin_key`` where there is one.
    :raises ValueError: naming the setting that cannot work.
    """

    state_dir: Path
    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ()
    public_url: str | None = None
    answers: AnswerStyle = "legacy"
    hold_s: float = 10.0
    retention_s: float = 86400.0
    publish_delay_s: float = 0.0
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    admin_key: str | None = field(default=None, repr=False)
    webhook_timeout_s: float = 30.0
    allow_private_addresses: bool = False
    max_queue: int | None = 10_000
    max_total_queue: int | None = 50_000
    aliases: Mapping[str, str] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
    unknown_attributes: UnknownAttributes = "misspelt"
    faults: FaultPlan | None = None
    allow_request_faults: bool = False
    admin: bool = False

    @property
    def misbehaves(self) -> bool:
        """Whether anything may go wrong on purpose."""
        return self.faults is not None or self.allow_request_faults

    @property
    def is_exposed(self) -> bool:
        """Whether others than this machine can reach it."""
        public = urlsplit(self.public_url).hostname if self.public_url else None
        return not (_is_loopback(self.host) and (public is None or _is_loopback(public)))

    def __post_init__(self) -> None:
        if self.answers not in get_args(AnswerStyle):
            raise ValueError(f"answers must be one of {', '.join(get_args(AnswerStyle))}; got {self.answers!r}")
        for name in ("hold_s", "publish_delay_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0 seconds; got {getattr(self, name)}")
        for name in ("retention_s", "webhook_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0 seconds; got {getattr(self, name)}")
        for name in ("max_queue", "max_total_queue"):
            most = getattr(self, name)
            if most is not None and most < 1:
                raise ValueError(f"{name} must be at least 1, or None for any number; got {most}")
        if self.unknown_attributes not in get_args(UnknownAttributes):
            choices = ", ".join(get_args(UnknownAttributes))
            raise ValueError(f"unknown_attributes must be one of {choices}; got {self.unknown_attributes!r}")
        for name, model in self.aliases.items():
            if not name.strip() or not model.strip() or model in self.aliases:
                raise ValueError(f"aliases must lead from a name to a model that is no alias; got {name!r}: {model!r}")
        if not all(key.strip() and key.isascii() for key in self.api_keys):
            raise ValueError("Each of api_keys must be ASCII and not empty; to accept every key, give no keys")
        if self.admin_key is not None and not (self.admin_key.strip() and self.admin_key.isascii()):
            raise ValueError("admin_key must be ASCII and not empty, or None")
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError(f"public_url must be an http(s) URL such as http://host:8188; got {self.public_url!r}")
        if self.is_exposed and not self.api_keys:
            raise ValueError(
                f"Other machines can reach {self.public_url or self.host}, so API keys are needed: set "
                "$MODELSLAB_ENDPOINT_API_KEY "
                "(or --api-key, or api_keys)"
            )
        if self.is_exposed and self.admin and self.admin_key is None:
            raise ValueError(
                f"Other machines can reach {self.public_url or self.host}, so /admin needs a key: set ${_ADMIN_KEY} "
                "(or --admin-key, or admin_key)"
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
