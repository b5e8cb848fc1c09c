"""``make demo``: the main DAG, on a real clip, through a real Airflow, with every part on this machine.

With MODELSLAB_API_KEY set the same DAG goes to ModelsLab; the result still lands in the S3 server started here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from PIL import Image

from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.storage.uri import S3Uri
from tools.contact_sheet import draw_sheet
from tools.make_clip import DEFAULT_PATH
from tools.stack.airflow import AirflowStack
from tools.stack.kept import SavedObjects, exclusive
from tools.stack.process import PartFailedError
from tools.stack.s3 import S3Server
from tools.stack.whole import WholeStack

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".state" / "demo"
OUTPUT = ROOT / "demo-output"
PREFIX = "videos"  # five letters or more: Airflow warns of shorter values in a connection, which it cannot mask
SAVE_EVERY = 5.0
DAG_ID = "modelslab_video2video"
PAGE_CLIP = (
    "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/diffusers/"
    "animatediff-vid2vid-output-1.gif"
)
LOCAL_RUN = {
    "model_id": "demo",
    "prompt": "a poster in purple",
    "width": 288,
    "height": 192,
    "num_frames": 16,
    "num_inference_steps": 10,
    "strength": 0.35,
    "seed": 7,
}

CALM = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30"}
"""Airflow's own default: the Dags do not change, and two cores have better things to do than to parse them again."""

HEARTBEAT = 5.0
"""Seconds of silence after which the demo says that it still waits."""

_NOTES = {
    "deferred": "waiting in the triggerer; no worker is held",
    "up_for_retry": "failed, and tried again in five minutes; Ctrl-C stops the demo, and why is in {logs}",
}
"""What a task's state means here."""


