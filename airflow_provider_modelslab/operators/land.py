"""Land the result of a job that an earlier task submitted or waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.api.suggestions import SuggestArguments
from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.lineage.clip import JobReport
from airflow_provider_modelslab.lineage.report import reported
from airflow_provider_modelslab.links.media import (
    ModelsLabJobLink,
    ModelsLabManifestLink,
    ModelsLabResultLink,
    push_links,
    push_manifest_links,
)
from airflow_provider_modelslab.operators.arguments import (
    check_destination,
    is_literal,
    link_suffix,
    resolve_destination,
    result_name,
)
from airflow_provider_modelslab.storage.extra_args import checked_extra_args

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.result_manifest import Job

__all__ = ["ModelsLabVideo2VideoToS3Operator"]


class ModelsLabVideo2VideoToS3Operator(JobReport, SuggestArguments, BaseOperator):
    """Copy a finished job's result to S3, check it, and write a sidecar. Returns the manifest of the main operator.

    It costs nothing at the endpoint. It can be run again while the links are valid (24 hours). Of a whole clip it lands
    the results of all segments and joins them, at the destination of the task that submitted the jobs.

    :param job: the job (templated): its id, or the manifest that the operator or the sensor returned.
    :param destination: where the result lands (templated): ``s3://bucket/key.mp4``, ``s3://bucket/prefix/``, or a key
        below the connection's bucket. By default the connection's bucket and prefix.
    :param modelslab_conn_id: the Airflow connection (templated); a manifest's own connection takes precedence.
    :param extra_args: arguments of ``put_object`` for every write to S3 (templated), see
        :class:`~airflow_provider_modelslab.operators.destination_arguments.DestinationArguments`.
    :raises InvalidRequestError: when ``job`` is not a job.
    :raises LandingError: when the copy failed; run the task again.
    """

    template_fields: Sequence[str] = ("job", "destination", "modelslab_conn_id", "extra_args")
    operator_extra_links = (ModelsLabResultLink(), ModelsLabManifestLink(), ModelsLabJobLink())
    ui_color = "#efe8fb"

    def __init__(
        self,
        *,
        job: Any,
        destination: str | None = None,
        modelslab_conn_id: str = DEFAULT_CONN_NAME,
        extra_args: Mapping[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.destination = destination
        self.modelslab_conn_id = modelslab_conn_id
        self.extra_args = extra_args
        if is_literal(destination):
            check_destination(destination)
        if is_literal(extra_args):
            checked_extra_args(extra_args)

    @reported
    def execute(self, context: Context) -> dict[str, Any]:
        """Find the links, check the bucket, copy."""
        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
        from airflow_provider_modelslab.jobs.paid_job import land_found_job
        from airflow_provider_modelslab.storage.checks import require_writable
        from airflow_provider_modelslab.storage.result_manifest import Job, is_whole

        if is_whole(self.job):
            return self._land_whole(context, self.job)
        job = Job.from_xcom(self.job, conn_id=self.modelslab_conn_id)
        push_links(context, self, job_id=job.job_id, conn_id=job.conn_id)
        hook = ModelsLabHook(job.conn_id, extra_args=self.extra_args)
        finished = self._finished(hook, job)
        suffix = job.request.get("output_type") or link_suffix(finished.links)
        target = resolve_destination(self.destination, hook.s3_profile, f"{result_name(context)}.{suffix}")
        if target is None:
            raise StorageConfigurationError(
                f"destination: neither the task nor the connection {job.conn_id!r} names a bucket; give s3://bucket/..."
            )
        require_writable(hook.get_s3_client(), target)
        manifest = land_found_job(hook, job, finished, target)
        self.log.info("Landed %s: %d bytes, sha256 %s", manifest["uri"], manifest["bytes"], manifest["sha256"])
        push_manifest_links(context, self, manifest)
        return manifest

    def _land_whole(self, context: Context, submitted: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
        from airflow_provider_modelslab.jobs.task_ledger import attempt_of
        from airflow_provider_modelslab.jobs.whole_clip.submitted import land_submitted

        manifest = dict(submitted)
        if self.destination is not None and self.destination != manifest.get("destination", manifest.get("uri")):
            raise InvalidRequestError.of(
                "destination",
                "must be the destination of the task that submitted the jobs of the whole clip; or leave it out",
            )
        if manifest["status"] != "landed":
            hook = ModelsLabHook(manifest.get("conn_id") or self.modelslab_conn_id, extra_args=self.extra_args)
            manifest = land_submitted(manifest, hook, attempt_of(context, retries=self.retries))
            self.log.info("Landed %s: %d frames, sha256 %s", manifest["uri"], manifest["frames"], manifest["sha256"])
        push_manifest_links(context, self, manifest)
        return manifest

    def _finished(self, hook: ModelsLabHook, job: Job) -> Finished:
        """The result: as the manifest tells it, else as the endpoint does."""
        from airflow_provider_modelslab.api.response import Finished

        if isinstance(self.job, dict) and self.job.get("links"):
            return Finished(job.job_id, tuple(self.job["links"]), generation_time=self.job.get("generation_time_s"))
        return hook.fetch_finished(job.job_id)
