"""What would be published: the same bytes each time, whole, and with its bill of materials."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from airflow_provider_modelslab import __version__
from tools.release.dist import Distributions

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "airflow_provider_modelslab"
INFO = f"airflow_provider_modelslab-{__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(distributions: Distributions) -> zipfile.ZipFile:
    return zipfile.ZipFile(distributions.wheel)


@pytest.fixture(scope="module")
def bill(wheel: zipfile.ZipFile) -> dict[str, Any]:
    [name] = [name for name in wheel.namelist() if "/sboms/" in name]
    assert name == f"{INFO}/sboms/airflow-provider-modelslab.cdx.json"  # where PEP 770 puts it
    found: dict[str, Any] = json.loads(wheel.read(name))
    return found


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_second_build_gives_the_same_bytes(distributions: Distributions, tmp_path: Path) -> None:
    # From the sdist in another folder, at another time: the wheel depends on neither, nor on what the sdist left out.
    with tarfile.open(distributions.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [tree] = tmp_path.iterdir()
    for path in tree.rglob("*.py"):
        os.utime(path, (1, 1))
    build = [sys.executable, "-m", "build", "--outdir", str(tmp_path / "again"), str(tree)]
    with_bill = {**os.environ, "HATCH_BUILD_HOOK_ENABLE_CUSTOM": "true"}
    subprocess.run(build, check=True, capture_output=True, env=with_bill)
    for first in (distributions.sdist, distributions.wheel):
        assert sha256(tmp_path / "again" / first.name) == sha256(first)


def test_the_wheel_is_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    tops = {name.split("/", 1)[0] for name in names}
    assert tops == {"airflow_provider_modelslab", INFO}
    packed = {name for name in names if name.startswith("airflow_provider_modelslab/")}
    ignored = ("__pycache__",)
    there = {
        f"airflow_provider_modelslab/{path.relative_to(PACKAGE).as_posix()}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and not set(path.parts) & set(ignored)
    }
    assert packed == there
    assert "airflow_provider_modelslab/py.typed" in packed


def test_the_bill_is_valid_cyclonedx(bill: dict[str, Any]) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None


def test_the_bill_lists_what_is_declared(bill: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert bill["metadata"]["component"]["purl"] == f"pkg:pypi/airflow-provider-modelslab@{__version__}"
    told = {part["name"]: part["scope"] for part in bill["components"] if part["type"] == "library"}
    required = {Requirement(text).name for text in project["dependencies"]}
    optional = {Requirement(text).name for texts in project["optional-dependencies"].values() for text in texts}
    optional -= {project["name"]}  # an extra that takes another one in
    assert told == dict.fromkeys(optional, "optional") | dict.fromkeys(required, "required")


def test_the_bill_knows_the_weights_that_are_packed(bill: dict[str, Any], wheel: zipfile.ZipFile) -> None:
    told = {
        part["name"]: part["hashes"][0]["content"]
        for part in bill["components"]
        if part["type"] == "machine-learning-model"
    }
    weights = [name for name in wheel.namelist() if name.endswith(".safetensors")]
    assert weights
    assert told == {name: hashlib.sha256(wheel.read(name)).hexdigest() for name in weights}


def test_what_is_not_well_formed_is_not_published(distributions: Distributions, tmp_path: Path) -> None:
    bad = tmp_path / distributions.wheel.name
    with zipfile.ZipFile(distributions.wheel) as good, zipfile.ZipFile(bad, "w") as copy:
        for name in good.namelist():
            if not name.endswith("METADATA"):
                copy.writestr(name, good.read(name))
    shutil.copy(distributions.sdist, tmp_path)
    check = [sys.executable, "-m", "twine", "check", "--strict", *map(str, tmp_path.iterdir())]
    assert subprocess.run(check, capture_output=True, check=False).returncode != 0
