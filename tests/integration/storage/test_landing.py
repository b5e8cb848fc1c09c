"""Landing from a real HTTP server into a real S3 server over TLS."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import (
    LandingError,
    ModelsLabError,
    ResultExpiredError,
    StorageConfigurationError,
)
from airflow_provider_modelslab.storage import upload as upload_module
from airflow_provider_modelslab.storage.landing import LandedObject, LandingPolicy, land
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.upload import MIB
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.files_server import FilesServer, ServedFile
from tests.support.s3 import S3Server, keys_of, knowing_uploads, leftovers, listening, refusing
from tests.support.samples import framed_mp4, small_gif, small_mp4

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MP4 = small_mp4()
BIG = framed_mp4(12 * MIB + 345)
SMALL_PARTS = LandingPolicy(part_size=5 * MIB, parts_in_flight=2, ready_timeout=2, min_backoff=0.01, max_backoff=0.05)
QUICK = LandingPolicy(ready_timeout=0.3, min_backoff=0.01, max_backoff=0.05)


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def target(bucket: str) -> S3Uri:
    return S3Uri(bucket, "styled/clip.mp4")


def test_a_small_file_is_one_put(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    link = files.add("/clip.mp4", ServedFile(MP4, content_type="text/plain"))
    landed = land([f"{link}?X-Amz-Signature=abc"], target, s3, expected_type="mp4")
    digest = hashlib.sha256(MP4).hexdigest()
    head = s3.head_object(Bucket=target.bucket, Key=target.key)
    assert head["ContentType"] == "video/mp4"
    assert head["Metadata"] == {"sha256": digest}
    assert landed == LandedObject(
        uri=target,
        bytes=len(MP4),
        sha256=digest,
        content_type="video/mp4",
        etag=head["ETag"].strip('"'),
        source_url=link,
        attempts=1,
        seconds=landed.seconds,
    )
    assert s3.get_object(Bucket=target.bucket, Key=target.key)["Body"].read() == MP4


@pytest.mark.parametrize("length", [True, False])
def test_a_large_file_goes_in_equal_parts(s3: S3Client, files: FilesServer, target: S3Uri, length: bool) -> None:
    link = files.add("/clip.mp4", ServedFile(BIG, length=length))
    landed = land([link], target, s3, policy=SMALL_PARTS)
    head = s3.head_object(Bucket=target.bucket, Key=target.key, PartNumber=1)
    assert landed.sha256 == hashlib.sha256(BIG).hexdigest()
    assert landed.etag.endswith("-3")
    assert head["ContentLength"] == 5 * MIB
    assert s3.get_object(Bucket=target.bucket, Key=target.key)["Body"].read() == BIG
    whole = s3.head_object(Bucket=target.bucket, Key=target.key)
    assert (whole["ContentType"], whole["Metadata"]) == ("video/mp4", {"sha256": landed.sha256})


def test_a_stream_longer_than_memory_is_sent_before_its_digest_is_known(
    s3: S3Client, files: FilesServer, target: S3Uri
) -> None:
    landed = land([files.add("/clip.mp4", ServedFile(BIG))], target, s3, policy=replace(SMALL_PARTS, parts_in_flight=1))
    head = s3.head_object(Bucket=target.bucket, Key=target.key)
    assert (landed.etag[-2:], head["Metadata"]) == ("-3", {})
    assert landed.sha256 == hashlib.sha256(BIG).hexdigest()


def test_exactly_one_part_is_one_put(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    link = files.add("/clip.mp4", ServedFile(framed_mp4(5 * MIB)))
    assert "-" not in land([link], target, s3, policy=SMALL_PARTS).etag


def test_a_client_with_botos_own_checksums(s3_server: S3Server, files: FilesServer, target: S3Uri) -> None:
    import boto3
    from botocore.config import Config

    client = boto3.session.Session("a", "b", region_name="us-east-1").client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        verify=str(s3_server.ca_path),
        config=Config(s3={"addressing_style": "path"}),
    )
    completions: list[bytes] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        completions.append(params["body"])

    client.meta.events.register("before-call.s3.CompleteMultipartUpload", note)
    land([files.add("/clip.mp4", ServedFile(BIG))], target, client, policy=SMALL_PARTS)
    body = client.get_object(Bucket=target.bucket, Key=target.key)["Body"].read()
    client.close()
    # S3 wants in the completion the checksums that boto added to the parts.
    assert completions[0].count(b"<ChecksumCRC32>") == 3
    assert body == BIG


@pytest.mark.parametrize("link_type", ["base64", "data URI"])
def test_base64_is_decoded(s3: S3Client, files: FilesServer, target: S3Uri, link_type: str) -> None:
    text = base64.b64encode(BIG)
    body = text if link_type == "base64" else b"data:video/mp4;base64," + text
    landed = land([files.add("/clip.txt", ServedFile(body))], target, s3, policy=SMALL_PARTS)
    assert (landed.bytes, landed.content_type) == (len(BIG), "video/mp4")
    assert s3.get_object(Bucket=target.bucket, Key=target.key)["Body"].read() == BIG


def test_a_gif(s3: S3Client, files: FilesServer, bucket: str) -> None:
    landed = land([files.add("/a.gif", ServedFile(small_gif()))], S3Uri(bucket, "a.gif"), s3, expected_type="gif")
    assert landed.content_type == "image/gif"


def test_the_other_type_is_refused_and_not_asked_again(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    link = files.add("/clip.mp4", ServedFile(small_gif()))
    with pytest.raises(LandingError, match=r"is a gif, but output_type mp4 was requested.*\(job 500\)") as caught:
        land([link], target, s3, expected_type="mp4", job_id="500")
    assert caught.value.job_id == "500"
    assert len(files.seen) == 1
    assert leftovers(s3, target.bucket) == []


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (ServedFile(BIG, truncate_at=11 * MIB), "the body was truncated"),
        (ServedFile(BIG, length=False, truncate_at=11 * MIB), "the mp4 is cut"),
        (ServedFile(MP4, truncate_at=len(MP4) - 1), "the body was truncated"),
        (ServedFile(MP4, length=False, truncate_at=len(MP4) - 1), "the mp4 is cut"),
        (ServedFile(b"<html><body>Please wait"), "an HTML page"),
        (ServedFile(b'{"status":"processing"}'), "JSON"),
        (ServedFile(b""), "nothing (0 bytes)"),
        (ServedFile(b"", length=False), "nothing (0 bytes)"),
        (ServedFile(base64.b64encode(BIG)[: -4 * MIB]), "the mp4 is cut"),
        (ServedFile(failures=[403] * 999), "HTTP 403"),
        (ServedFile(failures=[503] * 999), "HTTP 503"),
        (ServedFile(failures=[400] * 999), "HTTP 400"),
        (ServedFile(redirect="ftp://127.0.0.1/clip.mp4"), "not an http(s) link"),
        (ServedFile(redirect="/clip.mp4"), "too many redirects"),
        (ServedFile(redirect="file:///etc/hostname"), "not an http(s) link"),
    ],
)
def test_what_is_no_whole_video_never_shows(
    s3: S3Client, files: FilesServer, target: S3Uri, file: ServedFile, says: str
) -> None:
    link = files.add("/clip.mp4", file)
    with pytest.raises(LandingError) as caught:
        land([f"{link}?X-Amz-Signature=abc"], target, s3, policy=SMALL_PARTS_ONCE, job_id="500")
    assert says in str(caught.value)
    assert f"{link}: " in str(caught.value)
    assert caught.value.job_id == "500"
    assert leftovers(s3, target.bucket) == []


SMALL_PARTS_ONCE = LandingPolicy(part_size=5 * MIB, ready_timeout=0.02, min_backoff=0.01, max_backoff=0.01)


def test_a_host_that_nobody_listens_on(s3: S3Client, target: S3Uri) -> None:
    with pytest.raises(LandingError, match="Connection refused") as caught:
        land(["http://127.0.0.1:9/clip.mp4?X-Amz-Signature=abc"], target, s3, policy=QUICK)
    error: BaseException | None = caught.value
    while error is not None:
        assert "X-Amz-Signature" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_body_that_stops_coming(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    link = files.add("/clip.mp4", ServedFile(BIG, stall=True))
    policy = LandingPolicy(part_size=5 * MIB, ready_timeout=0.01, min_backoff=0.01, read_timeout=0.3)
    with pytest.raises(LandingError, match=r"clip\.mp4: "):
        land([link], target, s3, policy=policy)
    assert leftovers(s3, target.bucket) == []


def test_a_link_that_is_not_ready_is_asked_again(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    link = files.add("/clip.mp4", ServedFile(MP4, failures=[404, 403, 503, 408, 425]))
    clock, told = Clock(), list[tuple[int, float, str]]()
    landed = land(
        [link], target, s3, sleep=clock.sleep, clock=clock, on_retry=lambda n, pause, why: told.append((n, pause, why))
    )
    assert landed.attempts == 6
    assert [n for n, _, _ in told] == [1, 2, 3, 4, 5]
    assert "HTTP 404" in told[0][2]
    assert [pause for _, pause, _ in told] == clock.slept
    for pause, full in zip(clock.slept, [1, 2, 4, 8, 15], strict=True):
        assert 0.75 * full <= pause <= full
    assert landed.seconds == pytest.approx(sum(clock.slept))


def test_retry_after_is_honoured(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    link = files.add("/clip.mp4", ServedFile(MP4, failures=[429], retry_after="40"))
    clock = Clock()
    assert land([link], target, s3, sleep=clock.sleep, clock=clock).attempts == 2
    assert clock.slept == [40]


def test_a_retry_after_beyond_the_deadline_ends_the_wait_at_once(
    s3: S3Client, files: FilesServer, target: S3Uri
) -> None:
    link = files.add("/clip.mp4", ServedFile(MP4, failures=[429], retry_after="500"))
    clock = Clock()
    with pytest.raises(LandingError, match="HTTP 429"):
        land([link], target, s3, sleep=clock.sleep, clock=clock)
    assert clock.slept == []


def test_the_last_look_is_at_the_deadline(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    link = files.add("/clip.mp4", ServedFile(failures=[404] * 999))
    clock = Clock()
    with pytest.raises(LandingError, match="within 120 s"):
        land([link], target, s3, sleep=clock.sleep, clock=clock)
    assert sum(clock.slept) == pytest.approx(120)
    assert 9 <= len(files.seen) <= 16


def test_the_next_link_is_tried_in_the_same_round(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    output = files.add("/output.mp4", ServedFile(failures=[404] * 9))
    proxy = files.add("/proxy.mp4", ServedFile(b"<html>"))
    future = files.add("/future.mp4", ServedFile(MP4))
    clock = Clock()
    landed = land([output, proxy, output, future], target, s3, sleep=clock.sleep, clock=clock)
    assert (landed.source_url, landed.attempts, clock.slept) == (future, 3, [])


def test_a_link_that_is_wrong_for_good_is_asked_once(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    gone = files.add("/gone.mp4", ServedFile(failures=[410] * 9))
    late = files.add("/late.mp4", ServedFile(MP4, failures=[404, 404]))
    clock = Clock()
    landed = land(["ftp://host/x", gone, late], target, s3, sleep=clock.sleep, clock=clock)
    assert (landed.attempts, len(files.requests_of("/gone.mp4"))) == (5, 1)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_dead_links_after_a_day(s3: S3Client, files: FilesServer, target: S3Uri, status: int) -> None:
    link = files.add("/clip.mp4", ServedFile(failures=[status] * 99))
    clock = Clock()

    def attempt(age: float) -> ModelsLabError:
        with pytest.raises(ModelsLabError) as caught:
            land([link], target, s3, sleep=clock.sleep, clock=clock, submitted_at=clock() - age, job_id="500")
        return caught.value

    assert isinstance(attempt(25 * 3600), ResultExpiredError)
    assert isinstance(attempt(23 * 3600), LandingError)


def test_a_link_with_trouble_after_a_day_is_not_called_expired(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    links = [
        files.add("/a.mp4", ServedFile(failures=[404] * 99)),
        files.add("/b.mp4", ServedFile(failures=[503] * 99)),
    ]
    clock = Clock()
    with pytest.raises(LandingError, match="HTTP 503"):
        land(links, target, s3, sleep=clock.sleep, clock=clock, submitted_at=0)


def test_no_links(s3: S3Client, target: S3Uri) -> None:
    with pytest.raises(LandingError, match="no link"):
        land([], target, s3)


def test_a_target_without_a_key(s3: S3Client, bucket: str) -> None:
    with pytest.raises(StorageConfigurationError, match="expected s3://bucket/"):
        land(["http://127.0.0.1/x"], S3Uri(bucket, "styled/"), s3)


def test_the_download_carries_no_credentials(
    s3: S3Client, files: FilesServer, target: S3Uri, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password from-netrc\n")
    monkeypatch.setenv("NETRC", str(netrc))
    files.add("/clip.mp4", ServedFile(MP4))
    link = files.add("/moved.mp4", ServedFile(redirect="/clip.mp4", headers={"Set-Cookie": "session=1; Path=/"}))
    land([link.replace("http://", "http://user:in-link@")], target, s3)
    assert [request.path for request in files.seen] == ["/moved.mp4", "/clip.mp4"]
    for request in files.seen:
        assert not {"authorization", "cookie"} & {name.lower() for name in request.headers}
        assert request.headers["Accept-Encoding"] == "identity"


def test_proxies_of_the_environment_are_used(
    s3: S3Client, files: FilesServer, target: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy gets the whole link as its path.
    link = "http://results.example/clip.mp4"
    files.add("/clip.mp4", ServedFile(MP4))
    monkeypatch.setenv("http_proxy", f"http://{files.address}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert land([link], target, s3).source_url == link
    assert files.seen[0].path == link


@pytest.mark.parametrize(
    ("operation", "status", "code", "says"),
    [
        ("PutObject", 403, "AccessDenied", "grant s3:PutObject on arn:aws:s3:::"),
        ("PutObject", 404, "NoSuchBucket", "does not exist"),
        ("PutObject", 403, "InvalidAccessKeyId", "check the credentials"),
        ("PutObject", 400, "BadDigest", "BadDigest"),
    ],
)
def test_s3_refuses(
    s3: S3Client, files: FilesServer, target: S3Uri, operation: str, status: int, code: str, says: str
) -> None:
    link = files.add("/clip.mp4", ServedFile(MP4))
    with refusing(s3, operation, status, code), pytest.raises(LandingError) as caught:
        land([link], target, s3, job_id="500")
    assert says in str(caught.value)
    assert target.bucket in str(caught.value)
    assert caught.value.job_id == "500"
    assert len(files.seen) == 1


def test_an_object_in_parts_that_may_not_be_read_afterwards(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    link = files.add("/clip.mp4", ServedFile(BIG))
    with refusing(s3, "HeadObject", 403, ""), pytest.raises(LandingError, match="grant s3:GetObject"):
        land([link], target, s3, policy=SMALL_PARTS)


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_s3_refuses_within_a_multipart(s3: S3Client, files: FilesServer, target: S3Uri, operation: str) -> None:
    link = files.add("/clip.mp4", ServedFile(BIG))
    with refusing(s3, operation, 403, "AccessDenied"), pytest.raises(LandingError, match="s3:PutObject"):
        land([link], target, s3, policy=SMALL_PARTS)
    assert leftovers(s3, target.bucket) == []
    assert len(files.seen) == 1


def test_a_part_that_fails_once_is_sent_again(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    link = files.add("/clip.mp4", ServedFile(BIG))
    with refusing(s3, "UploadPart", 500, "InternalError", times=1):
        land([link], target, s3, policy=SMALL_PARTS)
    assert s3.get_object(Bucket=target.bucket, Key=target.key)["Body"].read() == BIG
    assert len(files.seen) == 1


def test_a_bucket_that_does_not_exist(s3: S3Client, files: FilesServer) -> None:
    link = files.add("/clip.mp4", ServedFile(MP4))
    with pytest.raises(LandingError, match="the bucket 'no-such-bucket-here' does not exist"):
        land([link], S3Uri("no-such-bucket-here", "a.mp4"), s3)


def test_s3_that_cannot_be_reached(files: FilesServer) -> None:
    import boto3
    from botocore.config import Config

    config = S3Profile(endpoint_url="https://127.0.0.1:9").client_config().merge(Config(retries={"max_attempts": 0}))
    client = boto3.session.Session("a", "b", region_name="us-east-1").client(
        "s3", endpoint_url="https://127.0.0.1:9", config=config
    )
    link = files.add("/clip.mp4", ServedFile(MP4))
    with pytest.raises(LandingError, match=r"could not be reached for s3://clips/a\.mp4"):
        land([link], S3Uri("clips", "a.mp4"), client)
    client.close()


def test_an_abort_that_is_refused_is_told_and_hides_nothing(
    s3: S3Client, files: FilesServer, target: S3Uri, caplog: pytest.LogCaptureFixture
) -> None:
    link = files.add("/clip.mp4", ServedFile(BIG, length=False, truncate_at=11 * MIB))
    with refusing(s3, "AbortMultipartUpload", 403, "AccessDenied"), pytest.raises(LandingError, match="the mp4 is cut"):
        land([link], target, s3, policy=replace(SMALL_PARTS_ONCE, parts_in_flight=1))
    assert "grant s3:AbortMultipartUpload" in caplog.text
    assert keys_of(s3, target.bucket) == []


def test_an_interrupt_leaves_nothing(
    s3: S3Client, files: FilesServer, target: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = files.add("/clip.mp4", ServedFile(BIG))
    real = upload_module.ObjectUpload._send
    calls: list[int] = []

    def interrupted(self: upload_module.ObjectUpload, body: bytearray) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(self, body)

    monkeypatch.setattr(upload_module.ObjectUpload, "_send", interrupted)
    with pytest.raises(KeyboardInterrupt):
        land([link], target, s3, policy=SMALL_PARTS)
    assert leftovers(s3, target.bucket) == []


def test_another_size_in_s3_is_told(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    link = files.add("/clip.mp4", ServedFile(BIG))

    def overwrite(parsed: dict[str, Any], **_: Any) -> None:
        parsed["ContentLength"] = 1

    s3.meta.events.register("after-call.s3.HeadObject", overwrite)
    with pytest.raises(LandingError, match="has 1 bytes in S3"):
        land([link], target, s3, policy=SMALL_PARTS)


def test_every_part_carries_its_md5_where_sha256_is_ignored(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    sums: list[str] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        sums.append(params["headers"]["Content-MD5"])

    s3.meta.events.register("before-call.s3.UploadPart", note)
    land([files.add("/clip.mp4", ServedFile(BIG))], target, s3, policy=SMALL_PARTS)
    parts = [BIG[at : at + 5 * MIB] for at in range(0, len(BIG), 5 * MIB)]
    assert sorted(sums) == sorted(base64.b64encode(hashlib.md5(part).digest()).decode() for part in parts)  # noqa: S324


def test_more_parts_than_s3_takes(
    s3: S3Client, files: FilesServer, target: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_module, "MAX_PARTS", 2)
    link = files.add("/clip.mp4", ServedFile(BIG, length=False))
    with pytest.raises(LandingError, match="more than 2 parts of 5 MiB"):
        land([link], target, s3, policy=SMALL_PARTS)
    assert leftovers(s3, target.bucket) == []
    files.add("/clip.mp4", ServedFile(BIG))
    assert land([link], target, s3, policy=SMALL_PARTS).etag.endswith("-2")


# -- other uploads to the same key ------------------------------------------------------------------------------------


def begin_upload(s3: S3Client, place: S3Uri) -> str:
    """An upload that is never ended: of a process that was killed."""
    upload = s3.create_multipart_upload(Bucket=place.bucket, Key=place.key)["UploadId"]
    s3.upload_part(Bucket=place.bucket, Key=place.key, UploadId=upload, PartNumber=1, Body=b"x")
    return upload


def unfinished(s3: S3Client, bucket: str) -> list[str]:
    return [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def test_the_upload_of_a_process_that_was_killed_is_ended_by_the_next_landing(
    s3: S3Client, files: FilesServer, target: S3Uri
) -> None:
    beside = S3Uri(target.bucket, f"{target.key}.2.mp4")
    for place in (target, target, beside):
        begin_upload(s3, place)
    land([files.add("/clip.mp4", ServedFile(BIG))], target, s3, policy=SMALL_PARTS)
    assert unfinished(s3, target.bucket) == [beside.key]


@pytest.mark.parametrize("operation", ["ListMultipartUploads", "AbortMultipartUpload"])
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented"), (404, "NoSuchUpload")])
def test_uploads_that_may_not_be_ended_stay_and_hinder_nothing(
    s3: S3Client, files: FilesServer, target: S3Uri, operation: str, status: int, code: str
) -> None:
    begin_upload(s3, target)
    with refusing(s3, operation, status, code):
        land([files.add("/clip.mp4", ServedFile(BIG))], target, s3, policy=SMALL_PARTS)
    assert s3.get_object(Bucket=target.bucket, Key=target.key)["Body"].read() == BIG
    assert unfinished(s3, target.bucket) == [target.key]


def test_a_result_in_one_put_costs_no_request_more(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    begin_upload(s3, target)
    called: list[str] = []
    with listening(s3, "before-call.s3", lambda model, **_: called.append(model.name)):
        land([files.add("/clip.mp4", ServedFile(MP4))], target, s3)
    assert called == ["PutObject"]


def test_a_landing_that_is_not_verified_ends_no_other_upload(s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    begin_upload(s3, target)
    link = files.add("/clip.mp4", ServedFile(BIG, truncate_at=11 * MIB))
    with pytest.raises(LandingError):
        land([link], target, s3, policy=SMALL_PARTS_ONCE)
    assert unfinished(s3, target.bucket) == [target.key]


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
def test_the_slower_of_two_landings_fails_as_one_that_can_be_repeated(
    s3: S3Client, files: FilesServer, target: S3Uri, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    link = files.add("/clip.mp4", ServedFile(BIG))
    overtaken: list[str] = []

    def overtake(**_: Any) -> None:
        if not overtaken:
            overtaken.append(link)
            land([link], target, s3, policy=SMALL_PARTS)

    with (
        knowing_uploads(s3),
        listening(s3, f"before-call.s3.{operation}", overtake),
        pytest.raises(LandingError) as raised,
    ):
        land([link], target, s3, policy=SMALL_PARTS)
    assert upload_module.was_ended(raised.value)
    assert raised.value.retryable
    assert leftovers(s3, target.bucket) == [target.key]
    assert "grant s3:AbortMultipartUpload" not in caplog.text
    land([link], target, s3, policy=SMALL_PARTS)
    assert s3.get_object(Bucket=target.bucket, Key=target.key)["Body"].read() == BIG
