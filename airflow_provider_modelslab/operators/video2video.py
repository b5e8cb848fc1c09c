"""The operator of the main job: submit a clip once, wait without a worker, land the result in S3."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_modelslab.links.media import (
    ModelsLabJobLink,
    ModelsLabManifestLink,
    ModelsLabResultLink,
    ModelsLabSourceLink,
)
from airflow_provider_modelslab.operators.arguments import Video2VideoArguments
from airflow_provider_modelslab.operators.whole_clip import WholeClipOperator

__all__ = ["ModelsLabVideo2VideoOperator"]


class ModelsLabVideo2VideoOperator(WholeClipOperator, Video2VideoArguments):
    """Submit one video-to-video job, wait for it, and copy the result to S3. A job is paid for once.

    The task submits the job from a worker, waits for it in the triggerer if ``deferrable``, and lands the result from a
    worker. It returns a small manifest: ``uri``, ``sidecar_uri``, ``bytes``, ``sha256``, ``content_type``, ``seed``,
    ``job_id``...

    Each submission is recorded in a ledger beside the results (from Airflow 3.3 on, also in Airflow's task state). So a
    retry, a cleared task, a second worker, a batch or a command continues with the job that is already paid for, or
    returns the landed result.

    All attributes of the endpoint are arguments, see :class:`Video2VideoArguments`. For how the job is submitted, paid
    for and landed, see :class:`~airflow_provider_modelslab.operators.paid_job.PaidJobOperator`. For clips of any
    length, with their sound, see :class:`~airflow_provider_modelslab.operators.whole_clip.WholeClipOperator`.
    """

    # The base comes first, so that type checkers and editors see its arguments; a request is made of the attributes.
    build_request = Video2VideoArguments.build_request
    template_fields: Sequence[str] = (
        *Video2VideoArguments.template_fields,
        *WholeClipOperator.destination_fields,
        *WholeClipOperator.spending_fields,
        *WholeClipOperator.duration_fields,
        *WholeClipOperator.whole_fields,
        "fallback",
    )
    operator_extra_links = (ModelsLabResultLink(), ModelsLabSourceLink(), ModelsLabManifestLink(), ModelsLabJobLink())
