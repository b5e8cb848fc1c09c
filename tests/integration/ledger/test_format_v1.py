"""Version 1 of the stored format: ledgers as they were written at its freeze are read, and nothing is paid again.

The files under ``tests/data/ledger_v1`` are what the package wrote on 2026-11-29. Never make them anew: a failure here
means that a user's running jobs and stored results would be paid for once more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from airflow_provider_modelslab.api.errors import SubmissionUnknownError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.jobs.paid_job import PaidJob
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.listing import LedgerRoot, result_folder, task_folder
from airflow_provider_modelslab.ledger.model import (
    FORMAT_VERSION,
    Entry,
    Fingerprint,
    LedgerPolicy,
    Stored,
    Submission,
    SubmitNew,
    TaskKey,
    kind_of,
)
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.storage.inputs import identify_input
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

DATA = Path(__file__).parents[2] / "data/ledger_v1"
BUCKET = "ledger-format-v1"
ROOT = S3Uri(BUCKET, "_modelslab/ledger")
RUN1 = AttemptId("films", "restyle", "scheduled__2026-11-29T00:00:00+00:00", try_number=2)
RUN2 = AttemptId("films", "restyle", "scheduled__2026-11-30T00:00:00+00:00", try_number=2)
RUN3 = AttemptId("films", "restyle", "scheduled__2026-12-01T00:00:00+00:00")
ALWAYS = LedgerPolicy(reuse="always")

# The request of all these ledgers, as another Dag might write it: defaults left out, another signature, a webhook.
REQUEST = Video2VideoRequest(
    model_id="dark-sushi-mix",
    prompt="a fox",
    init_video="https://clips.example/in.mp4?sig=2",
    strength="0.55",
    seed="7",
    output_type="mp4",
    webhook="https://hooks.example/x",
)


class Hook:
    """A hook with which nothing can be paid for."""

    modelslab_conn_id = "modelslab_default"
    s3_profile = SimpleNamespace(bucket=None)

    def __init__(self, s3: S3Client) -> None:
        self._s3 = s3

    def get_s3_client(self) -> S3Client:
        return self._s3


class Nobody:
    """A caller that is never reached."""

    def submission_name(self, number: int, destination: S3Uri | None) -> str:
        return f"submission{number}"

    def resolution(self, name: str) -> str | None:
        return None

    def advice(self, name: str) -> str:
        return name

    def confirm(self, job: PaidJob, clip: object) -> None:
        raise AssertionError("a new job would be paid for")

    def before_claim(self, track_id: str) -> None:
        raise AssertionError("a new job would be paid for")


def destination(name: str) -> S3Uri:
    return S3Uri(BUCKET, f"out/{name}.mp4")


@pytest.fixture(scope="module")
def stored(s3_server: S3Server) -> Iterator[S3Client]:
    """A bucket with the committed ledgers, and the results of those that have landed."""
    s3 = s3_server.client()
    s3.create_bucket(Bucket=BUCKET)
    for file in DATA.rglob("*.json"):
        s3.put_object(Bucket=BUCKET, Key=f"{ROOT.key}/{file.relative_to(DATA)}", Body=file.read_bytes())
    for name in ("landed", "attached", "local", "command"):
        s3.put_object(Bucket=BUCKET, Key=destination(name).key, Body=b"x" * 12, Metadata={"sha256": "00" * 32})
    yield s3
    s3.close()


def acquire(s3: S3Client, name: str, attempt: AttemptId = RUN1, policy: LedgerPolicy | None = None) -> Any:
    ledger = LedgerRoot(s3, ROOT).open(destination(name), sleep=lambda seconds: None)
    hook = cast("ModelsLabHook", Hook(s3))
    return PaidJob(REQUEST, hook, ledger, destination(name), policy or LedgerPolicy(), attempt, Nobody()).acquire()


def test_every_kind_of_entry_is_there() -> None:
    entries = {file: json.loads(file.read_text()) for file in DATA.rglob("*.json")}
    assert {kind_of(file.stem) for file in entries} == set(Entry)
    assert {entry["version"] for entry in entries.values()} == {1} == {FORMAT_VERSION}


@pytest.mark.parametrize(
    ("name", "attempt", "policy"),
    [
        ("landed", RUN1, None),
        ("landed", RUN3, ALWAYS),
        ("attached", RUN1, None),
        ("attached", RUN2, None),
        ("command", RUN1, ALWAYS),
    ],
)
def test_a_landed_result_serves(stored: S3Client, name: str, attempt: AttemptId, policy: LedgerPolicy | None) -> None:
    found = acquire(stored, name, attempt, policy)
    assert isinstance(found, Stored)
    assert (found.number, found.manifest["uri"], found.manifest["seed"]) == (1, str(destination(name)), 7)


@pytest.mark.parametrize("attempt", [RUN1, RUN3])
@pytest.mark.parametrize(
    ("name", "number", "job_id"),
    [("running", 1, "90001"), ("abandoned", 1, "90001"), ("adopted", 1, "90001"), ("second", 2, "90002")],
)
def test_a_running_job_is_waited_for(stored: S3Client, name: str, number: int, job_id: str, attempt: AttemptId) -> None:
    found = acquire(stored, name, attempt)
    assert isinstance(found, Submission)
    assert (found.number, found.job.job_id, found.job.conn_id) == (number, job_id, "modelslab_default")
    assert (found.resumed, found.job.submitted_at) == (True, 1_795_900_000.0)


def test_a_job_without_an_id_has_its_links(stored: S3Client) -> None:
    found = acquire(stored, "finished-at-once")
    assert found.finished.links == ("https://pub.example/out.mp4",)
    assert found.finished.generation_time == 3.5


@pytest.mark.parametrize("name", ["unknown", "claim-only"])
def test_an_unknown_outcome_asks_a_person(stored: S3Client, name: str) -> None:
    with pytest.raises(SubmissionUnknownError) as asked:
        acquire(stored, name)
    assert asked.value.submission == 1


@pytest.mark.parametrize(("name", "number"), [("failed", 2), ("released", 2), ("resolved", 2)])
def test_what_came_to_nothing_or_was_resolved_is_submitted_anew(stored: S3Client, name: str, number: int) -> None:
    fingerprint = Fingerprint.of(REQUEST, conn_id="modelslab_default", source="https://clips.example/in.mp4")
    found = LedgerRoot(stored, ROOT).open(destination(name)).find(fingerprint, LedgerPolicy(), RUN1)
    assert isinstance(found, SubmitNew)
    assert found.number == number


def test_a_local_result_serves(stored: S3Client) -> None:
    fingerprint = Fingerprint.of(REQUEST, conn_id="modelslab_default", source="https://clips.example/in.mp4")
    found = LedgerRoot(stored, ROOT).open(destination("local")).find_stored(fingerprint, LedgerPolicy(), RUN1)
    assert found is not None
    assert found.manifest["uri"] == str(destination("local"))


def test_the_ledger_of_a_task_without_a_destination(stored: S3Client) -> None:
    folder = task_folder(ROOT, TaskKey("films", "restyle", "scheduled__2026-11-29T00:00:00+00:00"))
    fingerprint = Fingerprint.of(REQUEST, conn_id="modelslab_default", source="https://clips.example/in.mp4")
    found = Ledger(LedgerRoot(stored, ROOT).store(folder)).find(fingerprint, LedgerPolicy(), RUN1)
    assert isinstance(found, Submission)


def test_where_ledgers_lie() -> None:
    assert str(result_folder(S3Uri("bucket", "p/_modelslab/ledger"), S3Uri("films", "a/b/c.mp4"))) == (
        "s3://bucket/p/_modelslab/ledger/results/db944067/ca978112/3e23e816/"
        "934c68d797146bcb46137213f0957e25c48a051fd8a51a9e7793134377c840bf"
    )


@pytest.mark.parametrize(
    ("clip", "identity"),
    [
        ("https://h.example/a.mp4", "https://h.example/a.mp4"),
        ("https://u:p@h.example/a.mp4?v=2&X-Amz-Signature=abc#t=1", "https://h.example/a.mp4?v=2"),
        ("https://h.example/a%20b.mp4?b=1&a=2", "https://h.example/a%20b.mp4?b=1&a=2"),
    ],
)
def test_what_identifies_a_link(clip: str, identity: str) -> None:
    assert identify_input(clip, lambda: pytest.fail("no S3 is asked")) == identity


def test_what_identifies_an_object_and_a_file(stored: S3Client, tmp_path: Path) -> None:
    etag = hashlib.md5(b"x" * 12, usedforsecurity=False).hexdigest()
    assert identify_input(str(destination("landed")), lambda: stored) == f's3://{BUCKET}/out/landed.mp4#"{etag}"'
    (tmp_path / "a.mp4").write_bytes(b"abc")
    assert identify_input(str(tmp_path / "a.mp4"), lambda: stored) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
