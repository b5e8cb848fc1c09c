"""All parts together: the S3 server, the endpoint and Airflow, connected as a user would connect them."""

from __future__ import annotations

import json
import os
import secrets
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
WEBHOOK_CONN_ID = "modelslab_webhook"
"""The connection of the example of webhooks."""


class WholeStack:
    """Start the parts one by one, in this order, or all at once; the end of a ``with`` block stops them all.

    After :meth:`launch` they all start side by side, and the other methods wait for theirs.

    :param folder: state and logs of all parts. Airflow's and the endpoint's state outlive a run.
    :param dags_folder: where the Dags are.
    :param bucket: the bucket of the ModelsLab connection.
    :param endpoint_arguments: command line arguments for the endpoint.
    :param airflow_env: environment variables for Airflow.
    :param keeps: whether a later stack on the same folder finds the objects in S3 and the ports as well; otherwise S3
        begins empty, and the ports are free ones.
    :param webhooks: whether there is a connection for which the endpoint calls Airflow when a job ends.
    :param quick: whether Airflow and the endpoint start and end sooner, see :mod:`tools.stack.run_module`.
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
        webhooks: bool = False,
        quick: bool = False,
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
            folder / "endpoint",
            key=LOCAL_KEY,
            arguments=endpoint_arguments,
            env=env,
            port=ports.get("endpoint", 0),
            quick=quick,
        )
        self._webhooks = webhooks
        if webhooks:
            env["AIRFLOW__MODELSLAB__WEBHOOK_CONN_IDS"] = WEBHOOK_CONN_ID
        self.airflow = AirflowStack(
            folder / "airflow",
            dags_folder=dags_folder,
            env={**env, **(airflow_env or {})},
            port=ports.get("airflow"),
            quick=quick,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def launch(self, *, endpoint: bool = True) -> None:
        """Start all parts without waiting for any; see :meth:`start_s3` and so on for how to wait.

        :param endpoint: whether the endpoint is one of them.
        """
        self._launch_s3()
        if endpoint:
            self.endpoint.launch()
        self.airflow.launch()

    def start(self, *, prefix: str = "") -> None:
        """Start all parts, and connect Airflow with the endpoint of this machine."""
        self.launch()
        self.start_s3()
        self.start_endpoint()
        self.start_airflow(prefix=prefix)

    def _launch_s3(self) -> None:
        self.s3.launch()
        usual = os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where()
        self._bundle.write_text(Path(usual).read_text() + self.s3.ca_path.read_text())

    def start_s3(self) -> None:
        """Start S3 and make the bucket, with what was kept of it."""
        if not self.s3.process.started:
            self._launch_s3()
        self.s3.start()
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
        """Start Airflow and make its connections.

        :param key: ModelsLab's API key; by default the local endpoint is used, with its own.
        """
        self.airflow.start()
        self.connect(key=key, prefix=prefix, public_url=public_url)

    def connect(self, *, key: str | None = None, prefix: str = "", public_url: str | None = None) -> None:
        """Make the connections of Airflow, also in place of others; see :meth:`start_airflow`."""
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
            # As a file: Airflow warns of short values in a connection, which it cannot mask.
            catalog = self.folder / "catalog.json"
            catalog.write_text(json.dumps({"models": dict.fromkeys(MODEL_IDS, "demo")}))
            extra["catalog"] = str(catalog)
        if public_url:
            extra["public_url"] = public_url
        self._connect("modelslab_default", key, extra)
        if self._webhooks:
            webhook = {"webhook_url": self.airflow.url, "webhook_token": secrets.token_hex(32)}
            self._connect(WEBHOOK_CONN_ID, key, extra if key else extra | webhook)  # ModelsLab cannot call this machine

    def _connect(self, conn_id: str, key: str | None, extra: dict[str, object]) -> None:
        host = None if key else self.endpoint.url
        self.airflow.set_connection(conn_id, conn_type="modelslab", password=key or LOCAL_KEY, host=host, extra=extra)

    def stop(self) -> None:
        """Stop all parts."""
        self.airflow.stop()
        self.endpoint.stop()
        with suppress(PartFailedError):  # it did not start, or has ended: what was saved before is kept
            self.save()
        self.s3.stop()
