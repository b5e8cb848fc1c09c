"""The gallery's routes in Airflow's API server: a static page without data, and data for users who are logged in.

Each function runs in a thread of the server's pool, since the reads from database and S3 block.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import AwareDatetime

from airflow_provider_modelslab.api.errors import InvalidRequestError, ModelsLabError
from airflow_provider_modelslab.compat import create_session
from airflow_provider_modelslab.plugins.authorization.records import connection_of
from airflow_provider_modelslab.plugins.gallery.access import MAY_SEE_TASK, User, readable_dags, visible
from airflow_provider_modelslab.plugins.gallery.batch import (
    BatchView,
    compact,
    read_batch,
    retry_lines,
    why_source_is_hidden,
)
from airflow_provider_modelslab.plugins.gallery.data import Media, describe_clip, describe_single, media_of, task_facts
from airflow_provider_modelslab.plugins.gallery.recent import Filters, read_recent, tasks_with_videos
from airflow_provider_modelslab.plugins.gallery.store import LINK_SECONDS, GalleryStorage, open_store
from airflow_provider_modelslab.plugins.media.access import MAX_INDEX, Id
from airflow_provider_modelslab.plugins.media.mode import media_mode
from airflow_provider_modelslab.plugins.media.stream import media_type, stream_object
from airflow_provider_modelslab.plugins.task_results import TaskResult, read_task
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, is_missing, storage_error
from airflow_provider_modelslab.storage.s3_objects import to_lines

__all__ = ["make_app"]

_FILES = FilePath(__file__).parent / "static"
_MAX_LINKS = 200

_HEADERS = {
    # Clips may come from any host, and the page is shown in one of Airflow's frames; nothing else is allowed.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: http:; "
        "media-src 'self' https: http:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Name = Annotated[str, Query(max_length=250, description="A part of the name.")]
Clips = Annotated[str, Query(max_length=100_000, description="Indices joined by commas.")]

MapIndex = Annotated[int, Path(ge=-1, le=MAX_INDEX)]
Loop = Annotated[
    int | None, Query(ge=0, le=MAX_INDEX, description="The iteration of a task in a loop; by default the newest.")
]

data = APIRouter(prefix="/api")
task = APIRouter(prefix="/dags/{dag_id}/tasks/{task_id}/{map_index}", dependencies=MAY_SEE_TASK)


@task.get("")
def show_task(
    dag_id: Id, task_id: Id, map_index: MapIndex, run_id: Id, version: str = "", loop_index: Loop = None
) -> dict[str, Any]:
    """A task instance's media; of a batch only the head if its clips are unchanged since ``version``.

    For another provider's task: the tasks of its run that have videos.
    """
    found = _task(dag_id, run_id, task_id, map_index, loop_index)
    answer: dict[str, Any] = {"task": task_facts(found), "kind": found.kind}
    if found.kind == "other":
        with create_session() as session:
            return answer | {"videos": tasks_with_videos(session, dag_id, run_id)}
    store, problem = _store_if_any(found)
    if problem:
        answer["problem"] = problem
    with _plainly():
        if found.kind == "single":
            return answer | {"single": describe_single(found, store)}
        view = read_batch(found, store) if store else BatchView({}, {}, {}, None, "", None, False)
    if version and version == view.version:
        return answer | {"unchanged": True}
    return answer | {"batch": compact(view)}


@task.get("/links")
def links(
    dag_id: Id,
    task_id: Id,
    map_index: MapIndex,
    run_id: Id,
    clips: Clips = "",
    sample: int = 0,
    renew: bool = False,
    loop_index: Loop = None,
) -> dict[str, Any]:
    """Links to the results and sources that this task recorded: to :func:`stream`, or signed ones to S3.

    :param clips: of a batch, by their indices, 200 at most.
    :param sample: instead of ``clips``, so many of a batch's results, the first that landed.
    :param renew: make new links, because the earlier ones did not work.
    """
    found = _task(dag_id, run_id, task_id, map_index, loop_index)
    with _plainly():
        store = _store(found)
        if found.kind == "single":
            media = {0: media_of(found, describe_single(found, store))}
        else:
            rows = read_batch(found, store).rows
            done = [index for index, row in rows.items() if row["status"] in {"landed", "skipped"}]
            chosen = done[: min(sample, _MAX_LINKS)] if sample > 0 else _indices(clips)[:_MAX_LINKS]
            media = {index: _media_of_row(found, store, rows[index]) for index in chosen if index in rows}
        stream = media_mode() == "stream"
        found_links = {
            str(index): {
                side: one.link(store, renew=renew, streamed=_media_path(found, index, side) if stream else None)
                for side, one in sides.items()
            }
            for index, sides in media.items()
        }
    return {"expires_in": LINK_SECONDS // 2, "links": found_links}


@task.api_route("/media/{clip}/{side}", methods=["GET", "HEAD"], response_model=None)
def stream(
    request: Request,
    dag_id: Id,
    task_id: Id,
    map_index: MapIndex,
    clip: Annotated[int, Path(ge=0, le=MAX_INDEX)],
    side: Literal["result", "source"],
    run_id: Id,
    loop_index: Loop = None,
) -> Response:
    """The bytes of a clip, if :func:`links` gives a link to it; with ranges, as players ask for them.

    :param clip: its index in a batch; 0 for a task of one clip.
    """
    found = _task(dag_id, run_id, task_id, map_index, loop_index)
    with _plainly():
        store = _store(found)
        if found.kind == "single":
            media = media_of(found, describe_single(found, store)) if clip == 0 else {}
        else:
            row = read_batch(found, store).rows.get(clip)
            media = _media_of_row(found, store, row) if row else {}
        uri = media[side].uri if side in media else None
        if uri is None or media_mode() != "stream":
            raise HTTPException(404, "This clip is not sent by the API server")
        try:
            head = store.s3.head_object(Bucket=uri.bucket, Key=uri.key)
            return stream_object(
                store.s3,
                uri,
                request,
                content_type=media_type(uri.key),
                size=head["ContentLength"],
                etag=head["ETag"],
            )
        except S3_ERRORS as error:
            if is_missing(error, uri, store.s3):
                raise HTTPException(404, "This clip is not in S3") from error
            raise storage_error(error, uri) from error


@task.get("/clips/{clip}")
def show_clip(
    dag_id: Id, task_id: Id, map_index: MapIndex, clip: int, run_id: Id, loop_index: Loop = None
) -> dict[str, Any]:
    """One clip of a batch as if it were a task of its own."""
    found = _task(dag_id, run_id, task_id, map_index, loop_index)
    with _plainly():
        store = _store(found)
        view = read_batch(found, store)
        if clip not in view.rows:
            raise HTTPException(404, "This batch has no such clip")
        return describe_clip(store, view.rows[clip], view.common)


@task.get("/retry")
def retry(
    dag_id: Id, task_id: Id, map_index: MapIndex, run_id: Id, clips: Clips | None = None, loop_index: Loop = None
) -> PlainTextResponse:
    """JSON lines that a batch takes as its ``source``: the clips given, or all that failed or were not reached."""
    found = _task(dag_id, run_id, task_id, map_index, loop_index)
    with _plainly():
        store = _store(found)
        lines, left_out = retry_lines(read_batch(found, store), store, None if clips is None else _indices(clips))
    headers = {"X-Left-Out": str(left_out)}
    return PlainTextResponse(to_lines(lines), media_type="application/x-ndjson", headers=headers)


@data.get("/recent")
def recent(
    user: User,
    after: Annotated[str | None, Query(max_length=80)] = None,
    q: Annotated[str, Query(max_length=200, description="Words that must all be in a video's facts.")] = "",
    dag: Name = "",
    model: Name = "",
    outcome: Literal["", "landed", "partial"] = "",
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
) -> Any:
    """One page of the latest videos in the Dags that the user may read; with filters perhaps a short one."""
    filters = Filters(tuple(q.split()), dag, model, outcome, since, until)
    dag_ids = readable_dags(user)
    try:
        with create_session() as session:
            page = read_recent(session, dag_ids, after, filters)
    except ValueError:
        raise HTTPException(400, "'after' must be the 'next' of an earlier page, and times be times in UTC") from None
    seen = visible((item["dag_id"] for item in page["items"]), user)
    return {**page, "items": [item for item in page["items"] if item["dag_id"] in seen]}


data.include_router(task)


def make_app() -> FastAPI:
    """The application to mount."""
    app = FastAPI(title="ModelsLab gallery", docs_url=None, redoc_url=None, openapi_url=None)
    files = {path.name: path for path in _FILES.iterdir() if path.is_file()}

    @app.middleware("http")
    async def careful(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.exception_handler(InvalidRequestError)
    async def refuse(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 400)

    app.include_router(data)

    @app.get("/")
    @app.get("/{name}")
    def page(name: str = "index.html") -> Response:
        """The page's static files, the same for all users."""
        if name not in files:
            raise HTTPException(404, "There is no such file")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(files[name].read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})

    return app


