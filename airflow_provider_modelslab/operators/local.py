"""The main job on a GPU of your own, inside the task: same arguments, same result, no endpoint."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_modelslab.api.errors import JobTimeoutError, RequestValidationError, StorageConfigurationError
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.operators.arguments import (
    Video2VideoArguments,
    check_destination,
    resolve_destination,
    result_name,
)
from airflow_provider_modelslab.operators.task_ledger import attempt_of, open_ledger, policy_in_force
from airflow_provider_modelslab.storage.ledger import Fingerprint, LedgerPolicy
from airflow_provider_modelslab.storage.manifest import Job

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.local.engine import Generated, LocalEngine
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["LocalVideo2VideoOperator"]

_DELIVERY = {
    "webhook": "use the task's on_success_callback",
    "temp": "the result lands in S3",
    "base64": "the result lands in S3 as it is",
}


class LocalVideo2VideoOperator(Video2VideoArguments):
    """Restyle one clip with diffusers on this worker and land it in S3.

    A Dag switches from the endpoint to its own GPU, and back, by changing the class: the arguments, the manifest, the
    sidecar and the ledger are the same. The package's extra ``local`` has to be installed on the worker. A task is a
    fresh process and loads the model each time; give it a pool with one slot per GPU.

    All attributes of the endpoint are arguments, see :class:`Video2VideoArguments`. Besides them:

    :param destination: where the result lands (templated), as for :class:`ModelsLabVideo2VideoOperator`.
    :param modelslab_conn_id: the Airflow connection with the S3 profile (templated); its key is not used.
    :param model_dir: folder with one folder for each model (templated); ``tiny`` is built in.
    :param device: ``auto`` (the GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``.
    :param dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
    :param timeout: seconds until the task gives up; seen after each denoising step.
    :param allow_private_addresses: let ``init_video`` be a link into the own network.
    :param reuse_landed: return a result that has landed when the task is cleared; also by the run's conf.
    :param on_changed_request: when another request has landed before: ``resubmit`` (make the new one) or ``fail``.
    :param waiting: arguments of the remote operator that have no meaning here (``deferrable``, ``poll_interval``,
        ``max_poll_interval``, ``wait_for_completion``, ``check_input``, ``on_unknown_submission``) are accepted.
    :raises RequestValidationError: naming each attribute that is not allowed, or that the model cannot honour.
    :raises StorageConfigurationError: when there is no bucket to land in.
    """

    template_fields: Sequence[str] = (
        *Video2VideoArguments.template_fields,
        "destination",
        "modelslab_conn_id",
        "model_dir",
    )

    _REMOTE_ONLY = frozenset(
        {
            "deferrable",
            "poll_interval",
            "max_poll_interval",
            "wait_for_completion",
            "check_input",
            "on_unknown_submission",
        }
    )

    def __init__(
        self,
        *,
        destination: str | None = None,
        modelslab_conn_id: str = ModelsLabHook.default_conn_name,
        model_dir: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        timeout: float = 3600.0,
        allow_private_addresses: bool = False,
        reuse_landed: bool = True,
        on_changed_request: Literal["resubmit", "fail"] = "resubmit",
        **kwargs: Any,
    ) -> None:
        super().__init__(**{name: value for name, value in kwargs.items() if name not in self._REMOTE_ONLY})
        self.destination = destination
        self.modelslab_conn_id = modelslab_conn_id
        self.model_dir = model_dir
        self.device = device
        self.dtype = dtype
        self.timeout = timeout
        self.allow_private_addresses = allow_private_addresses
        self.reuse_landed = reuse_landed
        self.on_changed_request = on_changed_request
        self._killed = threading.Event()
        if timeout <= 0:
            raise ValueError(f"timeout: must be more than 0 seconds; got {timeout}")
        check_destination(destination)
        self._ledger_policy()

    @cached_property
    def hook(self) -> ModelsLabHook:
        """The hook of this task's connection."""
        return ModelsLabHook(self.modelslab_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Return what has landed before, else make the clip, land it and return its manifest."""
        from airflow_provider_modelslab.storage.checks import require_bucket
        from airflow_provider_modelslab.storage.inputs import identify_input
        from airflow_provider_modelslab.storage.relocate import is_gone, relocate

        request = self._checked_request()
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
        ledger = open_ledger(context, self.hook, target)
        policy = policy_in_force(self._ledger_policy(), context)
        attempt = attempt_of(context, retries=self.retries, lease=self.timeout)
        fingerprint = Fingerprint.of(
            request.record(),
            conn_id=f"local:{self.modelslab_conn_id}",
            source=identify_input(request.init_video, self.hook.get_s3_client),
        )

        def gone(manifest: Mapping[str, Any]) -> bool:
            return is_gone(s3, manifest)

        found = ledger.find_landed(fingerprint, policy, attempt, skip_landed=gone)
        if found is not None:
            self.log.info("Take %d has landed before; nothing is made again", found.take)
            return relocate(s3, found.manifest, target)
        manifest = self._make(request, target)
        ledger.record_landed(fingerprint, attempt, manifest)
        return manifest

    def on_kill(self) -> None:
        """Stop after the running denoising step."""
        self._killed.set()

    def _make(self, request: Video2VideoRequest, target: S3Uri) -> dict[str, Any]:
        from airflow_provider_modelslab.local.engine import GenerationInterruptedError
        from airflow_provider_modelslab.storage.local_files import fetch_object, land_file

        s3 = self.hook.get_s3_client()
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
            landed = land_file(made.path, target, s3, expected_type=request.output_type)
        job, finished = self._described(request, made, started)
        manifest = self.hook.describe_landed(job, finished, landed)
        self.log.info("Landed %s: %d bytes, sha256 %s", manifest["uri"], manifest["bytes"], manifest["sha256"])
        return manifest

    def _described(self, request: Video2VideoRequest, made: Generated, started: float) -> tuple[Job, Finished]:
        """The job in the words that the endpoint would use."""
        job = Job(
            job_id=f"local-{uuid.uuid4()}",
            conn_id=self.modelslab_conn_id,
            submitted_at=started,
            request=request.record(),
        )
        meta = {**made.meta, "init_video": request.record()["init_video"]}
        return job, Finished(job.job_id, (), meta, round(made.seconds, 3))

    def _checked_request(self) -> Video2VideoRequest:
        request = self.build_request()
        fields = {
            name: [f"a local task has no use for it: {advice}; got {getattr(request, name)!r}"]
            for name, advice in _DELIVERY.items()
            if getattr(request, name)
        }
        if fields:
            raise RequestValidationError.of_fields(fields)
        self._engine.check(request)
        return request

    @cached_property
    def _engine(self) -> LocalEngine:
        from airflow_provider_modelslab.local.engine import LocalEngine
        from airflow_provider_modelslab.local.fetch import FetchLimits

        return LocalEngine(
            model_dir=self.model_dir,
            device=self.device,
            dtype=self.dtype,
            limits=FetchLimits(allow_private_addresses=self.allow_private_addresses),
        )

    def _tell(self, done: int, steps: int) -> None:
        self.log.info("Step %d of %d", done, steps)

    def _ledger_policy(self) -> LedgerPolicy:
        return LedgerPolicy(self.reuse_landed, self.on_changed_request, "resubmit")
