"""Answers the links on tasks: sends the object or redirects to a signed S3 link, or shows a page with the state.

The routes run in threads of the API server's pool, since the reads from database, S3 and endpoint block.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from airflow_provider_modelslab.api.errors import ErrorCode, ModelsLabError
from airflow_provider_modelslab.api.redaction import scrub, strip_query
from airflow_provider_modelslab.api.response import Answer, Failed, Finished
from airflow_provider_modelslab.compat import create_session
from airflow_provider_modelslab.links.media import base_path
from airflow_provider_modelslab.plugins.authorization.records import NOT_SUBMITTED, connection_of, names_job
from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage, open_store
from airflow_provider_modelslab.plugins.media.access import MAX_INDEX, Id, require_reader
from airflow_provider_modelslab.plugins.media.location import (
    FILES,
    What,
    is_task_location,
    is_verified,
    verified_sidecar,
)
from airflow_provider_modelslab.plugins.media.mode import media_mode
from airflow_provider_modelslab.plugins.media.page import HEADERS, page
from airflow_provider_modelslab.plugins.media.stream import media_type, stream_object
from airflow_provider_modelslab.plugins.task_results import ENDED, TaskResult, read_task
from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["make_app"]

_SHOWN_AS_TEXT = 8 * 1024 * 1024
_REFRESH_SECONDS = 5

_NOT_ITS_JOB = (
    "Only an XCom names this job. The task's ledger, the sidecar of its result and its arguments do not, so the "
    "endpoint is not polled. A task without a bucket has no ledger in S3: its job is shown while the task is deferred."
)
_NOT_ITS_LOCATION = (
    "Only an XCom names this {what}. By its arguments and its connection, the task writes to another location, so the "
    "{what} is not shown."
)

_READER = [Depends(require_reader)]


def show(
    request: Request,
    dag_id: Id,
    run_id: Id,
    task_id: Id,
    what: What,
    map_index: Annotated[int, Query(ge=-1, le=MAX_INDEX)] = -1,
    loop_index: Annotated[int | None, Query(ge=0, le=MAX_INDEX)] = None,
) -> Response:
    """Answer one link."""
    with create_session() as session:
        task = read_task(session, dag_id, run_id, task_id, map_index, loop_index)
    if task is None:
        raise HTTPException(404, "There is no such task instance")
    respond, facts = _Responder(request, task), task.facts
    fact = facts.get("job_id" if what == "job" else FILES[what])
    if not fact:
        return respond(404, "Nothing to show", f"This task has named no {what} so far.", again=task.state not in ENDED)
    try:
        conn_id = connection_of(task, facts.get("conn_id"))
        store = open_store(conn_id)
        if what != "job":
            return _file(respond, what, fact, store, task, facts)
        if fact != task.awaited_job and not names_job(task, store, fact, verified_sidecar(task, facts, store)):
            return respond(404, "Not shown", _NOT_ITS_JOB, {"Job": fact})
        return _job(respond, conn_id, fact)
    except ModelsLabError as error:
        return respond(502, "Request failed", str(error), {"Connection": facts.get("conn_id")})


class _Responder:
    """Builds the response: a page for browsers, JSON for programs."""

    def __init__(self, request: Request, task: TaskResult) -> None:
        self.request = request
        self._html = "text/html" in request.headers.get("Accept", "")
        parts = [task.dag_id, "runs", task.run_id, "tasks", task.task_id]
        mapped = ["mapped", str(task.map_index)] if task.map_index >= 0 else []
        path = "/".join([f"{base_path()}/dags", *(quote(part, safe="") for part in parts + mapped), "details"])
        named = {"loop_id": task.loop_id, "iteration": task.loop_index}
        self._back = path if task.loop_id is None else f"{path}?{urlencode(named)}"

    def __call__(
        self, status: int, title: str, text: str, facts: dict[str, Any] | None = None, *, again: bool = False
    ) -> Response:
        if not self._html:
            return JSONResponse({"title": title, "detail": text, **scrub(facts or {})}, status, headers=HEADERS)
        refresh = _REFRESH_SECONDS if again else None
        return HTMLResponse(page(title, text, scrub(facts or {}), back=self._back, refresh=refresh), status, HEADERS)


def _file(
    respond: _Responder, what: What, fact: str, store: GalleryStorage, task: TaskResult, facts: dict[str, str]
) -> Response:
    from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, is_missing, storage_error

    if not fact.startswith("s3://"):
        return respond(200, "Elsewhere", f"This task's {what} is not in S3.", {what.title(): strip_query(fact)})
    uri = S3Uri.parse(fact)
    # Checked before S3 is read, so that the response does not reveal whether another task's object exists.
    if what == "source":
        refusal = None if is_verified(what, uri, task, facts, store) else NOT_SUBMITTED
    else:
        refusal = None if is_task_location(what, uri, task, store.profile) else _NOT_ITS_LOCATION.format(what=what)
    if refusal:
        return respond(404, "Not shown", refusal, {"State of the task": task.state, "Location": str(uri)})
    try:
        head = store.s3.head_object(Bucket=uri.bucket, Key=uri.key)
    except S3_ERRORS as error:
        if not is_missing(error, uri, store.s3):
            raise storage_error(error, uri) from error
        head = None
    if head is None or (what != "source" and not is_verified(what, uri, task, facts, store)):
        return _missing(respond, what, uri, task, exists=head is not None)
    size = head["ContentLength"]
    kind = media_type(uri.key)
    if what in {"manifest", "sidecar"}:
        kind = "application/json" if uri.key.endswith(".json") else "text/plain; charset=utf-8"
    if what in {"manifest", "sidecar"} and size <= _SHOWN_AS_TEXT:
        body = store.read_uncached(uri, _SHOWN_AS_TEXT) or b""
        return Response(body, media_type=kind, headers=HEADERS)
    if media_mode() == "stream":
        try:
            return stream_object(store.s3, uri, respond.request, content_type=kind, size=size, etag=head["ETag"])
        except S3_ERRORS as error:
            raise storage_error(error, uri) from error
    link = store.profile.public_link(uri) or store.link(uri)
    return RedirectResponse(link, 307, headers=HEADERS)


def _missing(respond: _Responder, what: What, uri: S3Uri, task: TaskResult, *, exists: bool) -> Response:
    facts = {"State of the task": task.state, "Location": str(uri)}
    if task.state not in ENDED and what != "source":
        return respond(404, "Not there yet", f"The {what} is written when the job is done.", facts, again=True)
    if not exists:
        text = f"There is no {what} at this location: it was not written, or was deleted."
        return respond(404, "Not there", text, facts)
    text = f"An object exists, but no sidecar beside it confirms that it is this task's {what}. It is not shown."
    return respond(404, "Not shown", text, facts)


def _job(respond: _Responder, conn_id: str, job_id: str) -> Response:
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

    hook = ModelsLabHook(conn_id)
    answer: Answer = hook.fetch(job_id)
    facts: dict[str, Any] = {"Job": job_id, "Endpoint": hook.base_url, "Connection": conn_id}
    if isinstance(answer, Finished):
        seconds = answer.generation_time
        timing = {} if seconds is None else {"Generation time": f"{seconds:.2f} s"}
        links = {f"Link {n}": strip_query(link) for n, link in enumerate(answer.links, 1)}
        text = "These links expire after 24 hours, unless the endpoint stores its results in your bucket."
        return respond(200, "The job is done", text, facts | timing | links)
    if isinstance(answer, Failed):
        if answer.code is ErrorCode.JOB_LOST:
            return respond(200, "The endpoint does not know this job", answer.message, facts)
        return respond(200, "The job failed", answer.message, {**facts, "Code": answer.code.value})
    eta = {"Expected in": f"{answer.eta:.0f} s"} if answer.eta else {}
    return respond(
        200, "The job is running", answer.message or "It has not ended.", {**facts, "State": answer.status, **eta},
        again=True,
    )  # fmt: skip


def make_app() -> FastAPI:
    """The application to mount; its one route is ``GET /``, which answers HEAD too."""
    app = FastAPI(title="ModelsLab media", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/", show, methods=["GET", "HEAD"], dependencies=_READER, response_model=None)

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: Exception) -> Response:
        problem = error if isinstance(error, HTTPException) else HTTPException(500)
        if problem.status_code == 401 and "text/html" in request.headers.get("Accept", ""):
            root = base_path()
            here = f"{root}{request.scope.get('root_path', '').removeprefix(root)}/?{request.url.query}"
            return RedirectResponse(f"{root}/api/v2/auth/login?{urlencode({'next': here})}", 307, headers=HEADERS)
        return JSONResponse({"detail": problem.detail}, problem.status_code, headers=HEADERS)

    return app
