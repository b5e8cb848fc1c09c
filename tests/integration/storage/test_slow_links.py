"""Links that drip, that are none, or that lead somewhere odd: they fail soon, and the next one is tried."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_provider_modelslab.api.errors import LandingError, ModelsLabError
from airflow_provider_modelslab.storage import download as links_module
from airflow_provider_modelslab.storage.download import LinkFailure, credential_free_session, open_link, shown
from airflow_provider_modelslab.storage.inputs import prepare_input
from airflow_provider_modelslab.storage.landing import LandingPolicy, land
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.files_server import FilesServer, ServedFile
from tests.support.s3 import leftovers
from tests.support.samples import framed_mp4, small_mp4
from tests.support.scripted_server import Answer, Drip, ScriptedServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

MP4 = small_mp4()
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
SIGNATURE = "X-Amz-Signature=hush"
DRIPS = {
    "status line": Drip(b"HTTP/1.1 200 "),
    "header": Drip(b"HTTP/1.1 200 OK\r\nX-Long: "),
    "body": Drip(LARGE),
    "body that begins well": Drip(LARGE + framed_mp4(300_000)[:200_000]),
    "body without a length": Drip(b"HTTP/1.1 200 OK\r\n\r\n"),
    "size of a chunk": Drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "error": Drip(b"HTTP/1.1 500 No\r\nX-Long: "),
    "redirect": Drip(b"HTTP/1.1 302 Found\r\nX-Long: "),
}
POLICY = LandingPolicy(ready_timeout=0.01, min_backoff=0.01, max_backoff=0.01)
SPEEDY = replace(POLICY, min_speed=1000, min_speed_time=0.5)
LIMITED = replace(POLICY, min_speed=0, total_timeout=1)


@pytest.fixture
def target(bucket: str) -> S3Uri:
    return S3Uri(bucket, "styled/clip.mp4")


@contextmanager
def ends_soon() -> Iterator[None]:
    """The drips have no end, so a download without a limit would hang; the bound leaves time to a busy machine."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 30


# -- slow links -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_a_link_that_drips_fails_soon_and_the_next_one_is_tried(
    s3: S3Client, files: FilesServer, target: S3Uri, drip: Drip
) -> None:
    good = files.add("/clip.mp4", ServedFile(MP4))
    with ScriptedServer(drip) as server, ends_soon():
        landed = land([f"{server.url}/clip.mp4", good], target, s3, policy=SPEEDY)
    assert (landed.source_url, landed.attempts) == (good, 2)


@pytest.mark.parametrize(
    ("policy", "says"), [(SPEEDY, "slower than 1000 bytes/s"), (LIMITED, "no complete response within")]
)
@pytest.mark.parametrize("drip", [DRIPS["status line"], DRIPS["body that begins well"]], ids=["head", "body"])
def test_a_landing_ends_though_bytes_keep_coming(
    s3: S3Client, target: S3Uri, drip: Drip, policy: LandingPolicy, says: str
) -> None:
    with ScriptedServer(drip) as server, ends_soon(), pytest.raises(LandingError, match=says) as caught:
        land([f"{server.url}/clip.mp4?{SIGNATURE}"], target, s3, policy=policy)
    assert "hush" not in str(caught.value)
    assert leftovers(s3, target.bucket) == []


def test_the_limit_of_a_landing_is_for_all_its_links_together(s3: S3Client, target: S3Uri) -> None:
    policy = replace(LIMITED, ready_timeout=60)
    with ScriptedServer(DRIPS["body"]) as server, ends_soon(), pytest.raises(LandingError):
        land([f"{server.url}/{number}" for number in range(100)], target, s3, policy=policy)
    assert len(server.requests) <= 2


