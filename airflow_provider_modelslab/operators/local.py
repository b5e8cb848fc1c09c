"""The main job on a GPU of your own, inside the task: same arguments, same result, no endpoint."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.lineage.report import reported
from airflow_provider_modelslab.links.media import (
    ModelsLabManifestLink,
    ModelsLabResultLink,
    ModelsLabSourceLink,
    push_links,
    push_manifest_links,
)
from airflow_provider_modelslab.operators.arguments import (
    Video2VideoArguments,
    check_literal_suffix,
    resolve_destination,
    result_name,
)
from airflow_provider_modelslab.operators.local_arguments import LocalArguments
from airflow_provider_modelslab.operators.rendered import clip_version_of
from airflow_provider_modelslab.storage.uri import check_suffix

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.ledger.model import Stored
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["LocalVideo2VideoOperator"]


class LocalVideo2VideoOperator(LocalArguments, Video2VideoArguments):
    """Restyle one clip with diffusers on this worker and land it in S3. It costs nothing at ModelsLab.

    To switch a Dag from the endpoint to your own GPU, or back, change only the class: the arguments, the manifest, the
    sidecar and the ledger are the same. The package's extra ``local`` must be installed on the worker. Each task is a
    new process and loads the model again. Give the tasks a pool with one slot per GPU.

    All attributes of the endpoint are arguments, see :class:`Video2VideoArguments`. For where and how the model runs,
    see :class:`~airflow_provider_modelslab.operators.local_arguments.LocalArguments`. Other arguments:

    :param land_result: an argument of the remote operator; must be ``True``, because no endpoint keeps the result.
    :param wait_for_completion: an argument of the remote operator; accepted, but has no effect here.
    :param fallback: see ``wait_for_completion``.
    :param clip_mode: an argument of the remote operator; must be ``"sample"``.
    :param overlap: see ``wait_for_completion``; it is for whole clips, as are the next three.
    :param audio: see ``overlap``.
    :param max_segments: see ``overlap``.
    :param max_in_flight: see ``overlap``.
    :raises InvalidRequestError: with each attribute that is not allowed, or that the model does not support.
    :raises StorageConfigurationError: when there is no bucket to land in.
    :raises ValueError: for ``land_result=False``.
    """

    template_fields: Sequence[str] = (*Video2VideoArguments.template_fields, *LocalArguments.machine_fields)
    operator_extra_links = (ModelsLabResultLink(), ModelsLabSourceLink(), ModelsLabManifestLink())

    def __init__(
        self,
        *,
        land_result: bool = True,
        wait_for_completion: bool = True,
        fallback: Sequence[Mapping[str, Any]] | None = None,
        clip_mode: str = "sample",
        overlap: int | str | None = None,
        audio: str | None = None,
        max_segments: int | str | None = None,
        max_in_flight: int = 10,
        **arguments: Any,
    ) -> None:
        if clip_mode != "sample":
            raise InvalidRequestError.of(
                "clip_mode",
                f"must be 'sample' for a local result; whole clips are made at an endpoint; got {clip_mode!r}",
            )
        if not land_result:
            raise ValueError(
                "land_result: must be True, because no endpoint keeps a local result; leave the argument out, and give "
                f"a destination; got {land_result}"
            )
        super().__init__(**arguments)
        check_literal_suffix(self)

    @reported
    def execute(self, context: Context) -> dict[str, Any]:
        """Return what has landed before, else make the clip, land it and return its manifest."""
        from airflow_provider_modelslab.jobs.task_ledger import attempt_of, open_ledger, policy_in_force
        from airflow_provider_modelslab.ledger.model import Fingerprint
        from airflow_provider_modelslab.storage.checks import require_writable
        from airflow_provider_modelslab.storage.inputs import identify_input
        from airflow_provider_modelslab.storage.s3_objects import is_gone
        from airflow_provider_modelslab.storage.sidecar import sidecar_uri

        request = self.build_request()
        self._check_local(request)
        suffix = request.output_type or "mp4"
        if isinstance(self.destination, str):
            check_suffix(self.destination, suffix)
        target = resolve_destination(self.destination, self.hook.s3_profile, f"{result_name(context)}.{suffix}")
        if target is None:
            raise StorageConfigurationError(
                f"destination: neither the task nor the connection {self.modelslab_conn_id!r} names a bucket; give "
                "s3://bucket/..."
            )
        sidecar_uri(target)  # a longer key, which would be refused when the clip is made
        s3 = self.hook.get_s3_client()
        targets = {"result": str(target), "manifest": f"{target}.json", "conn_id": self.modelslab_conn_id}
        push_links(context, self, source=request.init_video, **targets)
        ledger = open_ledger(context, self.hook, target)
        policy = policy_in_force(self._ledger_policy(), context)
        attempt = attempt_of(context, retries=self.retries)
        fingerprint = Fingerprint.of(
            request,
            conn_id=self._made_by(),
            source=identify_input(
                request.init_video, self.hook.get_s3_client, version=clip_version_of(self.clip_version)
            ),
        )

        def find() -> Stored | None:
            stored = ledger.find_stored(fingerprint, policy, attempt)
            return None if stored is None or is_gone(s3, stored.manifest) else stored

        found = find()
        if found is not None:
            self._reused = True
            self.log.info("The result of submission %d is already in S3; it is not made again", found.number)
            manifest = dict(found.manifest)
        else:
            require_writable(s3, target)
            manifest = self._make(request, target, before_landing=find)
            ledger.record_stored(fingerprint, attempt, manifest)
        push_manifest_links(context, self, manifest)
        return manifest

    def _make(
        self, request: Video2VideoRequest, target: S3Uri, *, before_landing: Callable[[], object]
    ) -> dict[str, Any]:
        from airflow_provider_modelslab.operators.local_clip import make_clip

        started = time.time()
        with tempfile.TemporaryDirectory(prefix="modelslab-") as folder:
            made = make_clip(
                self._engine,
                request,
                self.hook.get_s3_client,
                Path(folder),
                started=started,
                timeout=self.timeout,
                is_killed=self._killed.is_set,
                on_step=self._log_step,
            )
            self.log.info("Made in %.1f s on %s", made.seconds, made.meta.get("device"))
            before_landing()  # raises where a later try has asked for another one meanwhile
            manifest = self._land(request, made, target, started)
        self.log.info("Landed %s: %d bytes, sha256 %s", manifest["uri"], manifest["bytes"], manifest["sha256"])
        return manifest

    def _log_step(self, done: int, steps: int) -> None:
        self.log.info("Step %d of %d", done, steps)
