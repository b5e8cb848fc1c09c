"""The links on a task, and the XCom with their targets, which the task updates while it waits and when it is done.

A link contains no secret. Objects in S3 are opened through the API server
(``airflow_provider_modelslab.plugins.media.plugin``), which checks the user's permissions and signs a new URL at each
click: a stored URL would expire within days, and would open the clip to everyone who can read an XCom. Public http(s)
links are used as they are.

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
from airflow_provider_modelslab.links.videos import push_video

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
"""Path of the links on the API server."""

FACTS_KEY = "modelslab_links"
"""The XCom with the targets of a task's links: ``source``, ``result``, ``manifest``, ``job_id``, ``conn_id``."""

_FACTS = ("source", "result", "manifest", "job_id", "conn_id", "loop_index")
_TARGETS = "_modelslab_link_facts"


class TaskLocation(Protocol):
    """The ids of a task instance."""

    @property
    def dag_id(self) -> str: ...  # noqa: D102
    @property
    def run_id(self) -> str: ...  # noqa: D102
    @property
    def task_id(self) -> str: ...  # noqa: D102
    @property
    def map_index(self) -> int | None: ...  # noqa: D102


def media_url(task: TaskLocation, what: str, loop_index: str | None = None) -> str:
    """The link's path on Airflow's own host, below the path of ``[api] base_url`` where it has one.

    :param what: ``result``, ``source``, ``manifest`` or ``job``.
    :param loop_index: the iteration of a task in a loop.
    """
    index = -1 if task.map_index is None else task.map_index
    query = {"dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id, "map_index": index, "what": what}
    if loop_index is not None:
        query["loop_index"] = loop_index
    return f"{base_path()}{MEDIA_PREFIX}/?{urlencode(query)}"


def base_path() -> str:
    """The path below which the API server is published: that of ``[api] base_url``; empty for most."""
    return urlsplit(str(conf.get("api", "base_url", fallback="") or "")).path.rstrip("/")


class _Link(BaseOperatorLink):
    """One of the links. Airflow calls it on the worker at the end of each run segment, and stores the result."""

    what: ClassVar[str]
    fact: ClassVar[str]

    @property
    def xcom_key(self) -> str:
        """The XCom in which Airflow stores the link."""
        return f"_link_{type(self).__name__}"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The link; an empty text while it has no target."""
        return self.url(_stored(operator, ti_key), ti_key)

    def url(self, targets: Mapping[str, str], task: TaskLocation) -> str:
        """The link for the targets that a task has stored."""
        target = targets.get(self.fact)
        if not target:
            return ""
        return str(target) if is_http_link(str(target)) else media_url(task, self.what, targets.get("loop_index"))


class ModelsLabResultLink(_Link):
    """To the video, which plays in the browser; until it has landed, to a page that reloads itself."""

    name = "Result"
    what = fact = "result"


class ModelsLabSourceLink(_Link):
    """To the clip that was restyled."""

    name = "Source"
    what = fact = "source"


class ModelsLabManifestLink(_Link):
    """To the JSON with the request and the result: a clip's sidecar, a batch's results manifest."""

    name = "Manifest"
    what = fact = "manifest"


class ModelsLabJobLink(_Link):
    """To a page with the job's state, fetched from the endpoint each time it is opened."""

    name = "Job at the endpoint"
    what = "job"
    fact = "job_id"


def push_links(context: Context, operator: BaseOperator, **facts: object) -> None:
    """Store the targets of the operator's links. Never raises: a failed link must not fail a paid task.

    Call it before waiting, so that the links are shown meanwhile, and again when there are more targets.

    :param facts: any of ``source``, ``result``, ``manifest`` (``s3://`` URIs, or http(s) links, which are left out when
        they have a query, since it may be a signature), ``job_id`` and ``conn_id``. ``None`` changes nothing.
    """
    if not getattr(operator, "do_xcom_push", True):
        return
    try:
        ti = context["ti"]
        before = _stored(operator, ti)
        index = loop_index(context)
        facts["loop_index"] = None if index is None else str(index)
        targets = {**before, **{name: text for name in _FACTS if (text := _shown(name, facts.get(name)))}}
        setattr(operator, _TARGETS, targets)
        if targets == before:
            return
        ti.xcom_push(key=FACTS_KEY, value=targets)
        links: Collection[Any] = operator.operator_extra_links
        for link in links:
            if isinstance(link, _Link) and targets.get(link.fact) not in {None, before.get(link.fact)}:
                ti.xcom_push(key=link.xcom_key, value=link.url(targets, ti))
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("The task's links are not stored: %s: %s", type(error).__name__, error)


def push_manifest_links(context: Context, operator: BaseOperator, manifest: Mapping[str, Any]) -> None:
    """:func:`push_links` with the targets in the manifest that a task of one clip returns, and :func:`push_video`."""
    push_video(context, operator, manifest)
    job_id, conn_id = str(manifest.get("job_id") or ""), manifest.get("conn_id")
    place = (manifest.get("made_by") or {}).get("modelslab_conn_id", conn_id)
    push_links(
        context,
        operator,
        result=manifest.get("uri") or next(iter(manifest.get("links") or ()), None),
        manifest=manifest.get("sidecar_uri"),
        job_id=None if job_id.startswith("local-") or place != conn_id else job_id,
        conn_id=conn_id,
    )


def _stored(operator: BaseOperator, ti: Any) -> dict[str, str]:
    """The targets that this task has stored so far: in this process, else before it was deferred."""
    targets: dict[str, str] | None = getattr(operator, _TARGETS, None)
    if targets is None and hasattr(ti, "xcom_pull"):
        index = -1 if ti.map_index is None else ti.map_index
        targets = ti.xcom_pull(task_ids=ti.task_id, key=FACTS_KEY, map_indexes=index)
    return dict(targets) if isinstance(targets, Mapping) else {}


def _shown(name: str, fact: object) -> str | None:
    """A target as it may be stored; ``None`` for targets without a link: local files, prefixes, signed links."""
    if not isinstance(fact, str) or not fact.strip():
        return None
    if name in {"job_id", "conn_id", "loop_index"}:
        return fact
    if is_http_link(fact):
        parts = urlsplit(fact)
        return None if parts.query or parts.fragment or "@" in parts.netloc else fact
    return fact if fact.startswith("s3://") and not fact.endswith("/") else None