class Timings:
    """How long each step took, for the table at the end."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float]] = []
        self._began = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        began = time.monotonic()
        yield
        self.rows.append((name, time.monotonic() - began))

    def add(self, name: str, seconds: float) -> None:
        """A step that somebody else timed."""
        self.rows.append((name, seconds))

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def print(self) -> None:
        """The table."""
        print("\nstep                                      seconds")
        for name, seconds in [*self.rows, ("total", self.elapsed())]:
            print(f"  {name:<38} {seconds:8.1f}")


def main() -> int:
    """Run the demo; the exit status says whether the result is in S3, whole and decodable."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--state", type=Path, default=STATE, metavar="DIR", help="state and logs of all parts")
    options = parser.parse_args()
    state: Path = options.state.resolve()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)  # the terminal was closed
    try:
        with exclusive(state) as is_alone, ExitStack() as parts:
            if not is_alone:
                print("The demo is running already. Stop it with Ctrl-C where it was started.", file=sys.stderr)
                return 1
            _demo(parts, state, keep=options.keep)
    except PartFailedError as error:
        print(f"\nThe demo failed in one part.\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _demo(parts: ExitStack, state: Path, *, keep: bool) -> None:
    timings = Timings()
    real_key = os.environ.get("MODELSLAB_API_KEY")
    _begin_afresh_if_incomplete(state)
    print(f"Parts of the demo, with their logs below {_shown(state)}/:")
    stack = WholeStack(
        state,
        dags_folder=ROOT / "dags_examples",
        bucket="modelslab-demo",
        endpoint_arguments=("--preload", str(LOCAL_RUN["model_id"])),
        airflow_env=CALM,
        keeps=True,
        webhooks=True,
        quick=True,
    )
    parts.callback(stack.stop)
    parsed_after = datetime.now(UTC)
    with timings.step("start the S3 server"):
        stack.launch(endpoint=not real_key)
        stack.start_s3()
        stack.upload_clips()
    print(f"  S3        {stack.s3.endpoint_url}  bucket {stack.bucket}")
    if real_key:
        print("  endpoint  ModelsLab itself, since MODELSLAB_API_KEY is set: this run costs what ModelsLab charges")
    else:
        with timings.step("start the endpoint"):
            stack.start_endpoint()
        print(f"  endpoint  {stack.endpoint.url}")
    with timings.step("start Airflow"):
        public_url = None if real_key else f"{stack.s3.endpoint_url}/{stack.bucket}"  # ModelsLab cannot reach it
        stack.start_airflow(key=real_key, prefix=PREFIX, public_url=public_url)
    with timings.step("parse the Dag"):
        stack.airflow.wait_for_dag(DAG_ID, since=parsed_after)
    print(f"  Airflow   {stack.airflow.url}  (no login)")
    with timings.step("run the Dag"):
        manifest = _run(stack.airflow, {"clip": PAGE_CLIP} if real_key else dict(LOCAL_RUN), timings)
    _check(stack.s3, manifest)
    stack.save()
    timings.print()
    if keep:
        _keep(stack, state / "env.sh")


def _shown(path: Path) -> Path:
    """A path below the checkout as people type it there."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _begin_afresh_if_incomplete(state: Path) -> None:
    """History without its objects would be a list of videos that are gone."""
    has_history, has_objects = (state / "airflow").exists(), SavedObjects(state / "objects").exists
    if has_history and not has_objects:
        print("The last demo did not end well, and its objects in S3 are gone. This one starts all afresh.")
        for part in state.iterdir():
            if part.is_dir():
                shutil.rmtree(part)
    elif has_history:
        print(f"Going on with S3, history and ports of the last demo. To start afresh: rm -r {_shown(state)}")


def _keep(stack: WholeStack, env_file: Path) -> None:
    """Go on until Ctrl-C; what a crash could lose is what S3 got in the last seconds."""
    env_file.touch(mode=0o600)
    env_file.write_text(stack.airflow.shell_exports())
    print(f"\nEverything goes on running until Ctrl-C.\n  Airflow's UI: {stack.airflow.url}/dags/{DAG_ID}")
    print(f"  In a shell:   source {_shown(env_file)} && airflow modelslab check")
    print(f"  S3:           {stack.s3.endpoint_url}  (certificate authority: {stack.s3.ca_path})", flush=True)
    while True:
        time.sleep(SAVE_EVERY)
        stack.save()


def _run(airflow: AirflowStack, conf: dict[str, Any], timings: Timings) -> dict[str, Any]:
    """Trigger the Dag, tell each change of state, and return the main task's manifest."""
    run_id = airflow.trigger(DAG_ID, conf)
    print(f"\nRunning {DAG_ID} with {json.dumps(conf)}")
    began, state = time.monotonic(), "queued"
    told: dict[str, str] = {}
    spoke = began
    while state not in {"success", "failed"}:
        time.sleep(0.5)
        for part in airflow.parts.values():
            part.require_alive()
        for task in airflow.tasks(DAG_ID, run_id):
            now = task["state"]
            if now and told.get(task["task_id"]) != now:
                told[task["task_id"]] = now
                spoke = time.monotonic()
                note = f"  ({_NOTES[now].format(logs=airflow.logs)})" if now in _NOTES else ""
                print(f"  {time.monotonic() - began:6.1f} s  {task['task_id']:<8} {now}{note}", flush=True)
        if time.monotonic() - spoke >= HEARTBEAT:
            spoke = time.monotonic()
            print(
                f"  {spoke - began:6.1f} s  still waiting: {', '.join(f'{t} {s}' for t, s in told.items())}", flush=True
            )
        state = airflow.run_state(DAG_ID, run_id)
    if state == "failed":
        failed = [task["task_id"] for task in airflow.tasks(DAG_ID, run_id) if task["state"] == "failed"]
        logs = airflow.logs / f"dag_id={DAG_ID}" / f"run_id={run_id}"
        tail = "\n".join(airflow.task_log(DAG_ID, run_id, task)[-3000:] for task in failed)
        raise PartFailedError(f"The Dag's task {', '.join(failed)}", f"failed; all its logs: {logs}\n{tail}")
    for task in airflow.tasks(DAG_ID, run_id):
        timings.add(f"  task {task['task_id']}, with its wait", float(task["duration"] or 0))
    manifest: dict[str, Any] = airflow.xcom(DAG_ID, run_id, "restyle")
    if manifest.get("generation_time_s") is not None:
        timings.add("  work at the endpoint", float(manifest["generation_time_s"]))
    return manifest


def _check(s3: S3Server, manifest: dict[str, Any]) -> None:
    """Fetch the result as any S3 client would, compare it with its sidecar, and decode it."""
    import av

    uri, sidecar_uri = S3Uri.parse(manifest["uri"]), S3Uri.parse(manifest["sidecar_uri"])
    client = s3.client()
    content = client.get_object(Bucket=uri.bucket, Key=uri.key)["Body"].read()
    sidecar = json.loads(client.get_object(Bucket=sidecar_uri.bucket, Key=sidecar_uri.key)["Body"].read())
    if hashlib.sha256(content).hexdigest() != sidecar["sha256"]:
        raise PartFailedError("The result", f"{uri} does not have the SHA-256 of its sidecar")
    OUTPUT.mkdir(exist_ok=True)
    copy = OUTPUT / Path(uri.key).name
    copy.write_bytes(content)
    copy.with_suffix(".json").write_text(json.dumps(sidecar, indent=2))
    with av.open(str(copy)) as video:
        frames: list[Image.Image] = [frame.to_image() for frame in video.decode(video=0)]  # type: ignore[no-untyped-call]
    request = sidecar["request"]
    wanted = (request.get("width"), request.get("height"))
    if len(frames) != request["num_frames"] or (None not in wanted and frames[0].size != wanted):
        raise PartFailedError("The result", f"has {len(frames)} frames of {frames[0].size}; asked for: {request}")
    size = "{}x{}".format(*frames[0].size)
    print(f"\nThe result:  {uri}  ({len(content)} bytes, {len(frames)} frames of {size})")
    print(f"Its sidecar: {sidecar_uri}  (the SHA-256 agrees)")
    print(f"A copy:      {copy.relative_to(ROOT)}")
    print(f"To look at:  {write_sheet(frames, request, copy.with_suffix('.png')).relative_to(ROOT)}")


def write_sheet(frames: list[Image.Image], request: dict[str, Any], path: Path) -> Path:
    """A contact sheet of a run: the source's frames above where the source is the clip that ships, the result below.

    :param request: the request of the result's sidecar.
    """
    source = read_frames(DEFAULT_PATH, len(frames))[0] if request.get("model_id") == LOCAL_RUN["model_id"] else []
    asked = {name: request.get(name) for name in ("model_id", "strength", "seed")}
    caption = "\n".join((str(request.get("prompt")), ", ".join(f"{name} {value}" for name, value in asked.items())))
    return draw_sheet(source, frames, caption, path)


if __name__ == "__main__":
    sys.exit(main())
