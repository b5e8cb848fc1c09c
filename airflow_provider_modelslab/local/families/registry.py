"""All families, and which of them runs a model."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_modelslab.local.families.animatediff.family import AnimateDiff
from airflow_provider_modelslab.local.families.base import Family
from airflow_provider_modelslab.local.families.cogvideox import CogVideoX
from airflow_provider_modelslab.local.families.wan import Wan
from airflow_provider_modelslab.local.models.inspection import (
    HOW_TO_ADD,
    HOW_TO_SPLIT,
    check_no_code,
    problem,
    read_json,
    weights_in,
)
from airflow_provider_modelslab.local.models.specs import ModelEntry, ModelSpec

__all__ = ["BUILTIN_MODELS", "FAMILIES", "family_of", "read_model"]

FAMILIES: Mapping[str, Family] = {family.name: family for family in (AnimateDiff(), Wan(), CogVideoX())}
"""The families by name."""

BUILTIN_MODELS: Mapping[str, ModelEntry] = {entry.id: entry for family in FAMILIES.values() for entry in family.models}
"""The built-in models by id."""

_BY_PIPELINE = {pipeline: family for family in FAMILIES.values() for pipeline in family.pipelines}


def family_of(spec: ModelSpec) -> Family:
    """The family that runs a model."""
    return FAMILIES[spec.family]


def read_model(entry: ModelEntry, *, allow_pickle: bool, weights: bool = True) -> ModelSpec:
    """The model of a catalog entry, by what its folder says.

    :param entry: with its folder on this machine.
    :param weights: whether the weights have to be there, and of a kind that may be read.
    :raises InvalidRequestError: for ``model_id``, when the folder cannot be used.
    """
    folder = entry.source.path
    if folder is None:
        raise ValueError(f"{entry.id} is not on this machine yet")
    if folder.is_file():
        raise problem(f"{folder} is a checkpoint in one file; {HOW_TO_SPLIT}")
    index = read_json(folder / "model_index.json")
    kind = index.get("_class_name")
    family = _BY_PIPELINE.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise problem(f"{folder} contains a {kind}; only {', '.join(_BY_PIPELINE)} are supported: {HOW_TO_ADD}")
    if entry.family not in (None, family.name):
        raise problem(f"{folder} contains a {kind} of the family {family.name}, but the catalog says {entry.family}")
    check_no_code(folder, index)
    if weights:
        for part in sorted(family.parts(index)):
            weights_in(folder / part, allow_pickle=allow_pickle)
    return family.read(family.spec(entry), index)
