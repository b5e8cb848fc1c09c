"""A small Kubernetes API server whose pods are processes of this machine: what KubernetesExecutor calls, and no more.

``python -m tools.stack.pods FOLDER PORT``, with the token that it asks for in ``PODS_TOKEN``. It lists and watches pods
by labels, and gets, creates, patches and deletes them. There is no kubelet: the command of a pod's first container runs
at once, in a session and a folder of its own, with this process's environment as its image. Images, resources, volumes,
probes and other containers are left aside.

Of the packages that play a Kubernetes API, mockernetes patches the client inside one process, and the executor, its
watcher and the pods are several; kmock has no label selectors and no resource versions, which the watcher needs.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # no stubs; Airflow itself depends on it
from aiohttp import web

Pod = dict[str, Any]
Matches = Callable[[Pod], bool]


def labels_match(selector: str, labels: dict[str, str]) -> bool:
    """Whether a selector chooses these labels: ``a``, ``!a``, ``a=b``, ``a!=b``, ``a in (b,c)``, ``a notin (b,c)``."""
    return all(_term_holds(term.strip(), labels) for term in re.split(r",(?![^(]*\))", selector) if term.strip())


def _term_holds(term: str, labels: dict[str, str]) -> bool:
    if found := re.fullmatch(r"(\S+)\s+(in|notin)\s+\((.*)\)", term):
        name, verb, values = found.groups()
        return (labels.get(name) in {value.strip() for value in values.split(",")}) == (verb == "in")
    if found := re.fullmatch(r"([^=!\s]+)\s*(!=|==?)\s*(\S*)", term):
        name, verb, value = found.groups()
        return (labels.get(name) == value) == (verb != "!=")
    return (term.removeprefix("!").strip() in labels) != term.startswith("!")


def chosen_by(query: Any, namespace: str) -> Matches:
    """Whether a list or a watch shows a pod."""
    selector = query.get("labelSelector", "")
    fields = query.get("fieldSelector", "")

    def matches(pod: Pod) -> bool:
        facts = {"status.phase": pod["status"]["phase"], "metadata.name": pod["metadata"]["name"]}
        here = pod["metadata"]["namespace"] == namespace
        return here and labels_match(selector, pod["metadata"].get("labels") or {}) and labels_match(fields, facts)

    return matches


class Pods:
    """The pods, and what has happened to them.

    :param folder: each pod's own folder is below it, with what the pod was made from (``pod.json``) and its output.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pods: dict[tuple[str, str], Pod] = {}
        self._history: list[tuple[Pod | None, Pod | None]] = []  # before and after; the index is the resource version
        self._changed = asyncio.Condition()
        self._waits: set[asyncio.Task[None]] = set()

    def get(self, namespace: str, name: str) -> Pod:
        """A pod.

        :raises HTTPNotFound: when there is none of this name.
        """
        try:
            return self._pods[namespace, name]
        except KeyError:
            raise _refusal(web.HTTPNotFound, "NotFound", f'pods "{name}" not found') from None

    def listing(self, matches: Matches) -> Pod:
        """The pods that match, as the API lists them."""
        items = [pod for pod in self._pods.values() if matches(pod)]
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": self._version}, "items": items}

    async def watch(self, matches: Matches, since: str) -> AsyncIterator[Pod]:
        """All events from a resource version on; from ``0`` or none, first what there is."""
        seen = int(since or 0)
        if not seen:
            seen = len(self._history)
            for pod in self.listing(matches)["items"]:
                yield {"type": "ADDED", "object": pod}
        while True:
            for before, after in self._history[seen:]:
                seen += 1
                was, is_now = before is not None and matches(before), after is not None and matches(after)
                if was or is_now:
                    kind = "MODIFIED" if was and is_now else "ADDED" if is_now else "DELETED"
                    yield {"type": kind, "object": after or before}
            async with self._changed:
                while len(self._history) == seen:
                    await self._changed.wait()

    async def create(self, namespace: str, pod: Pod) -> Pod:
        """A new pod, which starts at once."""
        meta = pod["metadata"]
        if (namespace, meta["name"]) in self._pods:
            raise _refusal(web.HTTPConflict, "AlreadyExists", f'pods "{meta["name"]}" already exists')
        meta |= {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": _now()}
        pod["status"] = {"phase": "Pending"}
        await self._put(pod)
        process = await self._started(pod)
        await self._report(namespace, meta["name"], "Running", {"running": {"startedAt": _now()}}, process.pid)
        task = asyncio.create_task(self._wait(namespace, meta["name"], process))
        self._waits.add(task)
        task.add_done_callback(self._waits.discard)
        return self.get(namespace, meta["name"])

    async def patch(self, namespace: str, name: str, patch: Pod) -> Pod:
        """Merge a patch into a pod."""
        await self._put(_merged(self.get(namespace, name), patch))
        return self.get(namespace, name)

    async def delete(self, namespace: str, name: str, grace: float | None) -> Pod:
        """Remove a pod that has ended; end one that runs, with SIGKILL ``grace`` seconds after SIGTERM."""
        pod = await self.patch(namespace, name, {"metadata": {"deletionTimestamp": _now()}})
        pid = _pid(pod)
        if pid is None:
            await self._remove(namespace, name)
            return pod
        seconds = pod["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM if seconds else signal.SIGKILL)
        asyncio.get_running_loop().call_later(seconds, _kill_session, pid)
        return pod

    def stop(self) -> None:
        """Kill what runs."""
        for pod in self._pods.values():
            if pid := _pid(pod):
                _kill_session(pid)

    async def _started(self, pod: Pod) -> asyncio.subprocess.Process:
        container = pod["spec"]["containers"][0]
        home = self._folder / pod["metadata"]["name"]
        home.mkdir(parents=True)
        (home / "pod.json").write_text(json.dumps(pod, indent=2))
        env = {name: value for name, value in os.environ.items() if name != "PODS_TOKEN"} | {"AIRFLOW_HOME": str(home)}
        env |= {item["name"]: item["value"] for item in container.get("env", [])}
        command = [*container.get("command", []), *container.get("args", [])]
        with (home / "output.log").open("wb") as output:
            return await asyncio.create_subprocess_exec(
                *command, env=env, cwd=home, stdout=output, stderr=output, start_new_session=True
            )

    async def _wait(self, namespace: str, name: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        _kill_session(process.pid)  # as all processes of a container end with its first
        code = 128 - code if code < 0 else code
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": _now()}
        await self._report(namespace, name, "Failed" if code else "Succeeded", {"terminated": ended}, process.pid)
        if self.get(namespace, name)["metadata"].get("deletionTimestamp"):
            await self._remove(namespace, name)

    async def _report(self, namespace: str, name: str, phase: str, state: Pod, pid: int) -> None:
        container = self.get(namespace, name)["spec"]["containers"][0]
        status = {"name": container["name"], "image": container.get("image", ""), "imageID": "", "restartCount": 0}
        status |= {"ready": phase == "Running", "containerID": f"process://{pid}", "state": state}
        pod = copy.deepcopy(self.get(namespace, name))
        pod["status"] = {"phase": phase, "containerStatuses": [status]}
        await self._put(pod)

    async def _put(self, pod: Pod) -> None:
        key = pod["metadata"]["namespace"], pod["metadata"]["name"]
        before, after = self._pods.get(key), copy.deepcopy(pod)
        self._pods[key] = after
        await self._record(before, after)

    async def _remove(self, namespace: str, name: str) -> None:
        before = copy.deepcopy(self._pods.pop((namespace, name)))
        await self._record(before, None)

    async def _record(self, before: Pod | None, after: Pod | None) -> None:
        self._history.append((before, after))
        (after or before or {})["metadata"]["resourceVersion"] = self._version
        async with self._changed:
            self._changed.notify_all()

    @property
    def _version(self) -> str:
        return str(len(self._history))


def app_of(pods: Pods, token: str) -> web.Application:
    """The API over HTTP, for those who know the token."""
    routes = web.RouteTableDef()
    everything, one = "/api/v1/namespaces/{namespace}/pods", "/api/v1/namespaces/{namespace}/pods/{name}"

    @web.middleware
    async def authorized(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {token}":
            raise _refusal(web.HTTPUnauthorized, "Unauthorized", "Unauthorized")
        answer: web.StreamResponse = await handler(request)
        return answer

    @routes.get("/version")
    async def version(_: web.Request) -> web.Response:
        return web.json_response({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})

    @routes.get("/apis")
    async def groups(_: web.Request) -> web.Response:
        return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})

    @routes.get("/api/v1")
    async def resources(_: web.Request) -> web.Response:
        verbs = ["create", "delete", "get", "list", "patch", "watch"]
        pod = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": verbs}
        return web.json_response({"kind": "APIResourceList", "groupVersion": "v1", "resources": [pod]})

    @routes.get(everything)
    async def list_or_watch(request: web.Request) -> web.StreamResponse:
        query, matches = request.query, chosen_by(request.query, request.match_info["namespace"])
        if query.get("watch", "").lower() not in {"true", "1"}:
            return web.json_response(pods.listing(matches))
        stream = web.StreamResponse()
        stream.content_type = "application/json"
        await stream.prepare(request)
        with suppress(TimeoutError, ConnectionResetError):
            async with asyncio.timeout(float(query.get("timeoutSeconds", 3600))):
                async for event in pods.watch(matches, query.get("resourceVersion", "")):
                    await stream.write(json.dumps(event).encode() + b"\n")
        return stream

    @routes.post(everything)
    async def create(request: web.Request) -> web.Response:
        return web.json_response(await pods.create(request.match_info["namespace"], await request.json()), status=201)

    @routes.get(one)
    async def get(request: web.Request) -> web.Response:
        return web.json_response(pods.get(**request.match_info))

    @routes.patch(one)
    async def patch(request: web.Request) -> web.Response:
        return web.json_response(await pods.patch(**request.match_info, patch=await request.json()))

    @routes.delete(one)
    async def delete(request: web.Request) -> web.Response:
        options = await request.json() if request.can_read_body else {}
        return web.json_response(await pods.delete(**request.match_info, grace=options.get("gracePeriodSeconds")))

    app = web.Application(middlewares=[authorized])
    app.add_routes(routes)

    async def stop(_: web.Application) -> None:
        pods.stop()

    app.on_shutdown.append(stop)
    return app


def _merged(value: Any, patch: Any) -> Any:
    """A JSON merge patch; for labels and annotations the same as a strategic one."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, part in patch.items():
        merged[name] = _merged(merged.get(name), part)
    return {name: part for name, part in merged.items() if part is not None}


def _pid(pod: Pod) -> int | None:
    """The process of a pod that runs."""
    if pod["status"]["phase"] != "Running":
        return None
    return int(pod["status"]["containerStatuses"][0]["containerID"].removeprefix("process://"))


def _kill_session(session: int) -> None:
    """Kill the processes of a container: the task process is in a group of its own, and in the same session."""
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == session:
                process.kill()


def _refusal(kind: Callable[..., web.HTTPException], reason: str, message: str) -> web.HTTPException:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return kind(text=json.dumps(body), content_type="application/json")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    app = app_of(Pods(Path(sys.argv[1])), os.environ["PODS_TOKEN"])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), shutdown_timeout=1)
