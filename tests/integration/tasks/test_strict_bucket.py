"""Tasks in a bucket as companies have them: SSE-KMS demanded, one prefix granted, sessions that end while jobs wait."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from airflow.providers.common.compat.sdk import TaskDeferred
from botocore.credentials import RefreshableCredentials

import airflow_provider_modelslab
from airflow_provider_modelslab.api.errors import (
    BatchFailedError,
    ErrorCode,
    JobFailedError,
    StorageConfigurationError,
)
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.operators.land import ModelsLabVideo2VideoToS3Operator
from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from airflow_provider_modelslab.plugins.gallery.store import open_store
from airflow_provider_modelslab.storage.landing import LandingPolicy
from airflow_provider_modelslab.storage.landing import land as land_links
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import FRAMES, Restyle
from tests.support.connections import set_connection, set_modelslab
from tests.support.endpoint import Caller
from tests.support.files_server import FilesServer, ServedFile
from tests.support.reading_engine import GatedReadingEngine
from tests.support.s3 import S3Server, keys_of
from tests.support.samples import framed_mp4, small_mp4
from tests.support.shell import Shell
from tests.support.strict_s3 import KMS, Policy, StrictS3, unencrypted
from tests.support.supervisor import OneThreadSupervisor
from tests.support.tasks import TaskInstance, context_of, deferral_of, execute, in_the_triggerer, run, to_the_end

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SESSION_S = 2.5
MIB = 1024 * 1024


class WaitingReader(GatedReadingEngine):
    """Reads a clip when its job leaves the queue, which a test decides."""

    gate: threading.Event

    def __init__(self) -> None:
        super().__init__(threading.Event())
        self.gate.set()


@dataclass
class Company:
    """A strict bucket, and the connections that lead to it."""

    strict: StrictS3
    bucket: str
    s3: S3Client
    patch: pytest.MonkeyPatch
    url: str

    def connect(self, extra_args: Any = None, **aws: Any) -> None:
        keys = {"login": self.strict.access_key, "password": self.strict.secret_key}
        set_connection(self.patch, "aws_default", "aws", **keys, extra={"verify": str(self.strict.ca_path), **aws})
        set_modelslab(
            self.patch,
            self.url,
            bucket=self.bucket,
            prefix="team/styled",
            region=self.strict.region,
            endpoint_url=self.strict.endpoint_url,
            extra_args=extra_args,
        )

    def with_sessions(self) -> None:
        """Sessions of seconds, which boto refreshes when a second is left, as it does those of an hour in time."""
        self.strict.session_s = SESSION_S
        self.patch.setattr(RefreshableCredentials, "_advisory_refresh_timeout", 1.0)
        self.patch.setattr(RefreshableCredentials, "_mandatory_refresh_timeout", 0.5)
        self.connect(KMS, **self.strict.role)

    def add(self, *names: str) -> str:
        for name in names:
            self.s3.put_object(Bucket=self.bucket, Key=f"team/in/{name}.mp4", Body=small_mp4())
        return f"s3://{self.bucket}/team/in/{names[0]}.mp4"

    def batch(self, **arguments: Any) -> Dag:
        places = {"source": f"s3://{self.bucket}/team/in/", "destination": f"s3://{self.bucket}/team/out/"}
        return Dag(self.s3, self.bucket, **{**places, "width": 64, "height": 64, "deferrable": False, **arguments})

    def unencrypted(self) -> list[str]:
        return unencrypted(self.s3, self.bucket, but="team/in/")


@pytest.fixture
def engine() -> WaitingReader:
    return WaitingReader()


@pytest.fixture
def company(
    s3_server: S3Server, s3: S3Client, bucket: str, endpoint: Caller, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Company]:
    with StrictS3(s3_server, Policy(bucket, "team/")) as strict:
        for name in ("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):  # for the endpoint's reads of links, and for STS
            monkeypatch.setenv(name, str(strict.ca_path))
        found = Company(strict, bucket, s3, monkeypatch, endpoint.url)
        found.connect(KMS)
        yield found


@pytest.fixture
def small(restyle: Restyle) -> Callable[..., Any]:
    return lambda **changes: restyle(**{"width": 64, "height": 64, **changes})


# -- headers and prefix ---------------------------------------------------------------------------------------------


def test_the_main_dag(company: Company, small: Callable[..., Any], engine: WaitingReader) -> None:
    clip = company.add("a")
    manifest = run(lambda: small(init_video=clip, deferrable=True))
    assert manifest["status"] == "landed"
    assert company.strict.refused() == []
    assert company.unencrypted() == []
    assert "HeadBucket" not in {call.operation for call in company.strict.seen}
    assert len(engine.submitted) == 1


@pytest.mark.slow
def test_the_batch_dag_with_its_checkpoints(company: Company, engine: WaitingReader) -> None:
    company.add("a", "b", "c")
    engine.gate.clear()
    dag = company.batch(deferrable=True, max_in_flight=2)
    deferred = deferral_of(dag())
    engine.gate.set()
    summary = to_the_end(dag, deferred)
    assert (summary["landed"], len(engine.submitted)) == (3, 3)
    assert company.strict.refused() == []
    assert company.unencrypted() == []
    kinds = {call.key.rpartition(".")[2] for call in company.strict.created()}
    assert kinds >= {"mp4", "json", "jsonl", "gz"}, "results, sidecars, ledgers, manifests, checkpoints and index"


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_every_other_writer(
    company: Company,
    small: Callable[..., Any],
    files: FilesServer,
    airflow: Shell,
    tmp_path: Path,
    model_cache: None,
) -> None:
    """Staged clips, uploads in parts, chunks, local results, late landings, commands: none goes without the headers."""
    staged = tmp_path / "staged.mp4"
    staged.write_bytes(small_mp4())
    execute(small(init_video=str(staged), destination="staged.mp4"))
    hook = ModelsLabHook()
    big = S3Uri(company.bucket, "team/styled/big.mp4")
    link = files.add("/big.mp4", ServedFile(framed_mp4(11 * MIB)))
    land_links([link], big, hook.get_s3_client(), policy=LandingPolicy(part_size=5 * MIB))
    company.add("a", "b")
    execute(
        ModelsLabPlanClipsOperator(
            task_id="plan",
            source=f"s3://{company.bucket}/team/in/",
            destination=f"s3://{company.bucket}/team/out/",
            clips_per_task=1,
        )
    )
    local = LocalVideo2VideoOperator(
        task_id="local",
        init_video=f"s3://{company.bucket}/team/in/a.mp4",
        model_id="tiny",
        prompt="a fox",
        num_frames=FRAMES,
        num_inference_steps=1,
        width=64,
        height=64,
        destination="local.mp4",
    )
    execute(local)
    job = execute(small(init_video=company.add("a"), destination="x.mp4", wait_for_completion=False))
    hook.wait(Job(job["job_id"], job["conn_id"]), deadline=time.time() + 60)
    execute(ModelsLabVideo2VideoToS3Operator(task_id="land", job=job, destination="late.mp4"))
    line = ["submit", str(staged), "--model-id", "dark-sushi-mix", "--prompt", "a fox", "--num-frames", str(FRAMES)]
    line += ["--width", "64", "--height", "64"]
    assert airflow(*line, "--to", f"s3://{company.bucket}/team/cli.mp4", "--yes") == 0, airflow.err
    assert airflow("check", "--write") == 0, airflow.out
    assert company.strict.refused() == []
    assert company.unencrypted() == []
    head = company.s3.head_object(Bucket=big.bucket, Key=big.key)
    assert (head["ETag"].strip('"')[-2:], set(head["Metadata"])) == ("-3", {"sha256"})


def test_the_operators_argument_goes_before_the_connections(company: Company, small: Callable[..., Any]) -> None:
    company.connect({**KMS, "SSEKMSKeyId": "another", "StorageClass": "STANDARD_IA"})
    arguments = {"SSEKMSKeyId": KMS["SSEKMSKeyId"], "StorageClass": None}
    execute(small(init_video=company.add("a"), extra_args=arguments))
    assert company.strict.refused() == []
    assert {call.headers.get("x-amz-storage-class") for call in company.strict.created()} == {None}


@pytest.mark.slow
def test_what_the_trigger_writes_carries_the_operators_argument(
    company: Company, small: Callable[..., Any], engine: WaitingReader, supervisor: OneThreadSupervisor
) -> None:
    company.connect()
    engine.gate.clear()
    deferred = deferral_of(small(init_video=company.add("a"), deferrable=True, extra_args=KMS))
    asyncio.run(in_the_triggerer(deferred).on_kill())
    supervisor.by_other_threads.clear()  # the triggerer's takes questions of any thread
    engine.gate.set()
    assert any(key.endswith("-abandoned.json") for key in keys_of(company.s3, company.bucket))
    assert company.strict.refused() == []


@pytest.mark.parametrize("extra_args", [None, {"ServerSideEncryption": "AES256"}])
def test_without_the_headers_nothing_is_paid_for(
    company: Company, small: Callable[..., Any], engine: WaitingReader, extra_args: Any
) -> None:
    company.connect(extra_args)
    with pytest.raises(StorageConfigurationError) as caught:
        execute(small(init_video=company.add("a")))
    assert caught.value.http_status == 403
    assert engine.submitted == []


@pytest.mark.slow
def test_a_destination_outside_of_the_prefix_is_found_before_anything_is_paid_for(
    company: Company, small: Callable[..., Any], engine: WaitingReader
) -> None:
    clip = company.add("a")
    with pytest.raises(StorageConfigurationError):
        execute(small(init_video=clip, destination=f"s3://{company.bucket}/elsewhere/a.mp4"))
    with pytest.raises(StorageConfigurationError):
        execute(company.batch(destination=f"s3://{company.bucket}/elsewhere/")())
    assert engine.submitted == []


def test_the_connection_is_tested_with_a_prefix_alone(company: Company) -> None:
    works, _ = ModelsLabHook().test_connection()
    assert works
    assert company.strict.refused() == []


@pytest.mark.slow
def test_a_bucket_whose_readers_pay(company: Company, small: Callable[..., Any], tmp_path: Path) -> None:
    company.strict.policy.payer = True
    company.strict.policy.headers = {}
    company.connect(json.dumps({"RequestPayer": "requester"}))  # as the connection's form stores it
    clip = company.add("a", "b")
    manifest = run(lambda: small(init_video=clip, deferrable=True))
    assert execute(company.batch()())["landed"] == 2
    link = open_store("modelslab_default").link(S3Uri.parse(manifest["uri"]))
    assert requests.get(link, verify=str(company.strict.ca_path), timeout=60).content[4:8] == b"ftyp"
    assert company.strict.refused() == []
    company.connect()
    with pytest.raises(StorageConfigurationError):
        execute(small(init_video=clip, destination="other.mp4"))


# -- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_session_that_ends_while_the_main_dags_job_waits(
    company: Company, small: Callable[..., Any], engine: WaitingReader, caplog: pytest.LogCaptureFixture
) -> None:
    """The link dies with the session, and the job with it; the retry signs another one."""
    company.with_sessions()
    clip = company.add("a")

    def make() -> Any:
        return small(init_video=clip, deferrable=True, retries=1)

    engine.gate.clear()
    first = context_of(TaskInstance(max_tries=1))
    deferred = deferral_of(make(), first)
    assert any(record.name.endswith("storage.signing") and clip in record.message for record in caplog.records)
    company.strict.wait_for_the_end()
    engine.gate.set()
    with pytest.raises(JobFailedError) as caught:
        to_the_end(make, deferred, first)
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.JOB_FAILED, True)
    manifest = run(make, context_of(TaskInstance(try_number=2, max_tries=1)))
    assert manifest["status"] == "landed"
    one, two = (request.init_video for request in engine.submitted)
    assert one != two
    assert {call.refused for call in company.strict.refused()} == {"ExpiredToken"}
    assert {call.operation for call in company.strict.refused()} == {"GetObject"}, "the endpoint's reads alone"
    assert company.unencrypted() == []


@pytest.mark.slow
def test_a_session_that_ends_while_the_batch_dags_jobs_wait(company: Company, engine: WaitingReader) -> None:
    company.with_sessions()
    company.add("a", "b", "c")
    engine.gate.clear()
    dag = company.batch(deferrable=True, retries=1)
    first = context_of(TaskInstance(max_tries=1))
    deferred = deferral_of(dag(), first)
    company.strict.wait_for_the_end()
    engine.gate.set()
    with pytest.raises(BatchFailedError) as caught:
        to_the_end(dag, deferred, first)
    assert caught.value.retryable
    second = context_of(TaskInstance(try_number=2, max_tries=1))
    try:
        summary = execute(dag(), second)
    except TaskDeferred as again:
        summary = to_the_end(dag, again, second)
    assert summary["landed"] == 3
    assert {call.operation for call in company.strict.refused()} == {"GetObject"}
    assert company.unencrypted() == []


@pytest.mark.slow
def test_a_session_that_ends_after_the_clip_was_read_ends_nothing(
    company: Company, small: Callable[..., Any], engine: WaitingReader
) -> None:
    """All other calls go on with a new session."""
    company.with_sessions()
    clip = company.add("a")
    deferred = deferral_of(small(init_video=clip, deferrable=True))
    while not any(call.headers.get("authorization") is None for call in company.strict.seen):
        threading.Event().wait(0.02)  # until the endpoint has read it
    company.strict.wait_for_the_end()
    manifest = to_the_end(lambda: small(init_video=clip, deferrable=True), deferred)
    assert manifest["status"] == "landed"
    assert company.strict.refused() == []
    assert len(engine.submitted) == 1


def test_nothing_but_the_hook_makes_s3_clients() -> None:
    """A client of another make would write without the headers."""
    root = Path(airflow_provider_modelslab.__file__).parent
    makes = re.compile(r"client\(\s*['\"]s3['\"]")
    makers = {str(path.relative_to(root)) for path in root.rglob("*.py") if makes.search(path.read_text())}
    # The second plays the vendor's server, with the keys that update_s3 gave it, and as little choice of headers.
    # The third is the client of the tests themselves.
    assert makers == {"hooks/modelslab.py", "endpoint/results/s3_upload.py", "testing/s3.py"}
