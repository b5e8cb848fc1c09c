"""What stands around the code: workflows, the registry's file, pins and the changelog, compared with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.version import Version

from airflow_provider_modelslab import __version__, get_provider_info
from tools.release.tag import problems

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    return found


def steps(job: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = job["steps"]
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_action_is_pinned_by_its_commit(path: Path) -> None:
    used = re.findall(r"uses: +(.+)", path.read_text())
    assert used
    assert [action for action in used if not PINNED.fullmatch(action.strip())] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_job_has_the_rights_it_names_and_an_end(path: Path) -> None:
    content = workflow(path.name)
    assert content["permissions"] == {}
    for job in content["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert job["permissions"]
        writes = {right for right, kind in job["permissions"].items() if kind == "write"}
        assert writes <= {"id-token", "attestations"}
        # Where code of the repository runs, nothing may be written; where something may be, none of it runs.
        assert not (writes and any("run" in step for step in steps(job)))
        for step in steps(job):
            if "actions/checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False
            # What others can choose the text of (titles, branches, tags) reaches a shell as a variable only.
            assert "${{" not in step.get("run", "")


def test_one_version_of_an_action_everywhere() -> None:
    used = {line.strip() for path in WORKFLOWS for line in re.findall(r"uses: +(.+)", path.read_text())}
    names = [action.split("@")[0] for action in used]
    assert len(names) == len(set(names))


def test_the_matrix_is_what_the_package_claims() -> None:
    matrix = workflow("ci.yml")["jobs"]["versions"]["strategy"]["matrix"]
    claimed = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    assert matrix["python"] == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"
    [airflow] = [Requirement(text) for text in PROJECT["dependencies"] if Requirement(text).name == "apache-airflow"]
    versions = [Version(text) for text in matrix["airflow"]]
    assert str(airflow.specifier) == f"<4,>={versions[0]}"
    # Each one, up to the newest that the README names; that of constraints.txt is among them.
    newest = Version(re.search(r"Airflow 3\.1 to (3\.\d+)", (ROOT / "README.md").read_text())[1])  # type: ignore[index]
    assert versions == [Version(f"3.{minor}") for minor in range(versions[0].minor, newest.minor + 1)]
    assert Version(pins("constraints.txt")["apache-airflow"]).release[:2] in {one.release for one in versions}


def test_a_release_is_built_once_and_published_without_a_token() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert [name for name, job in jobs.items() if "tools.release.dist" in str(job)] == ["build"]
    publish = jobs["publish"]
    assert publish["environment"]["name"] == "pypi"
    assert publish["permissions"] == {"id-token": "write"}
    assert set(publish["needs"]) == {"build", "attest"}
    [upload] = [step for step in steps(publish) if "pypi-publish" in step["uses"]]
    assert upload["with"] == {"attestations": True}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_oldest_pins_are_the_floors() -> None:
    # The lowest that resolves: some requirements of others are higher than ours (Airflow's providers', as a rule).
    pinned = pins("constraints-oldest.txt")
    at_their_floor = set()
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert pinned[requirement.name] in requirement.specifier
        floors = [Version(part.version).release[:2] for part in requirement.specifier if part.operator == ">="]
        if Version(pinned[requirement.name]).release[:2] in floors:
            at_their_floor.add(requirement.name)
    assert at_their_floor >= {
        "apache-airflow",
        "apache-airflow-providers-amazon",
        "apache-airflow-providers-common-compat",
        "pydantic",
        "requests",
        "yarl",
    }


def test_the_registry_is_told_of_all_modules() -> None:
    told = yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text())
    info: dict[str, Any] = get_provider_info()
    assert told["package-name"] == PROJECT["name"] == info["package-name"]
    assert told["display-name"] == info["name"]
    assert told["python-versions"] == PROJECT["requires-python"]
    assert told["connection-types"] == [kind["connection-type"] for kind in info["connection-types"]]
    for part, modules in told["modules"].items():
        assert modules == [module for entry in info[part] for module in entry["python-modules"]]


@pytest.mark.parametrize(
    ("tag", "changelog", "count"),
    [
        ("v1.2.3", "# Changelog\n\n## 1.2.3 - 2026-11-23\n", 0),
        ("v1.2.3", "# Changelog\n\n## [1.2.3] - 2026-11-23\n", 0),
        ("v1.2.3", "# Changelog\n\n## 1.2.3 - unreleased\n", 1),
        ("v1.2.4", "# Changelog\n\n## 1.2.3 - 2026-11-23\n", 1),
        ("1.2.3", "# Changelog\n\n## 1.2.30 - 2026-11-23\n", 2),
    ],
)
def test_which_tags_may_be_published(tag: str, changelog: str, count: int) -> None:
    assert len(problems(tag, version="1.2.3", changelog=changelog)) == count


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections
    for section in sections:
        assert re.fullmatch(r"Unreleased|\[?\d+\.\d+\.\d+\S*\]? - (unreleased|\d{4}-\d\d-\d\d)", section), section
    assert any(__version__ in section for section in sections)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
