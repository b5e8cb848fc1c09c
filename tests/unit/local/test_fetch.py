from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import trustme

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.media.fetch import DownloadStoppedError, FetchLimits, clip_kind, fetch_clip
from airflow_provider_modelslab.net import addresses
from airflow_provider_modelslab.net.addresses import is_public
from tests.support.files_server import FilesServer, ServedFile
from tests.support.scripted_server import Drip, Hang, ScriptedServer, Step

MP4 = b"\x00\x00\x00\x18ftypisom" + b"\x01" * 5000
GIF = b"GIF89a" + b"\x02" * 300
OPEN = FetchLimits(allow_private_addresses=True)


def refusal(init_video: str, folder: Path, limits: FetchLimits = OPEN) -> str:
    """What the fetcher says against a clip. Nothing may be left in the folder."""
    with pytest.raises(InvalidRequestError) as caught:
        fetch_clip(init_video, folder, limits=limits)
    assert list(folder.iterdir()) == []
    return caught.value.fields["init_video"][0]


@pytest.mark.parametrize("body", [MP4, GIF])
@pytest.mark.parametrize("length", [True, False])
def test_downloads_by_content(files: FilesServer, tmp_path: Path, body: bytes, length: bool) -> None:
    link = files.add("/clip.txt", ServedFile(body, content_type="text/plain", length=length))
    path = fetch_clip(link, tmp_path, limits=OPEN)
    assert path.parent == tmp_path
    assert path.read_bytes() == body


