"""The main job on a GPU of your own, inside the task: same arguments, same result, no endpoint."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import JobTimeoutError, StorageConfigurationError
from airflow_provider_modelslab.lineage.report import reported
from airflow_provider_modelslab.links.media import (
    ModelsLabManifestLink,
    ModelsLabResultLink,
    ModelsLabSourceLink,
    tell_links,
    tell_manifest,
)
from airflow_provider_modelslab.operators.arguments import Video2VideoArguments, resolve_destination, result_name
from airflow_provider_modelslab.operators.local_arguments import LocalArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["REMOTE_ONLY", "LocalVideo2VideoOperator"]

REMOTE_ONLY = frozenset(
    {"deferrable", "poll_interval", "max_poll_interval", "wait_for_completion", "check_input", "on_unknown_submission"}
)
"""Arguments of the remote operator that have no meaning for a local one, and are accepted."""


class LocalVideo2VideoOperator(LocalArguments, Video2VideoArguments):
    """Restyle one clip with diffusers on this worker and land it in S3.

    A Dag switches from the endpoint to its own GPU, and back, by changing the class: the arguments, the manifest, the
    sidecar and the ledger are the same. The package's extra ``local`` has to be installed on the worker. A task is a
    fresh process and loads the model each time; give it a pool with one slot per GPU.

    All attributes of the endpoint are arguments, see :class:`Video2VideoArguments`; those that say where and how it
    runs are in :class:`~airflow_provider_modelslab.operators.local_arguments.LocalArguments`. Besides them:

    :param waiting: arguments of the remote operator that have no meaning here (``deferrable``, ``poll_interval``,
        ``max_poll_interval``, ``wait_for_completion``, ``check_input``, ``on_unknown_submission``) are accepted.
    :raises RequestValidationError: naming each attribute that is not allowed, or that the model cannot honour.
    :raises StorageConfigurationError: when there is no bucket to land in.
    """

    template_fields: Sequence[str] = (*Video2VideoArguments.template_fields, *LocalArguments.machine_fields)
    operator_extra_links = (ModelsLabResultLink(), ModelsLabSourceLink(), ModelsLabManifestLink())

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{name: value for name, value in arguments.items() if name not in REMOTE_ONLY})

    @reported
    def execute(self, context: Context) -> dict[str, Any]:
        """Return what has landed before, else make the clip, land it and return its manifest."""
        from airflow_provider_modelslab.operators.task_ledger import attempt_of, open_ledger, policy_in_force
        from airflow_provider_modelslab.storage.checks import require_bucket
        from airflow_provider_modelslab.storage.inputs import identify_input
        from airflow_provider_modelslab.storage.ledger import Fingerprint
        from airflow_provider_modelslab.storage.relocate import is_gone, relocate

        request = self.build_request()
        self._check_local(request)
        target = resolve_destination(
            self.destination, self.hook.s3_profile, f"{result_name(context)}.{request.output_type or 'mp4'}"
        )
        if target is None:
            raise StorageConfigurationError(
                f"destination: neither the task nor the connection {self.modelslab_conn_id!r} names a bucket; give "
                "s3://bucket/..."
            )
        s3 = self.hook.get_s3_client()
        require_bucket(s3, target.bucket)
        told = {"result": str(target), "manifest": f"{target}.json", "conn_id": self.modelslab_conn_id}
        tell_links(context, self, source=request.init_video, **told)
        ledger = open_ledger(context, self.hook, target)
        policy = policy_in_force(self._ledger_policy(), context)
        attempt = attempt_of(context, retries=self.retries, lease=self.timeout)
        fingerprint = Fingerprint.of(
            request.record(),
            conn_id=self._made_by(),
            source=identify_input(request.init_video, self.hook.get_s3_client),
        )

        def gone(manifest: Mapping[str, Any]) -> bool:
            return is_gone(s3, manifest)

        found = ledger.find_landed(fingerprint, policy, attempt, skip_landed=gone)
        if found is not None:
            self._reused = True
            self.log.info("Take %d has landed before; nothing is made again", found.take)
            manifest = relocate(s3, found.manifest, target)
        else:
            manifest = self._make(request, target)
            ledger.record_landed(fingerprint, attempt, manifest)
        tell_manifest(context, self, manifest)
        return manifest

    def _make(self, request: Video2VideoRequest, target: S3Uri) -> dict[str, Any]:
        from airflow_provider_modelslab.local.engine import GenerationInterruptedError
        from airflow_provider_modelslab.storage.local_files import fetch_object

        started = time.time()
        with tempfile.TemporaryDirectory(prefix="modelslab-") as folder:
            clip = fetch_object(request.init_video, self.hook.get_s3_client, Path(folder))
            output = Path(folder) / f"result.{request.output_type or 'mp4'}"
            try:
                made = self._engine.generate(
                    request.model_copy(update={"init_video": clip}),
                    output,
                    on_step=self._tell,
                    should_stop=lambda: self._killed.is_set() or time.time() - started > self.timeout,
                )
            except GenerationInterruptedError as error:
                if self._killed.is_set():
                    raise
                raise JobTimeoutError(f"The clip was not done after {self.timeout:g} s: {error}") from error
            self.log.info("Made in %.1f s on %s", made.seconds, made.meta.get("device"))
            manifest = self._land(request, made, target, started)
        self.log.info("Landed %s: %d bytes, sha256 %s", manifest["uri"], manifest["bytes"], manifest["sha256"])
        return manifest

    def _tell(self, done: int, steps: int) -> None:
        self.log.info("Step %d of %d", done, steps)
