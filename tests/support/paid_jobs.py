"""The real :class:`PaidJob` with a hook and a caller made up: nothing is sent, and S3 only says what is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

from botocore.exceptions import ClientError

from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.jobs.paid_job import PaidJob
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import Fingerprint, LedgerPolicy
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.storage.inputs import PreparedInput
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.batch.planning.known_jobs import KnownJobs
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.targets import Target

__all__ = ["DESTINATION", "WANTED", "FakeCaller", "FakeHook", "FakeRequest", "Submit", "paid_job"]

WANTED = Fingerprint("request", "source")
DESTINATION = S3Uri("clips", "out/k.mp4")
_NOT_FOUND: Any = {"ResponseMetadata": {"HTTPStatusCode": 404}}

Submit = Callable[[int], tuple[Job, Finished | None]]
"""Submits a submission by its number; raises what the endpoint's answer says."""


class FakeRequest(EndpointRequest):
    """A request of an endpoint that reads no clip."""

    path: ClassVar[str] = "made/up"

    prompt: str | None = None
    output_type: str | None = None


@dataclass
class FakeHook:
    """As much of the hook, and of its S3 client, as a paid job without a clip asks for.

    :param submit_once: called for each submit with the submission's number, which its track_id ends with.
    :param lease: seconds of each claim.
    :param gone: ``s3://`` URIs of results that are no longer there.
    :param land_error: what landing raises.
    """

    submit_once: Submit
    lease: float = 300.0
    gone: set[str] = field(default_factory=set)
    land_error: Exception | None = None
    sent: list[EndpointRequest] = field(default_factory=list)
    expected_types: list[str | None] = field(default_factory=list)
    modelslab_conn_id: str = "conn"

    def submit_lease(self) -> float:
        return self.lease

    def submit(
        self, request: EndpointRequest, *, source: str | None = None, lease_ends: float
    ) -> tuple[Job, Finished | None]:
        self.sent.append(request)
        return self.submit_once(int(str(request.track_id).rpartition("submission")[2]))

    def land(self, job: Job, finished: Finished, target: S3Uri, *, expected_type: str | None = None) -> dict[str, Any]:
        if self.land_error is not None:
            raise self.land_error
        self.expected_types.append(expected_type)
        return {"job_id": job.job_id, "uri": str(target)}

    def get_s3_client(self) -> S3Client:
        return cast("S3Client", self)

    def head_object(self, *, Bucket: str, Key: str) -> Mapping[str, Any]:  # noqa: N803 - boto3's names
        if str(S3Uri(Bucket, Key)) in self.gone:
            raise ClientError(_NOT_FOUND, "HeadObject")
        return {"ContentLength": 1, "Metadata": {}}

    def create_multipart_upload(self, *, Bucket: str, Key: str) -> Mapping[str, Any]:  # noqa: N803
        return {"UploadId": "1"}

    def abort_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str) -> None:  # noqa: N803
        """That a result can be put there has been tried."""


@dataclass
class FakeCaller:
    """Who runs a paid job; names its submissions ``submission1`` and so on.

    :param resolutions: what people found out about submissions of unknown outcome, by name.
    :param on_confirm: called after the free checks.
    :param on_claim: called before each claim, with the track_id.
    """

    resolutions: dict[str, str] = field(default_factory=dict)
    on_confirm: Callable[[], object] = lambda: None
    on_claim: Callable[[str], object] = lambda track_id: None
    confirmed: int = 0

    def submission_name(self, number: int, destination: S3Uri | None) -> str:
        return f"submission{number}"

    def resolution(self, name: str) -> str | None:
        return self.resolutions.get(name)

    def advice(self, name: str) -> str:
        return f"Say what became of {name}"

    def confirm(self, job: PaidJob, clip: PreparedInput | None) -> None:
        self.confirmed += 1
        self.on_confirm()

    def before_claim(self, track_id: str) -> None:
        self.on_claim(track_id)


def paid_job(
    ledger: Ledger,
    hook: FakeHook | Submit,
    *,
    policy: LedgerPolicy | None = None,
    attempt: AttemptId | None = None,
    caller: FakeCaller | None = None,
    fingerprint: Fingerprint = WANTED,
    request: EndpointRequest | None = None,
    known_jobs: KnownJobs | None = None,
    places: Sequence[Target] = (),
    hooks: Mapping[str, FakeHook] | None = None,
) -> PaidJob:
    """A paid job of these parts.

    :param hook: a hook, or what one submits with.
    """
    return PaidJob(
        request=request or FakeRequest(),
        hook=cast("ModelsLabHook", hook if isinstance(hook, FakeHook) else FakeHook(hook)),
        ledger=ledger,
        destination=DESTINATION,
        policy=policy or LedgerPolicy(),
        attempt=attempt or AttemptId(),
        caller=caller or FakeCaller(),
        known_fingerprint=fingerprint,
        known_jobs=known_jobs,
        places=places,
        hooks=cast("Mapping[str, ModelsLabHook]", hooks or {}),
    )
