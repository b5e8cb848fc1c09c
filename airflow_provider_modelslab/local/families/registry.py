"""Which family runs a model."""

from __future__ import annotations

from airflow_provider_modelslab.local.families.animatediff.family import AnimateDiff
from airflow_provider_modelslab.local.families.base import Family
from airflow_provider_modelslab.local.families.wan import Wan
from airflow_provider_modelslab.local.models.specs import ANIMATEDIFF, ModelSpec

__all__ = ["family_of"]

_FAMILIES: dict[str, type[Family]] = {family.name: family for family in (AnimateDiff, Wan)}


def family_of(spec: ModelSpec) -> Family:
    """The family that runs a model; AnimateDiff's before that is known."""
    return _FAMILIES[spec.family or ANIMATEDIFF]()