def test_sends_no_credentials(files: FilesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    files.add("/a", ServedFile(redirect="/b", headers={"Set-Cookie": "session=1"}))
    files.add("/b", ServedFile(MP4))
    fetch_clip(files.url("/a"), tmp_path, limits=OPEN)
    for request in files.seen:
        assert not {"authorization", "cookie"} & {name.lower() for name in request.headers}
    assert "no credentials are sent" in refusal("http://me:secret@127.0.0.1/clip.mp4", _empty(tmp_path))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_a_file_is_used_where_it_lies(tmp_path: Path) -> None:
    clip = tmp_path / "clip.bin"
    clip.write_bytes(GIF)
    assert fetch_clip(str(clip), _empty(tmp_path), limits=FetchLimits()) == clip


@pytest.mark.parametrize(
    ("name", "limits", "problem"),
    [
        ("missing.mp4", FetchLimits(), "is not a file on this machine"),
        ("page.mp4", FetchLimits(), "the content begins with b'<!doctype ht'"),
        ("clip.mp4", FetchLimits(max_bytes=100), "is larger than the 100 bytes allowed"),
        ("clip.mp4", FetchLimits(allow_local_files=False), "must be an http(s) link"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, limits: FetchLimits, problem: str) -> None:
    (tmp_path / "page.mp4").write_bytes(b"<!doctype html><title>Not found</title>")
    (tmp_path / "clip.mp4").write_bytes(MP4)
    assert problem in refusal(str(tmp_path / name), _empty(tmp_path), limits)


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("ftp://example.com/clip.mp4", "must be an http(s) link"),
        ("file:///etc/passwd", "must be an http(s) link"),
        ("http:///clip.mp4", "only http(s) links"),
        ("http://[::1/clip.mp4", "is not a valid link"),
        ("http://example.com:port/clip.mp4", "is not a valid link"),
        ("http://no-such-host.invalid/clip.mp4", "the host no-such-host.invalid is not known"),
    ],
)
def test_links_that_are_refused(tmp_path: Path, link: str, problem: str) -> None:
    assert problem in refusal(link, tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0", "2130706433"])
def test_the_own_machine_is_refused(files: FilesServer, tmp_path: Path, host: str) -> None:
    files.add("/clip.mp4", ServedFile(MP4))
    port = files.address.rpartition(":")[2]
    text = refusal(f"http://{host}:{port}/clip.mp4", tmp_path, FetchLimits())
    assert "which is outside the public internet" in text
    assert "allow_private_addresses=True" in text
    assert files.seen == []


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "0.0.0.1",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::a00:1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


def test_a_redirect_to_a_private_address_is_refused(
    files: FilesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first host passes for a public one, so that the check at the second hop is what refuses.
    public = "first.example"
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(addresses, "resolve", lambda host, _port: ["127.0.0.1" if host == public else "10.0.0.8"])
    files.add("/clip.mp4", ServedFile(redirect="http://inside.example/secret.mp4?token=abc"))
    port = files.address.rpartition(":")[2]
    problem = refusal(f"http://{public}:{port}/clip.mp4", tmp_path, FetchLimits())
    assert "the host inside.example has the address 10.0.0.8" in problem
    assert "abc" not in problem


def test_one_private_address_among_public_ones_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "resolve", lambda _host, _port: ["93.184.216.34", "10.0.0.8"])
    assert "10.0.0.8" in refusal("http://two.example/clip.mp4", tmp_path, FetchLimits())


def test_connects_to_the_address_that_was_checked(
    files: FilesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second look at the name: it would not be found. The first address does not answer, the next one does."""
    monkeypatch.setattr(addresses, "resolve", lambda _host, _port: ["127.0.0.2", "127.0.0.1"])
    files.add("/clip.mp4", ServedFile(MP4))
    port = files.address.rpartition(":")[2]
    path = fetch_clip(f"http://clips.invalid:{port}/clip.mp4", tmp_path, limits=OPEN)
    assert path.read_bytes() == MP4
    assert files.seen[0].headers["Host"] == f"clips.invalid:{port}"


def test_redirects_are_followed_within_a_limit(files: FilesServer, tmp_path: Path) -> None:
    files.add("/a", ServedFile(redirect="/b?x=1"))
    files.add("/b", ServedFile(redirect=files.url("/clip")))
    files.add("/clip", ServedFile(MP4))
    assert fetch_clip(files.url("/a"), tmp_path, limits=OPEN).read_bytes() == MP4
    files.add("/loop", ServedFile(redirect="/loop"))
    assert "redirects more than 5 times" in refusal(files.url("/loop"), _empty(tmp_path))
    assert len(files.requests_of("/loop")) == 6


def test_a_redirect_to_no_link_is_refused(files: FilesServer, tmp_path: Path) -> None:
    files.add("/nowhere", ServedFile(redirect="http://[::1/clip.mp4"))
    assert "redirects to something that is not a link" in refusal(files.url("/nowhere"), _empty(tmp_path))


@pytest.mark.parametrize("length", [True, False])
def test_the_size_is_capped(files: FilesServer, tmp_path: Path, length: bool) -> None:
    link = files.add("/clip.mp4", ServedFile(MP4, length=length))
    limits = FetchLimits(allow_private_addresses=True, max_bytes=4000)
    assert "is larger than the 4000 bytes allowed" in refusal(link, tmp_path, limits)


@pytest.mark.parametrize("body", [b"<html>No such clip, sorry</html>", b"RIFF1234WEBPVP8 ", b"GIF", b""])
def test_other_content_is_refused(files: FilesServer, tmp_path: Path, body: bytes) -> None:
    link = files.add("/clip.mp4", ServedFile(body, content_type="video/mp4"))
    assert f"must be an mp4 or a gif; the content begins with {body[:12]!r}" in refusal(link, tmp_path)


def test_answers_that_are_no_clip(files: FilesServer, tmp_path: Path) -> None:
    problem = refusal(files.url("/nothing.mp4") + "?X-Amz-Signature=abc", tmp_path)
    assert "HTTP 404" in problem
    assert "abc" not in problem
    assert "HTTP 503" in refusal(files.add("/busy.mp4", ServedFile(MP4, failures=[503])), tmp_path)


def test_a_download_that_breaks_off(files: FilesServer, tmp_path: Path) -> None:
    link = files.add("/clip.mp4", ServedFile(MP4, truncate_at=2000))
    assert "the download stopped" in refusal(link + "?token=abc", tmp_path)


def test_a_server_that_stops_sending(files: FilesServer, tmp_path: Path) -> None:
    link = files.add("/clip.mp4", ServedFile(MP4, stall=True))
    limits = FetchLimits(allow_private_addresses=True, read_timeout=2)
    assert "stopped (ReadTimeoutError)" in refusal(link, tmp_path, limits)


def test_the_whole_download_has_a_deadline(files: FilesServer, tmp_path: Path) -> None:
    link = files.add("/clip.mp4", ServedFile(MP4))
    limits = FetchLimits(allow_private_addresses=True, total_timeout=0)
    assert "no complete response within 0 s" in refusal(link, tmp_path, limits)


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "headers": Drip(HEAD, b"X-A: b\r\n"),
    "one header": Drip(HEAD + b"X-Long: "),
    "interim answers": Drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunk extensions": Drip(CHUNKED + b"5;ext="),
    "chunks": Drip(CHUNKED + b"18\r\n" + MP4[:24] + b"\r\n", b"1\r\nx\r\n"),
    "body": Drip(HEAD + b"Content-Length: 100000\r\n\r\n" + MP4),
    "trailers": Drip(CHUNKED + b"0\r\n", b"X-A: b\r\n"),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_a_host_that_drips_is_left_at_the_deadline(drip: Drip, tmp_path: Path) -> None:
    """Without a limit on the whole, each of these would go on for ever."""
    with ScriptedServer(drip) as server:
        limits = replace(OPEN, total_timeout=0.4)
        assert "no complete response within 0.4 s" in refusal(f"{server.url}/clip.mp4", tmp_path, limits)


@pytest.mark.parametrize("drip", [DRIPS["headers"], DRIPS["body"]], ids=["headers", "body"])
def test_a_host_that_is_too_slow_is_left_before_the_deadline(drip: Drip, tmp_path: Path) -> None:
    with ScriptedServer(drip) as server:
        limits = replace(OPEN, min_speed=1e6, min_speed_time=0.2)
        assert "slower than 1e+06 bytes/s" in refusal(f"{server.url}/clip.mp4", tmp_path, limits)


@pytest.mark.parametrize("drip", [*DRIPS.values(), Hang()], ids=[*DRIPS, "silence"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_stop_ends_a_download(drip: Step, tls: bool, server_tls: ssl.SSLContext, tmp_path: Path) -> None:
    with ScriptedServer(drip, tls=server_tls if tls else None) as server:
        with pytest.raises(DownloadStoppedError):
            fetch_clip(
                f"{server.url.partition(':')[0]}://clips.example:{server.port}/clip.mp4",
                tmp_path,
                limits=OPEN,
                should_stop=lambda: bool(server.requests),
            )
        assert not list(tmp_path.glob("clip-*"))


@pytest.mark.parametrize(
    "flood",
    [Drip(HEAD, b"X-A: " + b"b" * 60_000 + b"\r\n", every=0), Drip(b"", b"HTTP/1.1 100 Go\r\n\r\n" * 1000, every=0)],
    ids=["headers", "interim answers"],
)
def test_headers_without_end_are_refused_by_their_size(flood: Drip, tmp_path: Path) -> None:
    with ScriptedServer(flood) as server:
        assert "headers of more than 262144 bytes" in refusal(f"{server.url}/clip.mp4", tmp_path)


def test_framing_without_end_is_refused_by_its_size(tmp_path: Path) -> None:
    chunk = b"1;" + b"x" * 60_000 + b"\r\nx\r\n"
    with ScriptedServer(Drip(CHUNKED + b"18\r\n" + MP4[:24] + b"\r\n", chunk, every=0)) as server:
        limits = replace(OPEN, max_bytes=1_000_000)
        assert "more than 2.06554e+06 bytes" in refusal(f"{server.url}/clip.mp4", tmp_path, limits)


@pytest.mark.parametrize(
    "length", ["\u00b2", "9" * 5000, "-1", "+5", "0x10", "1e3", "5 5", "5,6", "", "5;", "1_0", "\xff"]
)
def test_a_length_that_is_no_number_is_refused(length: str, tmp_path: Path) -> None:
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode("latin-1") + MP4
    with ScriptedServer(Drip(answer, b"")) as server:
        assert re.search(r"invalid Content-Length|\(ConnectionError\)", refusal(f"{server.url}/clip.mp4", tmp_path))


@pytest.mark.parametrize(
    "headers",
    [
        f"Content-Length: {len(MP4)}, {len(MP4)}",
        f"Content-Length: {len(MP4)}\r\nContent-Length: {len(MP4)}",
        f"Content-Length: 000{len(MP4)}",
        "X-Odd: \u00b2",
    ],
)
def test_odd_headers_that_mean_one_thing_are_read(headers: str, tmp_path: Path) -> None:
    answer = f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode("latin-1") + MP4
    with ScriptedServer(Drip(answer, b"")) as server:
        assert fetch_clip(f"{server.url}/clip.mp4", tmp_path, limits=OPEN).read_bytes() == MP4


ODD_ANSWERS = {
    "nothing": b"",
    "no HTTP": b"\x00\xff\xfe\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "status of words": b"HTTP/1.1 two hundred\r\n\r\n",
    "negative chunk": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "chunk of no number": CHUNKED + b"zz\r\nhello\r\n",
    "huge chunk": CHUNKED + b"f" * 5000 + b"\r\nhello\r\n",
    "redirect to a port": b"HTTP/1.1 302 F\r\nLocation: http://h:99999999/\r\nContent-Length: 0\r\n\r\n",
    "redirect to bytes": b"HTTP/1.1 302 F\r\nLocation: \xff\xfe://\x80\r\nContent-Length: 0\r\n\r\n",
    "redirect to a long name": b"HTTP/1.1 302 F\r\nLocation: http://" + b"a" * 300 + b"/\r\nContent-Length: 0\r\n\r\n",
    "redirect to a null": b"HTTP/1.1 302 F\r\nLocation: http://a\x00b/\r\nContent-Length: 0\r\n\r\n",
    "odd cookie": HEAD + b"Set-Cookie: \xff=\x00; expires=9\r\nContent-Length: 2\r\n\r\nab",
    "long header": HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
    "many headers": HEAD + b"X: y\r\n" * 200 + b"\r\n",
    "compressed": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_whatever_a_server_answers_is_a_problem_of_the_clip(answer: bytes, tmp_path: Path) -> None:
    with ScriptedServer(Drip(answer, b"")) as server:
        refusal(f"{server.url}/clip.mp4", tmp_path)


def test_a_port_where_nobody_listens(files: FilesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "resolve", lambda _host, _port: ["127.0.0.2"])
    problem = refusal(files.url("/clip.mp4?token=abc"), tmp_path)
    assert "cannot be downloaded (ConnectionError)" in problem
    assert "abc" not in problem


@pytest.fixture
def server_tls(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """With a certificate for clips.example, trusted through ``REQUESTS_CA_BUNDLE``; every name is 127.0.0.1."""
    folder = tmp_path_factory.mktemp("ca")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.pem"))
    monkeypatch.setattr(addresses, "resolve", lambda _host, _port: ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("clips.example").configure_cert(context)
    return context


@pytest.fixture
def https_port(server_tls: ssl.SSLContext, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server for clips.example."""
    folder = tmp_path_factory.mktemp("https")
    (folder / "clip.mp4").write_bytes(MP4)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.socket = server_tls.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_tls_asks_for_the_certificate_of_the_name(https_port: int, tmp_path: Path) -> None:
    path = fetch_clip(f"https://clips.example:{https_port}/clip.mp4", tmp_path, limits=OPEN)
    assert path.read_bytes() == MP4


def test_a_certificate_of_another_name_is_refused(https_port: int, tmp_path: Path) -> None:
    assert "cannot be downloaded (SSLError)" in refusal(f"https://other.example:{https_port}/clip.mp4", tmp_path)


def test_kinds_by_their_first_bytes() -> None:
    assert [clip_kind(head) for head in (MP4, GIF, b"GIF87a", b"GIF88a", b"\x00\x00\x00\x18moov", b"")] == [
        "mp4",
        "gif",
        "gif",
        None,
        None,
        None,
    ]
