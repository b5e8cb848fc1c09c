"""OpenLineage's own types. Imported only where its provider is, by whoever asks an operator for facets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attr
from airflow.providers.common.compat.openlineage.facet import (
    Dataset,
    InputDataset,
    OutputDataset,
    OutputStatisticsOutputDatasetFacet,
    RunFacet,
)
from airflow.providers.openlineage.extractors import OperatorLineage

from airflow_provider_modelslab.lineage.uris import Output, uri_of

__all__ = ["FACET", "ModelsLabRunFacet", "operator_lineage"]

FACET = "modelslab"
"""The name of the run facet."""


@attr.define
class ModelsLabRunFacet(RunFacet):
    """How a video was made; the words are those of the manifest that the task returns. What is not known is left out.

    :param conn_id: the Airflow connection.
    :param model_id: the checkpoint.
    :param request: the attributes that were given.
    :param status: ``landed``, ``finished``, ``submitted``; nothing before the task's end.
    :param job_id: the endpoint's id of the job, or ``local-...``.
    :param seed: in force.
    :param generation_time_s: seconds that the model worked, as the endpoint tells.
    :param bytes: of the results that are there.
    :param reused: whether all of it had landed before, so that nothing was made.
    :param cost: of the jobs that made it, as text.
    :param currency: of the cost.
    :param jobs: of a batch: jobs that were paid for.
    :param saved: of a batch: what the results that were there already would cost now, as text.
    :param counts: of a batch: ``found``, ``landed``, ``skipped``, ``failed``, ``pending``.
    :param manifest: of a batch: the object with one line for each clip.
    :param retry: of a batch: the object that names the clips to try again.
    :param inputs_left_out: clips beyond those that the event names.
    """

    conn_id: str | None = None
    model_id: str | None = None
    request: dict[str, Any] | None = None
    status: str | None = None
    job_id: str | None = None
    seed: int | None = None
    generation_time_s: float | None = None
    bytes: int | None = None
    reused: bool | None = None
    cost: str | None = None
    currency: str | None = None
    jobs: int | None = None
    saved: str | None = None
    counts: dict[str, int] | None = None
    manifest: str | None = None
    retry: str | None = None
    inputs_left_out: int | None = None


def operator_lineage(
    inputs: Iterable[str], outputs: Iterable[Output], facts: Mapping[str, Any]
) -> OperatorLineage[Dataset, RunFacet]:
    """What an operator's OpenLineage methods return."""
    known = {name: value for name, value in facts.items() if value is not None and value != {}}
    return OperatorLineage(
        inputs=[InputDataset(place.namespace, place.name) for place in map(uri_of, inputs) if place],
        outputs=[_output(output) for output in outputs],
        run_facets={FACET: ModelsLabRunFacet(**known)},
    )


def _output(output: Output) -> OutputDataset:
    place = uri_of(output.uri)
    assert place is not None  # noqa: S101 - an S3 URI always is
    if output.bytes is None:
        return OutputDataset(place.namespace, place.name)
    counted = OutputStatisticsOutputDatasetFacet(size=output.bytes, fileCount=output.files)
    return OutputDataset(place.namespace, place.name, outputFacets={"outputStatistics": counted})
