"""Two processes that land one large result at the same time: the quicker one ends the other one's upload."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.jobs.paid_job import land
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.listing import LedgerRoot
from airflow_provider_modelslab.ledger.model import Fingerprint, LedgerPolicy, Stored, SubmitNew
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.files_server import FilesServer, ServedFile
from tests.support.s3 import knowing_uploads, leftovers, listening
from tests.support.samples import framed_mp4

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")

BIG = framed_mp4(17 * 1024 * 1024)  # three of the parts that are landed by default
WANTED = Fingerprint("request", "source")


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
def test_both_end_well_and_the_next_attempt_finds_the_result(
    files: FilesServer, s3: S3Client, bucket: str, operation: str
) -> None:
    hook, target, attempt = ModelsLabHook(), S3Uri(bucket, "out/clip.mp4"), AttemptId("films", "restyle", "run 1")
    finished = Finished("7", (files.add("/clip.mp4", ServedFile(BIG)),))
    ledger = LedgerRoot(s3, S3Uri(bucket, "ledger")).open(target)
    new = ledger.find(WANTED, LedgerPolicy(), attempt)
    assert isinstance(new, SubmitNew)
    assert ledger.claim(new.number, WANTED, attempt, lease=60, name="n", track_id="t")
    submission = ledger.record(new.number, Job("7", "modelslab_default", submitted_at=time.time()))
    landed: list[dict[str, Any]] = []

    def overtake(**_: Any) -> None:
        if not landed:
            landed.append({})  # its own upload comes here too
            landed[0] = land(hook, ledger, submission, finished, target)

    client = hook.get_s3_client()
    with knowing_uploads(client), listening(client, f"before-call.s3.{operation}", overtake):
        landed.append(land(hook, ledger, submission, finished, target))
    assert landed[0]["sha256"] == landed[1]["sha256"]
    assert s3.get_object(Bucket=bucket, Key=target.key)["Body"].read() == BIG
    assert not [name for name in leftovers(s3, bucket) if name.startswith("upload of")]
    found = ledger.find(WANTED, LedgerPolicy(), attempt)
    assert isinstance(found, Stored)
    assert found.manifest["sha256"] == landed[0]["sha256"]