# -- helpers ------------------------------------------------------------------------------------------------------


def _task(dag_id: str, run_id: str, task_id: str, map_index: int, loop_index: int | None) -> TaskResult:
    with create_session() as session:
        found = read_task(session, dag_id, run_id, task_id, map_index, loop_index)
    if found is None:
        raise HTTPException(404, "There is no such task instance")
    return found


def _store(found: TaskResult) -> GalleryStorage:
    return open_store(connection_of(found, found.manifest.get("conn_id")))


def _store_if_any(found: TaskResult) -> tuple[GalleryStorage | None, str | None]:
    try:
        return _store(found), None
    except ModelsLabError as error:
        return None, str(error)


def _media_of_row(found: TaskResult, store: GalleryStorage, row: dict[str, Any]) -> dict[str, Media]:
    sides = {"source": Media(row["source"], why_source_is_hidden(found, store.profile, row))}
    return {"result": Media(row["uri"]), **sides} if row["status"] in {"landed", "skipped"} else sides


def _media_path(found: TaskResult, index: int, side: str) -> str:
    """The address of :func:`stream`, relative to the gallery's page, so that it holds below any base URL."""
    path = "/".join(quote(part, safe="") for part in ("dags", found.dag_id, "tasks", found.task_id))
    query = {"run_id": found.run_id} | ({} if found.loop_index is None else {"loop_index": found.loop_index})
    return f"api/{path}/{found.map_index}/media/{index}/{side}?{urlencode(query)}"


def _indices(clips: str) -> list[int]:
    try:
        return [int(text) for text in clips.split(",") if text.strip()]
    except ValueError:
        raise HTTPException(400, "'clips' must be indices joined by commas") from None


@contextmanager
def _plainly() -> Iterator[None]:
    """Turn a storage error into a message with a status that does not blame this server."""
    try:
        yield
    except InvalidRequestError:
        raise
    except ModelsLabError as error:
        raise HTTPException(502, str(error)) from error
