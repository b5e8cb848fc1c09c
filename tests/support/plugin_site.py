"""The plugins' applications over Airflow's own tables, a real S3 store and a scripted endpoint, in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi.testclient import TestClient

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.listing import LedgerRoot
from airflow_provider_modelslab.ledger.model import Fingerprint, LedgerPolicy, Submission, SubmitNew
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.plugins.gallery import app as gallery_app
from airflow_provider_modelslab.plugins.gallery import store as gallery_store
from airflow_provider_modelslab.plugins.media import app as media_app
from airflow_provider_modelslab.plugins.media.access import require_reader
from airflow_provider_modelslab.storage.inputs import identify_input
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from tests.support.connections import set_aws, set_modelslab
from tests.support.scripted_server import Answer, ScriptedServer

if TYPE_CHECKING:
    import pytest
    from mypy_boto3_s3 import S3Client

    from tests.support.airflow_tables import AirflowTables
    from tests.support.s3 import S3Server

__all__ = ["CONN", "LINK", "REQUEST", "Site", "plugin_site"]

CONN = "team_a"
REQUEST: dict[str, Any] = {"model_id": "demo", "prompt": "a boat"}
LINK = "https://results.example/other-team.mp4"


@dataclass
class Site:
    """Airflow's tables, an S3 store, an endpoint, and the two applications over them."""

    tables: AirflowTables
    s3: S3Client
    bucket: str
    endpoint: ScriptedServer
    gallery: TestClient
    media: TestClient

    def links(self, run_id: str, task_id: str = "restyle", **query: Any) -> Any:
        """What the gallery links to; what has no link is not sent either."""
        path = f"/api/dags/films/tasks/{task_id}/-1"
        answer = self.gallery.get(f"{path}/links", params={"run_id": run_id, **query})
        for clip, sides in answer.json().get("links", {}).items():
            for side in ("result", "source"):
                link = sides.get(side, {}).get("url", "none")
                sent = self.gallery.get(f"{path}/media/{clip}/{side}", params={"run_id": run_id})
                assert sent.status_code != 200 or link.startswith("api/"), (side, link)
        return answer

    def click(self, run_id: str, what: str, task_id: str = "restyle") -> Any:
        """A link on the task."""
        query = {"dag_id": "films", "run_id": run_id, "task_id": task_id, "what": what}
        return self.media.get("/", params=query, follow_redirects=False)

    def put(self, key: str, body: object = "clip", bucket: str | None = None) -> str:
        """An object; where it is."""
        self.s3.put_object(Bucket=bucket or self.bucket, Key=key, Body=json.dumps(body).encode())
        return f"s3://{bucket or self.bucket}/{key}"

    def ledger(self, key: str) -> Ledger:
        """The one of the result with this key below the connection's prefix."""
        profile = S3Profile(bucket=self.bucket, prefix="out")
        root = profile.ledger_root(None)
        assert root is not None
        return LedgerRoot(self.s3, root).open(profile.uri(key))

    def fingerprint(self, clip: str, **request: Any) -> Fingerprint:
        """Of a request with this clip as it is now."""
        asked = Video2VideoRequest(**REQUEST | request, init_video=clip)
        return Fingerprint.of(asked, conn_id=CONN, source=identify_input(clip, lambda: self.s3))

    def submit(
        self,
        run_id: str,
        clip: str,
        fails: Exception | None = None,
        *,
        task_id: str = "restyle",
        key: str | None = None,
        job_id: str = "own-1",
        **request: Any,
    ) -> int:
        """Write what a task writes when it submits a job with a clip; the submission's number.

        :param key: of the result, below the connection's prefix; by default the task's name.
        """
        ledger, attempt = self.ledger(key or f"films/{task_id}/{run_id}.mp4"), AttemptId("films", task_id, run_id)
        fingerprint = self.fingerprint(clip, **request)
        found = ledger.find(fingerprint, LedgerPolicy(), attempt)
        assert isinstance(found, SubmitNew)
        assert ledger.claim(found.number, fingerprint, attempt, lease=60, name=job_id, track_id=job_id)
        if fails is None:
            sent = {**REQUEST, **request, "init_video": clip}
            ledger.record(found.number, Job(job_id, CONN, time.time(), request=sent))
        else:
            ledger.record_error(found.number, fails)
        return found.number

    def attach(self, run_id: str, clip: str, *, key: str, task_id: str = "restyle") -> Submission:
        """Write what a task writes when it finds another's job with the same request, and waits for it."""
        found = self.ledger(key).find(self.fingerprint(clip), LedgerPolicy(), AttemptId("films", task_id, run_id))
        assert isinstance(found, Submission)
        return found


@contextmanager
def plugin_site(
    tables: AirflowTables, s3: S3Client, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """Two connections with prefixes of their own in one bucket, and one without a bucket; everybody may read."""
    done = {"status": "success", "id": "own-1", "output": [LINK]}
    with ScriptedServer(Answer(done)) as endpoint:
        set_aws(monkeypatch, s3_server)
        for conn_id, own in {CONN: "out", "team_b": "secret"}.items():
            set_modelslab(
                monkeypatch,
                endpoint.url,
                conn_id=conn_id,
                bucket=bucket,
                prefix=own,
                endpoint_url=s3_server.endpoint_url,
            )
        set_modelslab(monkeypatch, endpoint.url, conn_id="no_bucket", endpoint_url=s3_server.endpoint_url)
        monkeypatch.setattr(gallery_store, "_stores", {})
        apps = []
        for module in (gallery_app, media_app):
            monkeypatch.setattr(module, "create_session", tables.session)
            app = module.make_app()
            app.dependency_overrides[require_reader] = lambda: None
            apps.append(TestClient(app))
        yield Site(tables, s3, bucket, endpoint, *apps)
