"""``clean``: what is old and of no use goes, and nothing that keeps anybody from paying."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from airflow_provider_modelslab.api.errors import JobFailedError
from airflow_provider_modelslab.batch.results import index as batch_index
from airflow_provider_modelslab.cli import clean as clean_module
from airflow_provider_modelslab.cli import sweep
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.ledger.listing import result_folder, task_folder
from airflow_provider_modelslab.ledger.model import TaskKey
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.tasks.conftest import Restyle, WatchedEngine
from tests.support.s3 import _Raw, listening, refusing
from tests.support.samples import small_mp4
from tests.support.shell import Shell
from tests.support.tasks import execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "quick", "later")

CLEAN = ("clean", "--older-than", "90d")
SHA = "ab" * 32
CLAIM = {"claimed_at": "2026-01-01T00:00:00+00:00", "expires_at": 0, "name": "dag.task/run/submission1"}
JOB = {"job_id": "7", "conn_id": "modelslab_default"}


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs 100 days later; what it finds with "young" in its key is of that day too."""
    then = time.time() + 100 * 86400
    monkeypatch.setattr(clean_module, "time", SimpleNamespace(time=lambda: then))
    real = ModelsLabHook.get_s3_client

    def young(parsed: dict[str, Any], **_: Any) -> None:
        for item in parsed.get("Contents", []):
            if "young" in item["Key"]:
                item["LastModified"] = datetime.fromtimestamp(then, UTC)

    def get(hook: ModelsLabHook) -> Any:
        client = real(hook)
        client.meta.events.register("after-call.s3.ListObjectsV2", young, unique_id="young")
        return client

    monkeypatch.setattr(ModelsLabHook, "get_s3_client", get)


