"""OpenLineage's own types. Imported only if its provider is installed, when it calls an operator for facets."""

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
    """How a video was made, with the field names of the task's manifest. Unknown fields are left out.

    :param conn_id: the Airflow connection.
    :param model_id: the checkpoint.
    :param request: the attributes that were given.
    :param status: ``landed``, ``finished`` or ``submitted``; missing until the task has ended.
    :param job_id: the endpoint's id of the job, or ``local-...``.
    :param seed: the effective seed.
    :param generation_time_s: seconds of generation, as reported by the endpoint.
    :param bytes: the size of the landed results.
    :param reused: whether all results had landed before, so that nothing was generated.
    :param cost: the cost of the jobs that made the results, as text.
    :param currency: the currency of the cost.
    :param jobs: for a batch: the number of jobs that were paid for.
    :param saved: for a batch: today's price of the results that had landed before, as text.
    :param counts: for a batch: ``found``, ``landed``, ``skipped``, ``failed``, ``pending``.
    :param manifest: for a batch: the object with one line for each clip.
    :param retry: for a batch: the object that names the clips to try again.
    :param inputs_left_out: for a batch: the number of clips that the event does not name.
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
    """The return value of an operator's OpenLineage methods."""
    known = {name: value for name, value in facts.items() if value is not None and value != {}}
    return OperatorLineage(
        inputs=[InputDataset(uri.namespace, uri.name) for uri in map(uri_of, inputs) if uri],
        outputs=[_output(output) for output in outputs],
        run_facets={FACET: ModelsLabRunFacet(**known)},
    )


def _output(output: Output) -> OutputDataset:
    uri = uri_of(output.uri)
    assert uri is not None  # noqa: S101 - an S3 URI always is
    if output.bytes is None:
        return OutputDataset(uri.namespace, uri.name)
    counted = OutputStatisticsOutputDatasetFacet(size=output.bytes, fileCount=output.files)
    return OutputDataset(uri.namespace, uri.name, outputFacets={"outputStatistics": counted})
