"""What the tests of "paid once" share: an endpoint that keeps bills, and runs of one task that pays."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import requests

from airflow_provider_modelslab.ledger.listing import result_folder
from airflow_provider_modelslab.operators.arguments import instance_name
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from tests.support.s3 import content_of, lines_of
from tools.stack.endpoint import EndpointProcess
from tools.stack.process import ServerProcess, free_port, wait_until
from tools.stack.whole import LOCAL_KEY, WholeStack

CONN_ID = "modelslab_echo"
PREFIX = "paid-once"
TASK = "clip"
HELD = ["never_ending"]
LANDED = ("0001-claim", "0001-job", "0001-landed")
"""The ledger of a result that was paid for once and landed."""


class EchoEndpoint:
    """The endpoint with the engine that answers at once, and bills. Jobs may ask to be held until :meth:`release`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process = self._made("--allow-request-faults").start()
        self.url = self._process.url

    def _made(self, *arguments: str) -> EndpointProcess:
        arguments = ("--port", str(self._port), "--engine", "echo", "--admin", *arguments)
        return EndpointProcess(self._folder, key=LOCAL_KEY, arguments=arguments)

    def connect(self, stack: WholeStack) -> None:
        """Make the Airflow connection that the Dags of ``dags/mortal.py`` use."""
        extra = {"bucket": stack.bucket, "prefix": PREFIX, "region": stack.s3.region}
        extra["endpoint_url"] = stack.s3.endpoint_url
        stack.airflow.set_connection(CONN_ID, conn_type="modelslab", password=LOCAL_KEY, host=self.url, extra=extra)

    def release(self) -> None:
        """Start it again without faults: it then works on the jobs that it was told to hold."""
        self._process.stop()
        self._process = self._made().start()

    def stop(self) -> None:
        self._process.stop()

    def bills(self) -> list[dict[str, Any]]:
        """One for each job that was accepted, and so paid for."""
        return list(self._admin()["jobs"])

    def requests(self) -> dict[str, int]:
        """How often each call was made."""
        return dict(self._admin()["requests"])

    def _admin(self) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False
            answer: dict[str, Any] = session.get(f"{self.url}/admin/bills", timeout=60).json()
            return answer


@contextmanager
def connected_echo(stack: WholeStack) -> Iterator[EchoEndpoint]:
    """The endpoint that keeps bills, with the connection to it; stopped at the end."""
    endpoint = EchoEndpoint(stack.folder / "echo")
    endpoint.connect(stack)
    yield endpoint
    endpoint.stop()