class Bucket:
    """The connection's bucket, filled by hand."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self.s3 = s3
        self.name = bucket
        self.root = S3Uri(bucket, "styled/_modelslab/ledger")

    def put(self, key: str, body: bytes = b"x", **more: Any) -> str:
        self.s3.put_object(Bucket=self.name, Key=key, Body=body, **more)
        return key

    def result(self, name: str) -> S3Uri:
        return S3Uri(self.name, f"styled/{name}.mp4")

    def ledger(
        self, name: str, *kinds: str, claim: dict[str, Any] | None = None, there: bool = False, code: str = "job_failed"
    ) -> set[str]:
        """A ledger's keys; with a result, whose manifest has landed, that is there or not."""
        manifest = {"uri": str(self.result(name)), "sha256": "00" * 32, "bytes": 1}
        told: dict[str, Any] = {"claim": {**CLAIM, "name": name, **(claim or {})}, "job": JOB}
        told |= {"landed": {"manifest": manifest}, "failed": {"error": {"code": code}}}
        if there:
            self.put(self.result(name).key, Metadata={"sha256": "00" * 32})
        folder = result_folder(self.root, self.result(name)).key
        return {
            self.put(f"{folder}/{kind}.json", json.dumps(told.get(kind.partition("-")[2], {})).encode())
            for kind in kinds
        }

    def everything(self) -> set[str]:
        """All keys."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return {item["Key"] for page in pages for item in page.get("Contents", [])}


@pytest.fixture
def filled(s3: S3Client, bucket: str) -> Bucket:
    return Bucket(s3, bucket)


@pytest.mark.slow
def test_what_is_old_goes_and_all_else_stays(airflow: Shell, filled: Bucket, s3: S3Client) -> None:
    base = "styled"
    gone = {
        filled.put(f"{base}/out/_modelslab/batches/dag/task/run.try1.state.json.gz"),
        filled.put(f"{base}/_modelslab/batches/dag/task/run.try12.state.json.gz"),
        filled.put(f"{base}/inputs/{SHA}.mp4"),
        filled.put(f"{base}/inputs/{'cd' * 32}.gif"),
        filled.put(f"{base}/_modelslab/ledger/index/{'0' * 16}/{0:014d}-00000000.jsonl.gz"),
        *filled.ledger("failed", "0001-claim", "0001-job", "0001-failed"),
        *filled.ledger("refused", "0001-claim", "0001-released"),
        *filled.ledger("resolved", "0001-claim", "0001-unknown", "0001-resolved"),
        *filled.ledger("landed", "0001-claim", "0001-job", "0001-landed", "0001-attached-0123456789abcdef"),
        *filled.ledger("local", "0001-claim", "0001-landed", claim={"billed": False}),
    }
    stay = {
        # Ledgers that keep somebody from paying, or that nobody understands.
        *filled.ledger("running", "0001-claim", "0001-job"),
        *filled.ledger("abandoned", "0001-claim", "0001-job", "0001-abandoned"),
        *filled.ledger("unknown", "0001-claim", "0001-unknown"),
        *filled.ledger("claimed", "0001-claim"),
        *filled.ledger("there", "0001-claim", "0001-job", "0001-landed", there=True),
        filled.result("there").key,
        *filled.ledger("there-before", "0001-claim", "0001-landed", "0002-claim", "0002-failed", there=True),
        filled.result("there-before").key,
        *filled.ledger("unreadable-clip", "0001-claim", "0001-job", "0001-failed", code="clip_unreadable"),
        *filled.ledger("of-a-later-version", "0001-claim", "0001-failed", "0001-novelty"),
        filled.put(f"{task_folder(filled.root, TaskKey('d', 't', 'r')).key}/0001-claim.json", b"{}"),
        filled.put(f"{task_folder(filled.root, TaskKey('d', 't', 'r')).key}/0001-job.json", json.dumps(JOB).encode()),
        # What is none of this package's, or not of these kinds.
        filled.put(f"{base}/inputs/holiday.mp4"),
        filled.put(f"{base}/inputs/{SHA}.mov"),
        filled.put(f"{base}/inputs/{SHA.upper()}.mp4"),
        filled.put(f"{base}/inputs/more/{SHA}.mp4"),
        filled.put(f"inputs/{SHA}.mp4"),  # of a connection without a prefix
        filled.put(f"{base}/out/_modelslab/batches/dag/task/run.jsonl"),
        filled.put(f"{base}/out/_modelslab/batches/dag/task/run.retry.jsonl"),
        filled.put(f"{base}/out/_modelslab/batches/dag/task/run.try1.state.json"),
        filled.put(f"{base}/modelslab/batches/run.try1.state.json.gz"),
        filled.put(f"{base}/_modelslab/ledger/conditional-puts.json", b'{"honoured": true}'),
        filled.put(f"{base}/_modelslab/ledger/results/{'0' * 64}/0001-failed.json"),
        filled.put(f"{base}/_modelslab/ledger/notes.txt"),
        filled.put(f"{base}/_modelslab/ledger/index/{'0' * 16}/notes.jsonl.gz"),
        *(filled.put(f"{base}/_modelslab/ledger/index/{'0' * 16}/{n:014d}-00000000.jsonl.gz") for n in range(1, 64)),
        filled.put(f"{base}/_modelslab/ledger/index/{'0' * 16}/{64:014d}-00000000-whole.jsonl.gz"),
        filled.put(f"{base}/_modelslab/ledger/index/{'1' * 16}/{0:014d}-00000000.jsonl.gz"),
        # What is not old.
        filled.put(f"{base}/young/_modelslab/batches/dag/task/run.try1.state.json.gz"),
    }
    before = filled.everything()
    assert before == gone | stay
    (planned,) = airflow.json(*CLEAN, "--dry-run")
    assert filled.everything() == before
    found = {row["what"]: row["found"] for row in planned["rows"]}
    assert found == {
        "unfinished uploads": 0,
        "checkpoints of batches": 2,
        "index segments": 1,
        "staged inputs": 2,
        "ledgers, landed, result gone": 1,
        "ledgers, made locally, result gone": 1,
        "ledgers, failed": 1,
        "ledgers, refused": 1,
        "ledgers, resolved by a person": 1,
    }
    assert planned["ledgers_kept"] == {
        "open": 6,
        "result is there": 2,
        "clip cannot be read": 1,
        "young": 0,
        "unreadable": 0,
    }
    assert {each["name"]: each["was"] for each in planned["pays"]} == {
        "landed": "landed",
        "failed": "failed",
        "refused": "refused",
        "resolved": "resolved",
    }
    assert planned["pays_count"] == 4
    (done,) = airflow.json(*CLEAN, "--yes")
    assert filled.everything() == stay
    assert {row["what"]: row["removed"] for row in done["rows"]} == found
    assert done["errors"] == []
    (again,) = airflow.json(*CLEAN, "--yes")
    assert sum(row["found"] for row in again["rows"]) == 0


@pytest.mark.slow
def test_nothing_goes_before_its_time_or_without_a_yes(
    airflow: Shell, filled: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.ledger("failed", "0001-claim", "0001-failed")
    before = filled.everything()
    (none,) = airflow.json("clean", "--older-than", "101d", "--yes")
    assert none["ledgers_kept"]["young"] == 1
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert airflow(*CLEAN) == 2
    assert "pays again for 1 of" in airflow.err
    monkeypatch.setattr("sys.stdin", _Answering("n\n"))
    assert airflow(*CLEAN) == 1
    assert filled.everything() == before
    monkeypatch.setattr("sys.stdin", _Answering("y\n"))
    assert airflow(*CLEAN) == 0
    assert filled.everything() == set()
    assert airflow(*CLEAN) == 0  # nothing is asked where there is nothing


class _Answering(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("there", "status", "code"),
    [(False, 503, "SlowDown"), (True, 503, "SlowDown"), (True, 403, "AccessDenied")],  # a 403 is checked by a listing
)
def test_a_result_that_cannot_be_looked_at_counts_as_there(
    airflow: Shell, filled: Bucket, *, there: bool, status: int, code: str
) -> None:
    filled.ledger("landed", "0001-claim", "0001-landed", there=there)
    broken = filled.ledger("broken", "0001-claim", "0001-landed")
    filled.put(next(key for key in broken if key.endswith("landed.json")), b"no JSON")
    before = filled.everything()
    with _client(refusing, "HeadObject", status, code):
        (kept,) = airflow.json(*CLEAN, "--yes")
    assert filled.everything() == before
    assert kept["ledgers_kept"] == {
        "open": 0,
        "result is there": 1,
        "clip cannot be read": 0,
        "young": 0,
        "unreadable": 1,
    }


def test_a_staged_file_that_a_queued_job_is_to_read_stays(airflow: Shell, filled: Bucket) -> None:
    used, by_uri, free = ("ab" * 32, "bc" * 32, "cd" * 32)
    keys = [filled.put(f"styled/inputs/{digest}.mp4", digest.encode()) for digest in (used, by_uri, free)]
    source = hashlib.sha256(used.encode()).hexdigest()
    filled.ledger("young-and-running", "0001-claim", "0001-job", claim={"source": source})
    etag = filled.s3.head_object(Bucket=filled.name, Key=keys[1])["ETag"]
    named = hashlib.sha256(f"s3://{filled.name}/{keys[1]}#{etag}".encode()).hexdigest()
    filled.ledger("unknown", "0001-claim", "0001-unknown", claim={"source": named})
    filled.ledger("failed", "0001-claim", "0001-failed", claim={"source": hashlib.sha256(free.encode()).hexdigest()})
    airflow.json(*CLEAN, "--yes")
    assert [key in filled.everything() for key in keys] == [True, True, False]


def test_a_real_staged_file_is_told_by_the_claim_of_its_job(
    airflow: Shell, restyle: Restyle, filled: Bucket, tmp_path: Path
) -> None:
    clip = tmp_path / "in.mp4"
    clip.write_bytes(small_mp4())
    execute(restyle(init_video=str(clip), wait_for_completion=False))
    (staged,) = [key for key in filled.everything() if "/inputs/" in key]
    airflow.json(*CLEAN, "--yes")
    assert staged in filled.everything()
    execute(restyle(init_video=str(clip)))  # it lands
    airflow.json(*CLEAN, "--yes")
    assert staged not in filled.everything()


def test_unfinished_uploads_of_our_results_are_aborted(airflow: Shell, filled: Bucket, s3: S3Client) -> None:
    filled.ledger("ours", "0001-claim", "0001-job")
    filled.ledger("closed", "0001-claim", "0001-failed")
    ours = [filled.result("ours").key, filled.result("closed").key, f"styled/inputs/{SHA}.mp4"]
    others = ["styled/holiday.mp4", "elsewhere.mp4"]
    for key in (*ours, *others):
        s3.create_multipart_upload(Bucket=filled.name, Key=key)
    (done,) = airflow.json(*CLEAN, "--yes")
    assert next(row for row in done["rows"] if row["what"] == "unfinished uploads")["removed"] == 3
    assert sorted(upload["Key"] for upload in s3.list_multipart_uploads(Bucket=filled.name)["Uploads"]) == sorted(
        others
    )


@pytest.mark.slow
def test_what_is_refused_is_told_and_a_ledger_in_part_still_says_how_it_ended(airflow: Shell, filled: Bucket) -> None:
    failed = filled.ledger("failed", "0001-claim", "0001-job", "0001-failed")
    filled.put("styled/_modelslab/batches/a.try1.state.json.gz")
    claim = next(key for key in failed if key.endswith("claim.json"))

    def part(request: Any, **_: Any) -> Any:
        if claim.encode() not in request.body:
            return None
        body = f"<DeleteResult><Error><Key>{claim}</Key><Code>AccessDenied</Code></Error></DeleteResult>".encode()
        return AWSResponse(request.url, 200, HTTPHeaders.from_dict({}), _Raw(body))

    with _client(listening, "before-send.s3.DeleteObjects", part):
        (done,) = airflow.json(*CLEAN, "--yes", code=1)
    assert done["errors"] == [{"key": claim, "problem": "AccessDenied"}]
    assert {row["what"]: row["removed"] for row in done["rows"] if row["found"]} == {
        "checkpoints of batches": 1,
        "ledgers, failed": 0,
    }
    assert {key for key in failed if key.endswith("failed.json")} <= filled.everything()


@pytest.mark.slow
def test_the_next_runs_do_what_was_told(
    airflow: Shell, restyle: Restyle, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    """A failed job: paid for again, with and without its ledger. A result that is there: never."""
    there = execute(restyle(destination=f"s3://{bucket}/styled/there.mp4"))
    with pytest.raises(JobFailedError):
        execute(restyle(destination=f"s3://{bucket}/styled/failed.mp4", prompt="unreadable"))
    gone = execute(restyle(destination=f"s3://{bucket}/styled/gone.mp4", seed=3))
    place = S3Uri.parse(gone["uri"])
    s3.delete_object(Bucket=bucket, Key=place.key)
    assert len(engine.submitted) == 3
    (done,) = airflow.json(*CLEAN, "--yes")
    assert {each["uri"] for each in done["pays"]} == {None, gone["uri"]}
    assert done["ledgers_kept"]["result is there"] == 1
    assert execute(restyle(destination=f"s3://{bucket}/styled/there.mp4"))["job_id"] == there["job_id"]
    assert len(engine.submitted) == 3
    with pytest.raises((JobFailedError, AirflowFailException)):
        execute(restyle(destination=f"s3://{bucket}/styled/failed.mp4", prompt="unreadable"))
    execute(restyle(destination=f"s3://{bucket}/styled/gone.mp4", seed=3))
    assert len(engine.submitted) == 5


@pytest.mark.parametrize("root", ["s3://{}/styled", "s3://{}/styled/results", "s3://{}/x_modelslab/ledger"])
def test_a_root_that_is_none_is_refused(airflow: Shell, filled: Bucket, root: str) -> None:
    filled.put(f"styled/inputs/{SHA}.mp4")
    assert airflow(*CLEAN, "--yes", "--root", root.format(filled.name)) == 1
    assert f"styled/inputs/{SHA}.mp4" in filled.everything()


def test_another_root(airflow: Shell, filled: Bucket) -> None:
    key = filled.put(f"other/inputs/{SHA}.mp4")
    stays = filled.put(f"styled/inputs/{SHA}.mp4")
    airflow.json(*CLEAN, "--yes", "--root", f"s3://{filled.name}/other/_modelslab/ledger/")
    assert filled.everything() == {stays}, key


def test_as_many_segments_are_kept_as_are_read() -> None:
    assert batch_index._READ == sweep.SEGMENTS_READ


@pytest.mark.slow
def test_a_hundred_thousand_keys_are_swept_page_by_page(
    s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through boto's own parser, from pages that are made when asked for; a page is gone before the next ones."""
    pages, per_page = 100, 1000
    listed, deleted, waiting = 0, [], []

    def reply(request: Any, body: str) -> AWSResponse:
        return AWSResponse(request.url, 200, HTTPHeaders.from_dict({}), _Raw(body.encode()))

    def page_of(request: Any, **_: Any) -> AWSResponse:
        nonlocal listed
        if "results%2F" not in request.url:
            return reply(request, "<ListBucketResult/>")
        page = int(request.url.partition("continuation-token=")[2].partition("&")[0] or 0)
        listed += per_page
        body = [f"<ListBucketResult><IsTruncated>{'true' if page + 1 < pages else 'false'}</IsTruncated>"]
        body.append(f"<NextContinuationToken>{page + 1}</NextContinuationToken>")
        for number in range(page * per_page, (page + 1) * per_page):
            ledger, kind = divmod(number, 2)
            key = f"p/_modelslab/ledger/results/{0:08x}/{ledger:064x}/0001-{('claim', 'failed')[kind]}.json"
            body.append(f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>")
            body.append('<ETag>"0"</ETag><Size>1</Size></Contents>')
        return reply(request, "".join([*body, "</ListBucketResult>"]))

    def delete(request: Any, **_: Any) -> AWSResponse:
        deleted.append(request.body.count(b"<Key>"))
        waiting.append(listed - sum(deleted))
        return reply(request, "<DeleteResult/>")

    monkeypatch.setattr(S3LedgerStore, "load_one", lambda _, name: CLAIM)
    with (
        listening(s3, "before-send.s3.ListObjectsV2", page_of),
        listening(s3, "before-send.s3.ListMultipartUploads", lambda request, **_: reply(request, "<r/>")),
        listening(s3, "before-send.s3.DeleteObjects", delete),
    ):
        swept = sweep.Sweep(s3, S3Uri(bucket, "p/_modelslab/ledger"), time.time(), print)
        tally = clean_module._go(s3, bucket, swept, remove=True)
    assert tally.counts["ledgers, failed"] == [50_000, 100_000, 50_000]
    assert (sum(deleted), max(deleted) <= 1000) == (100_000, True)
    assert max(waiting) <= 4 * per_page
    assert (len(tally.pays), tally.paying) == (1000, 50_000)


class _client:  # noqa: N801 - reads as a context manager
    """The S3 client that the commands use, with something done to it within the block."""

    def __init__(self, how: Callable[..., Any], *arguments: Any) -> None:
        self._how, self._arguments = how, arguments

    def __enter__(self) -> None:
        client = ModelsLabHook().get_s3_client()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(ModelsLabHook, "get_s3_client", lambda _: client)
        self._block = self._how(client, *self._arguments)
        self._block.__enter__()

    def __exit__(self, *_: object) -> None:
        self._block.__exit__(None, None, None)
        self._patch.undo()
