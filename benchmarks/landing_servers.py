"""The two ends of the landing benchmark: an mp4 of any size over HTTP, and an S3 that reads and discards."""

from __future__ import annotations

import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_BLOCK = 1024 * 1024


class Source(BaseHTTPRequestHandler):
    """``/clip.mp4``: ftyp, an empty moov, and one mdat with a 64-bit size that fills up to ``size`` bytes."""

    size = 0

    def do_GET(self) -> None:
        """Send the file."""
        head = struct.pack(">I4s8s", 16, b"ftyp", b"isom\0\0\0\0") + struct.pack(">I4s", 8, b"moov")
        head += struct.pack(">I4sQ", 1, b"mdat", self.size - len(head))
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(self.size))
        self.end_headers()
        self.wfile.write(head)
        block = bytes(_BLOCK)
        left = self.size - len(head)
        while left:
            left -= self.wfile.write(block[: min(left, _BLOCK)])

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


class Sink(BaseHTTPRequestHandler):
    """PutObject, multipart uploads and HeadObject; only the sizes are kept.

    Like a store that verifies SHA-256, it repeats the one that came with a write; it does not compute it.
    """

    protocol_version = "HTTP/1.1"
    sizes: dict[str, int] = {}  # noqa: RUF012 - shared by all connections on purpose
    lock = threading.Lock()
    latency = 0.0

    def do_PUT(self) -> None:
        """PutObject and UploadPart."""
        size = self._discard()
        time.sleep(self.latency)
        query = parse_qs(urlsplit(self.path).query)
        with self.lock:
            name = urlsplit(self.path).path
            self.sizes[name] = size + (self.sizes.get(name, 0) if "partNumber" in query else 0)
        self._answer(200, checksum=self.headers.get("x-amz-checksum-sha256"))

    def do_POST(self) -> None:
        """CreateMultipartUpload and CompleteMultipartUpload."""
        self._discard()
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "uploads" in query:
            self._answer(200, "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
        else:
            self._answer(200, "<CompleteMultipartUploadResult/>")

    def do_HEAD(self) -> None:
        """HeadObject: the sum of the parts."""
        size = self.sizes.get(urlsplit(self.path).path)
        self.send_response(404 if size is None else 200)
        self.send_header("Content-Length", str(size or 0))
        self.send_header("ETag", '"sink"')
        self.end_headers()

    def _discard(self) -> int:
        size = left = int(self.headers.get("Content-Length", 0))
        buffer = memoryview(bytearray(_BLOCK))
        while left:
            left -= self.rfile.readinto(buffer[: min(left, _BLOCK)])
        return size

    def _answer(self, status: int, body: str = "", *, checksum: str | None = None) -> None:
        self.send_response(status)
        self.send_header("ETag", '"sink"')
        if checksum:
            self.send_header("x-amz-checksum-sha256", checksum)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


def main() -> None:
    handler: type[BaseHTTPRequestHandler] = Sink
    path = ""
    if sys.argv[1] == "source":
        Source.size = int(sys.argv[2])
        handler, path = Source, "/clip.mp4"
    else:
        Sink.latency = int(sys.argv[2]) / 1000
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_address[1]}{path}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
