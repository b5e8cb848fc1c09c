"""The links that a task shows, and what it tells for them: while it waits, and when it is done.

A link holds no secret. What is in S3 is reached through the API server
(``airflow_provider_modelslab.plugins.media.plugin``), which asks who is there and signs a fresh URL at each click: one
that a task had stored would have expired within days, and would have opened the clip to whoever can read an XCom.
Public http(s) links lead straight to where they point.

Every Dag imports this module, so it imports nothing that an operator has not imported already.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from urllib.parse import urlencode, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink, conf

from airflow_provider_modelslab.api.links import is_http_link
from airflow_provider_modelslab.compat import loop_index

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

__all__ = [
    "FACTS_KEY",
    "MEDIA_PREFIX",
    "ModelsLabJobLink",
    "ModelsLabManifestLink",
    "ModelsLabResultLink",
    "ModelsLabSourceLink",
    "TaskLocation",
    "base_path",
    "media_url",
    "push_links",
    "push_manifest_links",
]

log = logging.getLogger(__name__)

MEDIA_PREFIX = "/modelslab/media"
"""Where the API server answers to the links."""

FACTS_KEY = "modelslab_links"
"""The XCom with what a task's links lead to: ``source``, ``result``, ``manifest``, ``job_id``, ``conn_id``."""

_FACTS = ("source", "result", "manifest", "job_id", "conn_id", "loop_index")
_HELD = "_modelslab_link_facts"


class TaskLocation(Protocol):
    """What names a task instance."""

    @property
    def dag_id(self) -> str: ...  # noqa: D102
    @property
    def run_id(self) -> str: ...  # noqa: D102
    @property
    def task_id(self) -> str: ...  # noqa: D102
    @property
    def map_index(self) -> int | None: ...  # noqa: D102


def media_url(place: TaskLocation, what: str, loop_index: str | None = None) -> str:
    """The link's path on Airflow's own host, below the path of ``[api] base_url`` where it has one.

    :param what: ``result``, ``source``, ``manifest`` or ``job``.
    :param loop_index: the iteration of a task in a loop.
    """
    index = -1 if place.map_index is None else place.map_index
    query = {"dag_id": place.dag_id, "run_id": place.run_id, "task_id": place.task_id, "map_index": index, "what": what}
    if loop_index is not None:
        query["loop_index"] = loop_index
    return f"{base_path()}{MEDIA_PREFIX}/?{urlencode(query)}"


def base_path() -> str:
    """The path below which the API server is published: that of ``[api] base_url``; empty for most."""
    return urlsplit(str(conf.get("api", "base_url", fallback="") or "")).path.rstrip("/")


class _Link(BaseOperatorLink):
    """One of the links. Airflow asks it on the worker at the end of each run segment, and keeps the answer."""

    what: ClassVar[str]
    fact: ClassVar[str]

    @property
    def xcom_key(self) -> str:
        """Where Airflow keeps the link."""
        return f"_link_{type(self).__name__}"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The link, or an empty text while there is nothing to show."""
        return self.url(_told(operator, ti_key), ti_key)

    def url(self, told: Mapping[str, str], place: TaskLocation) -> str:
        """The link for what a task told."""
        fact = told.get(self.fact)
        if not fact:
            return ""
        return str(fact) if is_http_link(str(fact)) else media_url(place, self.what, told.get("loop_index"))


class ModelsLabResultLink(_Link):
    """To the video: plays in the browser; a page that reloads itself until it is there."""

    name = "Result"
    what = fact = "result"


class ModelsLabSourceLink(_Link):
    """To the clip that was restyled."""

    name = "Source"
    what = fact = "source"


class ModelsLabManifestLink(_Link):
    """To the JSON that says how it was made: a clip's sidecar, a batch's results manifest."""

    name = "Manifest"
    what = fact = "manifest"


class ModelsLabJobLink(_Link):
    """To a page that asks the endpoint for the job's state at each look."""

    name = "Job at the endpoint"
    what = "job"
    fact = "job_id"


def push_links(context: Context, operator: BaseOperator, **facts: object) -> None:
    """Store what the operator's links lead to. Never raises: a link is not worth a paid task.

    Call it before waiting, so that the links show meanwhile, and again when there is more to tell.

    :param facts: any of ``source``, ``result``, ``manifest`` (``s3://`` URIs, or http(s) links, which are left out when
        they have a query, since it may be a signature), ``job_id`` and ``conn_id``. ``None`` says nothing.
    """
    if not getattr(operator, "do_xcom_push", True):
        return
    try:
        ti = context["ti"]
        before = _told(operator, ti)
        index = loop_index(context)
        facts["loop_index"] = None if index is None else str(index)
        told = {**before, **{name: text for name in _FACTS if (text := _shown(name, facts.get(name)))}}
        setattr(operator, _HELD, told)
        if told == before:
            return
        ti.xcom_push(key=FACTS_KEY, value=told)
        links: Collection[Any] = operator.operator_extra_links
        for link in links:
            if isinstance(link, _Link) and told.get(link.fact) and told.get(link.fact) != before.get(link.fact):
                ti.xcom_push(key=link.xcom_key, value=link.url(told, ti))
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("The task's links are not stored: %s: %s", type(error).__name__, error)


def push_manifest_links(context: Context, operator: BaseOperator, manifest: Mapping[str, Any]) -> None:
    """The same from what a task of one clip returns."""
    job_id = str(manifest.get("job_id") or "")
    push_links(
        context,
        operator,
        result=manifest.get("uri") or next(iter(manifest.get("links") or ()), None),
        manifest=manifest.get("sidecar_uri"),
        job_id=None if job_id.startswith("local-") else job_id,
        conn_id=manifest.get("conn_id"),
    )


def _told(operator: BaseOperator, ti: Any) -> dict[str, str]:
    """What this task has told so far: in this process, else before it was deferred."""
    held: dict[str, str] | None = getattr(operator, _HELD, None)
    if held is None and hasattr(ti, "xcom_pull"):
        index = -1 if ti.map_index is None else ti.map_index
        held = ti.xcom_pull(task_ids=ti.task_id, key=FACTS_KEY, map_indexes=index)
    return dict(held) if isinstance(held, Mapping) else {}


def _shown(name: str, fact: object) -> str | None:
    """A fact as it may be stored; ``None`` for what no link can lead to: local files, prefixes, signed links."""
    if not isinstance(fact, str) or not fact.strip():
        return None
    if name in {"job_id", "conn_id", "loop_index"}:
        return fact
    if is_http_link(fact):
        parts = urlsplit(fact)
        return None if parts.query or parts.fragment or "@" in parts.netloc else fact
    return fact if fact.startswith("s3://") and not fact.endswith("/") else None
