"""A real S3 server for tests: moto over TLS, in a process of its own; and a bucket on it.

TLS matters: over plain http boto sends its checksums in another way, and what S3-compatible stores refuse stays hidden.
moto keeps objects in memory and forgets them when it stops. It accepts any credentials and does not enforce the expiry
of presigned links.
"""

from __future__ import annotations

import functools
import shutil
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri
from airflow_provider_modelslab.testing.process import WAIT_TIMEOUT_S, ServerProcess, free_port, wait_until

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client

__all__ = ["Bucket", "S3Server"]


class S3Server:
    """Start with :meth:`start` or as a context manager.

    :param folder: for the certificate and the log; a temporary one by default, which :meth:`stop` removes.
    :param port: a free one by default.
    """

    region = "us-east-1"

    def __init__(self, folder: Path | None = None, *, port: int | None = None) -> None:
        self._own_folder = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="s3-server-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._port = port or free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        command += ["-c", str(self.certificate_path), "-k", str(self.key_path)]
        self.process = ServerProcess("the S3 server", command, log=self.log_path)
        self.access_key = "AKIAEXAMPLEFORTESTS"
        self.secret_key = "secret-of-the-local-s3-server"  # noqa: S105 - moto takes any

    @property
    def endpoint_url(self) -> str:
        """``https://127.0.0.1:<port>``."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def ca_path(self) -> Path:
        """The certificate authority to trust, as a PEM file: for ``verify``, ``AWS_CA_BUNDLE`` and the like."""
        return self._folder / "ca.pem"

    @property
    def certificate_path(self) -> Path:
        """The server's certificate, as a PEM file."""
        return self._folder / "server.pem"

    @property
    def key_path(self) -> Path:
        """The key of the certificate, as a PEM file."""
        return self._folder / "server.key"

    @property
    def log_path(self) -> Path:
        """What the server writes."""
        return self._folder / "s3.log"

    def launch(self) -> None:
        """Start the server without waiting for it; :meth:`start` then only waits. :attr:`ca_path` is written."""
        self._write_certificates()
        self.process.start()

    def start(self, timeout: float = WAIT_TIMEOUT_S) -> S3Server:
        """Start the server and wait until it answers, ``timeout`` seconds at most.

        :raises PartFailedError: when it does not, with the end of its log.
        """
        if not self.process.started:
            self.launch()
        wait_until(self._answers, [self.process], what="the S3 server", timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop the server and all its children; does nothing when it does not run."""
        self.process.stop(grace=5)
        if self._own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def profile(self, bucket: str | None = None, prefix: str = "") -> S3Profile:
        """The package's settings for this server."""
        return S3Profile(bucket=bucket, prefix=prefix, region=self.region, endpoint_url=self.endpoint_url)

    def client(self) -> S3Client:
        """A boto3 client as the package makes it for S3-compatible stores; close it after use."""
        return self._session.client(
            "s3", endpoint_url=self.endpoint_url, verify=str(self.ca_path), config=self.profile().client_config()
        )

    def __enter__(self) -> S3Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @functools.cached_property
    def _session(self) -> boto3.session.Session:
        """One for all clients: the session keeps boto's model of S3, which takes most of a client's making."""
        import boto3

        return boto3.session.Session(self.access_key, self.secret_key, region_name=self.region)

    def _write_certificates(self) -> None:
        import trustme  # of the extra [testing]; tests without S3 do without it

        authority = trustme.CA(organization_name="throw-away CA of the local S3 server")
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(str(self.ca_path))
        certificate.private_key_pem.write_to_path(str(self.key_path))
        for number, pem in enumerate(certificate.cert_chain_pems):
            pem.write_to_path(str(self.certificate_path), append=number > 0)

    def _answers(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.ca_path))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(f"{self.endpoint_url}/moto-api/", timeout=30) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@dataclass(frozen=True)
class Bucket:
    """A bucket on the S3 server of the tests.

    :param client: a boto3 client of ``server``.
    """

    server: S3Server
    name: str
    client: S3Client

    def uri(self, key: str) -> str:
        """``s3://<bucket>/<key>``."""
        return f"s3://{self.name}/{key}"

    def put(self, key: str, body: bytes) -> str:
        """Write an object; returns its URI."""
        self.client.put_object(Bucket=self.name, Key=key, Body=body)
        return self.uri(key)

    def read(self, uri: str) -> bytes:
        """The content of an object, which may lie in another bucket of the server.

        :param uri: an ``s3://`` URI, such as ``uri`` of a result.
        :raises botocore.exceptions.ClientError: when there is no such object.
        """
        place = S3Uri.parse(uri)
        return self.client.get_object(Bucket=place.bucket, Key=place.key)["Body"].read()

    def keys(self, prefix: str = "") -> list[str]:
        """The keys below a prefix, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))
