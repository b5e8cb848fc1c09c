"""All parts together: the S3 server, the endpoint and Airflow, connected as a user would connect them."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Self

import certifi

from airflow_provider_modelslab.api.request import MODEL_IDS
from tools.stack.airflow import AirflowStack
from tools.stack.endpoint import EndpointProcess
from tools.stack.kept import SavedObjects, kept_ports
from tools.stack.process import PartFailedError
from tools.stack.s3 import S3Server

__all__ = ["WholeStack"]

_PARTS = ("s3", "endpoint", "airflow")
CLIP = Path(__file__).parents[2] / "dags_examples" / "media" / "clip.mp4"
POOLS = (("gpus", 1), ("modelslab", 5))
"""The pools of the examples, with their slots."""

LOCAL_KEY = "key-of-the-local-endpoint"


class WholeStack:
    """Start the parts one by one, in this order, or all at once; the end of a ``with`` block stops them all.

    :param folder: state and logs of all parts. Airflow's and the endpoint's state outlive a run.
    :param dags_folder: where the Dags are.
    :param bucket: the bucket of the ModelsLab connection.
    :param endpoint_arguments: command line arguments for the endpoint.
    :param airflow_env: environment variables for Airflow.
    :param keeps: whether a later stack on the same folder finds the objects in S3 and the ports as well; otherwise S3
        begins empty, and the ports are free ones.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dags_folder: Path,
        bucket: str,
        endpoint_arguments: tuple[str, ...] = (),
        airflow_env: dict[str, str] | None = None,
        keeps: bool = False,
    ) -> None:
        self.folder = folder
        self.bucket = bucket
        shutil.rmtree(folder / "s3", ignore_errors=True)
        ports = kept_ports(folder / "ports.json", _PARTS) if keeps else {}
        self.s3 = S3Server(folder / "s3", port=ports.get("s3"))
        self.objects = SavedObjects(folder / "objects") if keeps else None
        self._bundle = folder / "trusted.pem"
        # Loopback is reached directly, whatever proxy the machine has, and the S3 server's certificate is trusted.
        env = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")
        env |= dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE"), str(self._bundle))
        self.endpoint = EndpointProcess(
            folder / "endpoint", key=LOCAL_KEY, arguments=endpoint_arguments, env=env, port=ports.get("endpoint", 0)
        )
        self.airflow = AirflowStack(
            folder / "airflow", dags_folder=dags_folder, env={**env, **(airflow_env or {})}, port=ports.get("airflow")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, prefix: str = "") -> None:
        """Start all parts, and connect Airflow with the endpoint of this machine."""
        self.start_s3()
        self.start_endpoint()
        self.start_airflow(prefix=prefix)

    def start_s3(self) -> None:
        """Start S3 and make the bucket, with what was kept of it."""
        self.s3.start()
        usual = os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where()
        self._bundle.write_text(Path(usual).read_text() + self.s3.ca_path.read_text())
        s3 = self.s3.client()
        s3.create_bucket(Bucket=self.bucket)
        if self.objects is not None:
            self.objects.restore(s3, self.bucket)

    def save(self) -> None:
        """Save the objects in S3, where they are kept.

        :raises PartFailedError: when S3 does not run.
        """
        if self.objects is not None:
            self.s3.process.require_alive()
            self.objects.save(self.s3.client(), self.bucket)

    def upload_clips(self) -> None:
        """Put clips to ``incoming/``, where the examples of batches find theirs."""
        for name in ("one", "two"):
            self.s3.client().upload_file(str(CLIP), self.bucket, f"incoming/{name}.mp4")

    def start_endpoint(self) -> None:
        """Start the endpoint; without it the connection goes to ModelsLab."""
        self.endpoint.start()

    def start_airflow(self, *, key: str | None = None, prefix: str = "", public_url: str | None = None) -> None:
        """Start Airflow and make its two connections.

        :param key: ModelsLab's API key; by default the local endpoint is used, with its own.
        """
        self.airflow.start()
        self.connect(key=key, prefix=prefix, public_url=public_url)

    def connect(self, *, key: str | None = None, prefix: str = "", public_url: str | None = None) -> None:
        """Make the two connections of Airflow, also in place of others; see :meth:`start_airflow`."""
        self.airflow.set_connection(
            "aws_default",
            conn_type="aws",
            login=self.s3.access_key,
            password=self.s3.secret_key,
            extra={"region_name": self.s3.region, "verify": str(self.s3.ca_path)},
        )
        for name, slots in POOLS:
            pool = {"name": name, "slots": slots, "include_deferred": name == "modelslab"}
            self.airflow.call("POST", "pools", pool, accept=(201, 409))
        extra: dict[str, object] = {
            "bucket": self.bucket,
            "prefix": prefix,
            "region": self.s3.region,
            "endpoint_url": self.s3.endpoint_url,
        }
        if key is None:  # the same names in tasks that run their model themselves
            extra["catalog"] = {"models": dict.fromkeys(MODEL_IDS, "demo")}
        self.airflow.set_connection(
            "modelslab_default",
            conn_type="modelslab",
            password=key or LOCAL_KEY,
            host=None if key else self.endpoint.url,
            extra=extra | ({"public_url": public_url} if public_url else {}),
        )

    def stop(self) -> None:
        """Stop all parts."""
        self.airflow.stop()
        self.endpoint.stop()
        with suppress(PartFailedError):  # it did not start, or has ended: what was saved before is kept
            self.save()
        self.s3.stop()
