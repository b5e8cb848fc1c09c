"""Puts a CycloneDX 1.6 bill of materials into the wheel, at ``<name>.dist-info/sboms/`` (PEP 770).

It says what the package declares, not what happens to be installed where it is built: each requirement with its range,
those of the extras as optional, and the model weights that lie in the wheel, with their SHA-256. It holds no time but
the one of ``SOURCE_DATE_EPOCH`` (or hatchling's stand-in for it), so that two builds give the same bytes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.utils import get_reproducible_timestamp
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["SbomHook", "bill_of_materials"]


class SbomHook(BuildHookInterface[Any]):
    """Hatchling calls it before it packs a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the bill and name it to hatchling; an editable install, which packs nothing, gets none."""
        if version == "editable":
            return
        core = self.metadata.core
        text = bill_of_materials(
            core.name,
            self.metadata.version,
            license_expression=core.license_expression,
            requirements=core.dependencies,
            extras=core.optional_dependencies,
            weights=sorted(Path(self.root, "airflow_provider_modelslab").rglob("*.safetensors")),
            root=Path(self.root),
            timestamp=get_reproducible_timestamp(),
        )
        self._folder = tempfile.TemporaryDirectory(prefix="sbom-")
        file = Path(self._folder.name, f"{core.name}.cdx.json")
        file.write_text(text + "\n", encoding="utf-8")
        build_data["sbom_files"].append(str(file))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what :meth:`initialize` wrote."""
        if version != "editable":
            self._folder.cleanup()


def bill_of_materials(
    name: str,
    version: str,
    *,
    license_expression: str,
    requirements: Iterable[str],
    extras: Mapping[str, Iterable[str]],
    weights: Iterable[Path],
    root: Path,
    timestamp: int,
) -> str:
    """The bill as JSON.

    :param requirements: in the form of PEP 508, as are those of ``extras``.
    :param weights: files below ``root`` that go into the wheel.
    :param timestamp: seconds since 1970, UTC.
    """
    subject = Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}@{version}",
        purl=PackageURL("pypi", name=name, version=version),
        licenses=[LicenseExpression(license_expression)],
    )
    needed = _components(requirements, None)
    parts = list(needed.values())
    for extra, names in extras.items():
        optional = _components(names, extra)
        parts += [part for key, part in optional.items() if key not in {known.name for known in parts}]
    for path in weights:
        place = path.relative_to(root).as_posix()
        digest = HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(path.read_bytes()).hexdigest())
        model = ComponentType.MACHINE_LEARNING_MODEL
        parts.append(Component(name=place, type=model, bom_ref=f"file:{place}", hashes=[digest]))
    bom = Bom(components=parts, serial_number=uuid5(NAMESPACE_URL, f"{subject.purl}"))
    bom.metadata.timestamp = datetime.fromtimestamp(timestamp, UTC)
    bom.metadata.component = subject
    bom.register_dependency(subject, parts)
    return JsonV1Dot6(bom).output_as_string(indent=2)


def _components(requirements: Iterable[str], extra: str | None) -> dict[str, Component]:
    """By name; a range is no version, so it is told as a property."""
    found = {}
    for text in requirements:
        requirement = Requirement(text)
        name = str(canonicalize_name(requirement.name))
        told = [Property(name="requirement", value=f"{name}{requirement.specifier}")]
        if extra:
            told.append(Property(name="extra", value=extra))
        found[name] = Component(
            name=name,
            type=ComponentType.LIBRARY,
            bom_ref=f"pypi:{name}",
            purl=PackageURL("pypi", name=name),
            scope=ComponentScope.OPTIONAL if extra else ComponentScope.REQUIRED,
            properties=told,
        )
    return found
