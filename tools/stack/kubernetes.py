"""All parts with KubernetesExecutor: Airflow, and a Kubernetes API server whose pods are processes of this machine."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import requests

from tools.stack.process import ServerProcess, free_port, wait_until
from tools.stack.whole import WholeStack

__all__ = ["IMAGE", "NAMESPACE", "KubernetesApi", "KubernetesStack", "missing"]

NAMESPACE = "airflow"
IMAGE = ("registry.example.com/airflow", "with-modelslab")
_IN_PODS = ("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "AIRFLOW__LOGGING__BASE_LOG_FOLDER")


def missing() -> list[str]:
    """What is not installed of all that this needs, in words."""
    found = find_spec("airflow.providers.cncf") and find_spec("airflow.providers.cncf.kubernetes")
    return [] if found else ["apache-airflow-providers-cncf-kubernetes"]


class KubernetesApi:
    """See :mod:`tools.stack.pods`.

    :param folder: the kubeconfig, the log, and a folder for each pod.
    :param env: the environment that pods find in their image.
    """

    def __init__(self, folder: Path, *, env: Mapping[str, str] | None = None) -> None:
        self._token = secrets.token_urlsafe(24)
        self._port = free_port()
        self._pods = folder / "pods"
        self._kubeconfig = folder / "kubeconfig"
        command = [sys.executable, "-m", "tools.stack.pods", str(self._pods), str(self._port)]
        root = Path(__file__).resolve().parents[2]
        self.process = ServerProcess(
            "the Kubernetes API",
            command,
            log=folder / "pods.log",
            env={**(env or os.environ), "PODS_TOKEN": self._token},
            cwd=root,
        )

    @property
    def kubeconfig(self) -> Path:
        """For clients; only its owner can read it, for whoever has the token can start processes."""
        if not self._kubeconfig.exists():
            self._kubeconfig.parent.mkdir(parents=True, exist_ok=True)
            self._kubeconfig.touch(mode=0o600)
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "here", "cluster": {"server": self._url}}],
                "users": [{"name": "airflow", "user": {"token": self._token}}],
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "airflow"}}],
                "current-context": "here",
            }
            self._kubeconfig.write_text(json.dumps(config))  # JSON is YAML
        return self._kubeconfig

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process.start()
        wait_until(self._answers, [self.process], what="the Kubernetes API")

    def stop(self) -> None:
        """Stop it and its pods."""
        self.process.stop()

    def made(self, run_id: str) -> list[dict[str, Any]]:
        """The pods that were made for a run, as they were asked for, oldest first; those that are gone as well."""
        files = sorted(self._pods.glob("*/pod.json"), key=lambda file: file.stat().st_mtime_ns)
        pods = [json.loads(file.read_text()) for file in files]
        return [pod for pod in pods if pod["metadata"]["annotations"]["run_id"] == run_id]

    def running(self, run_id: str) -> list[dict[str, Any]]:
        """The pods of a run that run."""
        return [
            pod
            for pod in self._get(f"/api/v1/namespaces/{NAMESPACE}/pods?fieldSelector=status.phase=Running").json()[
                "items"
            ]
            if pod["metadata"]["annotations"]["run_id"] == run_id
        ]

    def kill(self, pod: Mapping[str, Any]) -> None:
        """Send SIGKILL to a pod's first process, as the kernel does where memory ends; the others end with it."""
        container = pod["status"]["containerStatuses"][0]
        os.kill(int(container["containerID"].removeprefix("process://")), signal.SIGKILL)

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _get(self, path: str) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{self._url}{path}", headers={"Authorization": f"Bearer {self._token}"}, timeout=60)

    def _answers(self) -> bool:
        try:
            return self._get("/version").ok
        except requests.RequestException:
            return False


class KubernetesStack(WholeStack):
    """Like :class:`~tools.stack.whole.WholeStack`, with another executor.

    Each pod has an ``AIRFLOW_HOME`` of its own and no database. The folder of the Dags and that of the logs stand for
    volumes.

    :param folder: state and logs.
    :param dags_folder: where the Dags are.
    :param bucket: the bucket of the ModelsLab connection.
    :param airflow_env: environment variables for Airflow.
    """

    def __init__(
        self, folder: Path, *, dags_folder: Path, bucket: str, airflow_env: dict[str, str] | None = None
    ) -> None:
        home = folder / "kubernetes"
        template = home / "pod_template.yaml"
        settings = {
            "AIRFLOW__CORE__EXECUTOR": "KubernetesExecutor",
            "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE": NAMESPACE,
            "AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER": "False",
            "AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE": str(home / "kubeconfig"),
            "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": str(template),
            "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY": IMAGE[0],
            "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG": IMAGE[1],
            "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_PODS_CREATION_BATCH_SIZE": "4",
        }
        super().__init__(folder, dags_folder=dags_folder, bucket=bucket, airflow_env=settings | (airflow_env or {}))
        env = self.airflow.remote_env(home, *_IN_PODS)
        in_image = {name: value for name, value in env.items() if not name.startswith("AIRFLOW_")}
        self.kubernetes = KubernetesApi(home, env=in_image)
        self._template = template
        self._in_template = {name: value for name, value in env.items() if name.startswith("AIRFLOW__")}

    def launch(self, *, endpoint: bool = True) -> None:
        """Write the pod template and start the Kubernetes API, then all other parts without waiting for any."""
        container = {
            "name": "base",
            "env": [{"name": name, "value": value} for name, value in self._in_template.items()],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "template"}, "spec": {"containers": [container]}}
        self.kubernetes.kubeconfig  # noqa: B018 - is written
        self._template.write_text(json.dumps(pod, indent=2))
        self.kubernetes.start()
        super().launch(endpoint=endpoint)

    def stop(self) -> None:
        """Stop all parts."""
        super().stop()
        self.kubernetes.stop()
