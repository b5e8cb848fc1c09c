"""OpenLineage and asset events of the operators for one clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_modelslab.lineage.report import Report, request_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
    from airflow_provider_modelslab.lineage.uris import Output
    from airflow_provider_modelslab.storage.result_manifest import Job

__all__ = ["ClipReport", "JobReport"]

_OF_THE_EVENT = (
    *("status", "uri", "sidecar_uri", "bytes", "sha256", "content_type"),
    *("model_id", "seed", "generation_time_s", "job_id", "conn_id", "cost", "currency"),
)
_OF_THE_RUN = ("status", "job_id", "seed", "generation_time_s", "bytes", "cost", "currency")


class ClipReport(Report):
    """Report of an operator that makes one video and returns its manifest."""

    modelslab_conn_id: str
    request_class: ClassVar[type[EndpointRequest] | None] = None
    """The request of the operator's endpoint; video2video's by default."""

    def _read(self) -> list[str]:
        job = self._job()
        # The job has the clip that a decorated function returned, the operator's attributes may not.
        clip = (job.request.get("init_video") if job else None) or getattr(self, "init_video", None)
        return [clip] if clip else []

    def _made(self) -> list[Output]:
        from airflow_provider_modelslab.lineage.uris import Output

        result = self._result or {}
        return [Output(result["uri"], result["bytes"], 1)] if result.get("status") == "landed" else []

    def _facts(self) -> dict[str, Any]:
        job, result = self._job(), self._result or {}
        # After a deferral only the job has the request that a decorated function returned.
        request = request_of(job.request if job and job.request else self, self.request_class)
        facts = {
            "conn_id": self.modelslab_conn_id,
            "model_id": request.get("model_id"),
            "request": request,
            "seed": request.get("seed"),
            "job_id": job.job_id if job else None,
            "reused": self._reused if result else None,
        }
        return facts | {name: result[name] for name in _OF_THE_RUN if result.get(name) is not None}

    def _extra(self) -> dict[str, Any]:
        result = self._result or {}
        return {**{name: result[name] for name in _OF_THE_EVENT if name in result}, "reused": self._reused}

    def _landed(self, context: Context) -> list[tuple[str, dict[str, Any]]]:
        return [(output.uri, self._extra()) for output in self._made()]

    def _job(self) -> Job | None:
        """The job that is paid for, if there is one."""
        running = getattr(self, "_running", None)
        job: Job | None = running[1].job if running else None
        return job


class JobReport(ClipReport):
    """Report of an operator that lands the result of a job which an earlier task submitted."""

    job: Any

    def _read(self) -> list[str]:
        job = self._job()
        clip = job.request.get("init_video") if job else None
        return [clip] if clip else []

    def _job(self) -> Job | None:
        from airflow_provider_modelslab.api.errors import InvalidRequestError
        from airflow_provider_modelslab.storage.result_manifest import Job

        try:
            return Job.from_xcom(self.job, conn_id=self.modelslab_conn_id)
        except InvalidRequestError:
            return None