def test_an_honest_slow_link_lands(s3: S3Client, target: S3Uri) -> None:
    """About 100 kB/s, ten times the lowest speed, over many times of its measurement."""
    clip = framed_mp4(300_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {300_000}\r\n\r\n".encode()
    pieces = [clip[at : at + 5000] for at in range(0, len(clip), 5000)]

    class Slow(ScriptedServer):
        @staticmethod
        def _drip(stream: object, step: Drip) -> None:
            stream.sendall(step.start)  # type: ignore[attr-defined]
            for piece in pieces:
                stream.sendall(piece)  # type: ignore[attr-defined]
                time.sleep(step.every)

    policy = replace(POLICY, min_speed=10_000, min_speed_time=0.5)
    with Slow(Drip(head, every=0.05)) as server:
        landed = land([f"{server.url}/clip.mp4"], target, s3, policy=policy)
    assert landed.bytes == len(clip)
    assert landed.seconds > 2


def test_by_default_a_link_may_be_as_slow_as_10_kb_a_second() -> None:
    policy = LandingPolicy()
    assert (policy.min_speed, policy.min_speed_time, policy.total_timeout) == (10_000, 30, 7200)


@pytest.mark.parametrize("drip", [drip for name, drip in DRIPS.items() if "well" not in name])
def test_the_check_of_a_clip_ends_though_bytes_keep_coming(drip: Drip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "_SHORT_READ", 1.0)
    with (
        ScriptedServer(drip) as server,
        ends_soon(),
        pytest.raises(ModelsLabError, match="within 1 s"),
    ):
        prepare_input(f"{server.url}/in.mp4", lambda: pytest.fail("no S3"), staging=None)


# -- links that are none ----------------------------------------------------------------------------------------------

NO_LINKS = [
    "",
    " ",
    "http://",
    "http:///x",
    "http://[::1/x",
    "http://[::1]:99999/x",
    "http://h:port/x",
    "http://a..b.example/x",
    f"http://{'a' * 64}.example/x",
    "http://.example/x",
    "http://a b.example/x",
    "http://a\tb .example/x",
    "http://\xe9..example/x",
    "http://h/\ud800",
    "http://\ud800.example/",
    "http://*.example/x",
    "javascript:alert(1)",
    "ftp://h/x",
    "file:///etc/hostname",
    "data:video/mp4;base64,AAAA",
    "//h/x",
    "clip.mp4",
    "http//h/x",
]


@pytest.mark.parametrize("link", NO_LINKS)
def test_a_link_that_is_none_fails_for_good_and_the_next_one_is_tried(
    s3: S3Client, files: FilesServer, target: S3Uri, link: str
) -> None:
    with credential_free_session() as session, pytest.raises(LinkFailure) as caught:
        open_link(session, link, timeout=(5, 5)).__enter__()
    assert caught.value.final
    assert caught.value.reason in {"no valid http(s) link", "not an http(s) link"}
    good = files.add("/clip.mp4", ServedFile(MP4))
    assert land([link, good], target, s3, policy=POLICY).source_url == good


LOCATIONS = [link.encode("latin-1", "replace") for link in NO_LINKS if link.isprintable() and "://" in link]


@pytest.mark.parametrize("location", [*LOCATIONS, b"", b"http://\xff.example/", b"http://h/\x00", b"http://[\xe9/"])
def test_a_redirect_to_no_link_fails_for_good_and_the_next_one_is_tried(
    s3: S3Client, files: FilesServer, target: S3Uri, location: bytes
) -> None:
    good = files.add("/clip.mp4", ServedFile(MP4))
    answer = Drip(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n", b"")
    with ScriptedServer(answer) as server:
        landed = land([f"{server.url}/clip.mp4", good], target, s3, policy=POLICY)
    assert (landed.source_url, landed.attempts) == (good, 2)
    assert len(server.requests) <= 6  # "http:///x" is read as a path of the same host


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/caf\xe9.mp4", "/caf%E9.mp4"),
        ("/caf\xc3\xa9.mp4", "/caf%C3%A9.mp4"),
        ("/a b.mp4", "/a%20b.mp4"),
        ("b.mp4?c=%2F", "/b.mp4"),
    ],
)
def test_a_redirect_is_followed_to_the_bytes_that_it_names(
    s3: S3Client, files: FilesServer, target: S3Uri, location: str, path: str
) -> None:
    files.add(path, ServedFile(MP4))
    land([files.add("/clip.mp4", ServedFile(redirect=location))], target, s3, policy=POLICY)
    assert [request.path for request in files.seen][-1].startswith(path)