@dataclass(frozen=True)
class Clip:
    """One run of the Dag, and so one task that pays.

    :param marker: the file that its process writes when it dies, see ``dags/mortal.py``.
    """

    stack: WholeStack
    endpoint: EchoEndpoint
    dag_id: str
    run_id: str
    marker: Path

    dag_ids: ClassVar[dict[bool, str]] = {True: "paid_once", False: "paid_once_blocking"}
    """By whether the task defers."""

    @classmethod
    def start(
        cls,
        stack: WholeStack,
        endpoint: EchoEndpoint,
        name: str,
        *,
        deferrable: bool = True,
        held: bool = False,
        die_at: str = "",
        how: str = "kill",
        **conf: Any,
    ) -> Self:
        marker = stack.folder / "markers" / name.replace(" ", "-")
        marker.parent.mkdir(exist_ok=True)
        conf |= {"prompt": name, "faults": HELD if held else []}
        if die_at:
            conf["die"] = {"at": die_at, "how": how, "marker": str(marker)}
        dag_id = cls.dag_ids[deferrable]
        return cls(stack, endpoint, dag_id, stack.airflow.trigger(dag_id, conf), marker)

    # -- what happens to it ---------------------------------------------------------------------------------------

    def wait_for(self, *states: str) -> None:
        self.stack.airflow.wait_for_task(self.dag_id, self.run_id, TASK, *states)

    def wait_for_log(self, text: str, times: int = 1) -> None:
        what = f"{text!r} {times} times in the log of {self.run_id}"
        wait_until(lambda: self.log.count(text) >= times, self._parts, what=what)

    def wait_for_ledger(self, entry: str) -> None:
        wait_until(lambda: entry in self.ledger, self._parts, what=f"{entry} in the ledger of {self.run_id}")

    def wait_for_marker(self) -> None:
        """Until the process is at the point where it dies or waits."""
        wait_until(self.marker.exists, self._parts, what=f"the marker {self.marker}")

    def go(self) -> None:
        """Let the process that waits at the point go on."""
        self.marker.with_name(f"{self.marker.name}.go").touch()

    def clear(self) -> None:
        self.stack.airflow.clear(self.dag_id, self.run_id, TASK)

    def mark(self, state: str) -> None:
        self.stack.airflow.mark(self.dag_id, self.run_id, TASK, state)

    @property
    def _parts(self) -> list[ServerProcess]:
        return list(self.stack.airflow.parts.values())

    # -- what is to be seen ---------------------------------------------------------------------------------------

    @property
    def task(self) -> dict[str, Any]:
        return self.stack.airflow.task(self.dag_id, self.run_id, TASK)

    @property
    def log(self) -> str:
        return self.stack.airflow.task_log(self.dag_id, self.run_id, TASK)

    @property
    def bills(self) -> list[dict[str, Any]]:
        mine = f"{self.dag_id}.{TASK}/{self.run_id}/"
        return [bill for bill in self.endpoint.bills() if bill["track_id"].startswith(mine)]

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = self.stack.airflow.xcom(self.dag_id, self.run_id, TASK)
        return found

    @property
    def ledger(self) -> dict[str, dict[str, Any]]:
        """What the ledger in S3 says: ``0001-claim`` and so on."""
        profile = S3Profile(self.stack.bucket, PREFIX)
        root = profile.ledger_root(None)
        assert root is not None
        task = SimpleNamespace(dag_id=self.dag_id, task_id=TASK, run_id=self.run_id, map_index=-1)
        folder = f"{result_folder(root, profile.uri(f'{instance_name(task)}.mp4')).key}/"
        s3 = self.stack.s3.client()
        listed = s3.list_objects_v2(Bucket=self.stack.bucket, Prefix=folder).get("Contents", [])
        return {
            item["Key"].removeprefix(folder).removesuffix(".json"): json.loads(
                s3.get_object(Bucket=self.stack.bucket, Key=item["Key"])["Body"].read()
            )
            for item in listed
        }

    @property
    def submission(self) -> str:
        """The name of the submission that the log asks a person about."""
        asked = re.findall(r'modelslab_submissions to \{\\*"([^"\\]+)\\*": ', self.log)
        assert len(set(asked)) == 1, self.log[-4000:]
        return str(asked[0])

    def require_landed(self, *entries: str, paid: int = 1) -> dict[str, Any]:
        """The task ended well, was paid for so many times, and its video is whole in S3; returns the manifest.

        :param entries: what the ledger has then.
        """
        self.wait_for("success")
        manifest = self.manifest
        assert len(self.bills) == paid, (self.bills, self.log)
        assert set(self.ledger) == set(entries), self.log
        video = content_of(self.stack.s3.client(), manifest["uri"])
        assert hashlib.sha256(video).hexdigest() == manifest["sha256"]
        assert manifest["job_id"] in {str(bill["id"]) for bill in self.bills}
        return manifest


class Batch(Clip):
    """One run of the Dag with a batch of the clips below an S3 prefix, the run's conf ``source``."""

    dag_ids: ClassVar[dict[bool, str]] = {True: "paid_once_batch"}

    def require_all_landed(self, count: int) -> None:
        """The task ended well, and each of so many clips was paid for once and is whole in S3."""
        self.wait_for("success")
        assert len(self.bills) == count, (self.bills, self.log)
        s3, summary = self.stack.s3.client(), self.manifest
        assert (summary["found"], summary["landed"] + summary["skipped"], summary["failed"]) == (count, count, 0)
        clips = lines_of(s3, summary["manifest"])
        assert len({clip["uri"] for clip in clips}) == count
        for clip in clips:
            assert hashlib.sha256(content_of(s3, clip["uri"])).hexdigest() == clip["sha256"]