@pytest.mark.parametrize("status", [302, 307])
def test_the_body_of_a_redirect_is_not_read(s3: S3Client, files: FilesServer, target: S3Uri, status: int) -> None:
    good = files.add("/clip.mp4", ServedFile(MP4))
    head = f"HTTP/1.1 {status} Found\r\nLocation: {good}\r\nContent-Length: 400000000\r\n\r\n".encode()
    with ScriptedServer(Drip(head, b"x" * 65536, every=0)) as server, ends_soon():
        landed = land([f"{server.url}/clip.mp4"], target, s3, policy=POLICY)
    assert landed.attempts == 1


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500, 799])
def test_the_body_of_an_error_is_not_read(s3: S3Client, files: FilesServer, target: S3Uri, status: int) -> None:
    good = files.add("/clip.mp4", ServedFile(MP4))
    head = f"HTTP/1.1 {status} {'x' * 9000}\x1b[31m hush\r\nContent-Type: text/html\r\n\r\n<html>".encode()
    with ScriptedServer(Drip(head, b"x" * 65536, every=0)) as server, ends_soon():
        landed = land([f"{server.url}/clip.mp4", good], target, s3, policy=POLICY)
        with pytest.raises(LandingError) as caught:
            land([f"{server.url}/clip.mp4"], target, s3, policy=POLICY)
    assert (landed.source_url, landed.attempts) == (good, 2)
    assert "hush" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_the_reason_of_a_refusal_is_the_standards_own_phrase(s3: S3Client, target: S3Uri) -> None:
    with ScriptedServer(Answer("", 404)) as server, pytest.raises(LandingError, match=r"HTTP 404 Not Found$"):
        land([f"{server.url}/clip.mp4"], target, s3, policy=POLICY)


@pytest.mark.parametrize("length", ["\xb2", "9" * 5000, "-1", "1, 2", "1e3"])
def test_a_length_that_is_no_number_is_a_failure_of_its_link(
    s3: S3Client, files: FilesServer, target: S3Uri, length: str
) -> None:
    good = files.add("/clip.mp4", ServedFile(MP4))
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n<html>".encode("latin-1")
    with ScriptedServer(Drip(head, b"")) as server:
        landed = land([f"{server.url}/clip.mp4", good], target, s3, policy=POLICY)
    assert landed.source_url == good


@pytest.mark.parametrize(
    "wait", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "1e308", "nan", "-1", "\xb2", "9" * 5000]
)
def test_a_time_to_wait_that_is_none_is_no_fault(s3: S3Client, target: S3Uri, wait: str) -> None:
    head = f"HTTP/1.1 429 No\r\nRetry-After: {wait}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    with ScriptedServer(Drip(head, b"")) as server, pytest.raises(LandingError, match="HTTP 429"):
        land([f"{server.url}/clip.mp4"], target, s3, policy=POLICY)


def test_a_header_that_cannot_be_parsed_is_not_logged_with_the_link(
    s3: S3Client, files: FilesServer, target: S3Uri, caplog: pytest.LogCaptureFixture
) -> None:
    good = files.add("/clip.mp4", ServedFile(MP4))
    with ScriptedServer(Drip(b"HTTP/1.1 200 OK\r\nnonsense\r\nX-A: b\r\n\r\n<html>", b"")) as server:
        land([f"{server.url}/clip.mp4?{SIGNATURE}", good], target, s3, policy=POLICY)
    assert "hush" not in caplog.text


def test_a_ca_bundle_that_is_not_there_is_no_raw_error(
    s3: S3Client, target: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/ca.pem")
    with pytest.raises(LandingError):
        land(["https://127.0.0.1:9/clip.mp4"], target, s3, policy=POLICY)


@pytest.mark.parametrize(
    ("link", "text"),
    [
        ("https://u:hush@h/a.mp4?sig=hush", "https://h/a.mp4"),
        ("http://[::1/x?sig=hush y#hush", "http://[::1/x"),
        ("http:///x?sig=hush", "http:///x"),
        ("http://u:hush@[::1/x", "http://[::1/x"),
        ("http://h/a\nb\x1b[31m", "http://h/ab?[31m"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_a_link_is_shown_in_one_line_without_what_it_may_open(link: str, text: str) -> None:
    assert shown(link) == text


@pytest.mark.parametrize(
    "values", [{"min_speed": -1}, {"min_speed_time": 0}, {"total_timeout": 0}, {"min_speed": float("nan")}]
)
def test_limits_that_cannot_be(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="min_speed"):
        LandingPolicy(**values)  # type: ignore[arg-type]
