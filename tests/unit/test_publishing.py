"""What stands around the code: workflows, the registry's file, pins and the changelog, compared with pyproject.toml."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.version import Version

from airflow_provider_modelslab import __version__, get_provider_info
from tools.release.notes import notes
from tools.release.ready import main as ready
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
        assert writes <= {"id-token", "attestations", "contents"}
        # Where code of the repository runs, nothing may be written; where something may be, none of it is there.
        assert not (writes and any("actions/checkout@" in step.get("uses", "") for step in steps(job)))
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
    assert matrix["python"] == [*claimed, "3.14"]  # which is claimed once it has passed
    assert PROJECT["requires-python"] == f">={claimed[0]}"
    [airflow] = [Requirement(text) for text in PROJECT["dependencies"] if Requirement(text).name == "apache-airflow"]
    versions = [Version(text) for text in matrix["airflow"]]
    assert str(airflow.specifier) == f"<4,>={versions[0]}"
    # Each one, up to the newest that the README names; that of constraints.txt is among them.
    newest = Version(re.search(r"Airflow 3\.1 to (3\.\d+)", (ROOT / "README.md").read_text())[1])  # type: ignore[index]
    assert versions == [Version(f"3.{minor}") for minor in range(versions[0].minor, newest.minor + 1)]
    ours = Version(pins("constraints.txt")["apache-airflow"]).release[:2]
    assert ours in {one.release for one in versions}
    # The others have complete pins, of that version.
    for version in versions:
        if version.release != ours:
            pinned = pins(f"tools/compat/pins-{version}.txt")
            assert {"apache-airflow-providers-amazon", "pytest", "moto"} <= set(pinned)
            assert Version(pinned["apache-airflow"]).release[:2] == version.release


def test_the_docs_name_each_supported_airflow_and_python() -> None:
    text = (ROOT / "docs" / "reference" / "versions.md").read_text()
    matrix = workflow("ci.yml")["jobs"]["versions"]["strategy"]["matrix"]
    claimed = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    assert re.findall(r"^\| Airflow (3\.\d+) \|", text, re.MULTILINE) == matrix["airflow"]
    assert re.findall(r"^\| Python (3\.\d+) \|", text, re.MULTILINE) == claimed


def test_each_week_runs_what_a_push_does_not() -> None:
    jobs = workflow("weekly.yml")["jobs"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    parts = set(jobs["parts"]["strategy"]["matrix"]["part"])
    assert parts == {"celery", "edge", "kubernetes", "radosgw", "test-slow"}
    assert parts <= targets
    assert jobs["newest"]["strategy"]["matrix"]["airflow"] == ["3.2", "3.3", "3.4"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_workflow_downloads_cuda(path: Path) -> None:
    installs = re.search(r"make (install|lint|docs|\"\$PART)", path.read_text())
    assert not installs or workflow(path.name)["env"]["TORCH_INDEX"] == "https://download.pytorch.org/whl/cpu"


def output(program: str, *arguments: str, **env: str) -> str:
    """What a program prints."""
    command = [str(shutil.which(program)), *arguments]
    return subprocess.run(command, env={**os.environ, **env}, stdout=PIPE, text=True, check=True).stdout


def test_torch_comes_from_the_index_that_is_named(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def torch(**env: str) -> list[str]:
        printed = output("make", "--directory", str(tmp_path), "--dry-run", "install", **env)
        [line] = [line for line in printed.splitlines() if line.endswith(" torch")]
        return line.split()

    assert "--index-url" not in torch()
    named = torch(TORCH_INDEX="https://host/cpu")
    # Without its requirements: that index has not all of them in the versions of constraints.txt.
    assert {"--index-url", "https://host/cpu", "--no-deps"} <= set(named)


def test_make_says_what_it_downloads_and_how_large_it_is(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    printed = output("make", "--directory", str(tmp_path), "--dry-run", "demo")
    said = [line for line in printed.splitlines() if line.startswith("echo")]
    assert len([line for line in said if re.search(r"about [\d.]+ GB", line)]) == 3  # in all, and each part
    pip = [line for line in printed.splitlines() if "pip install" in line and "--upgrade" not in line]
    assert [line for line in pip if "--progress-bar on" not in line] == []


def test_a_release_is_built_once_and_published_without_a_token() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert jobs["build"]["needs"] == "ready"
    assert "tools.release.ready" in str(jobs["ready"])
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
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {one.name: str(one.specifier).removeprefix("==") for one in wanted}


def test_the_oldest_pins_are_the_floors() -> None:
    # The lowest that resolves: some requirements of others are higher than ours (Airflow's providers', as a rule).
    pinned = pins("tools/compat/pins-3.1.txt")
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


CHANGELOG = """
# Changelog

Words.

## 1.2.30 - unreleased

New.

## [1.2.3] - 2026-11-23

### Added

- It.

## 1.2 - 2026-11-22
"""


@pytest.mark.parametrize(("version", "text"), [("1.2.30", "New.\n"), ("1.2.3", "### Added\n\n- It.\n")])
def test_the_notes_of_a_release_are_its_section_of_the_changelog(version: str, text: str) -> None:
    assert notes(version, CHANGELOG) == text


def test_a_version_without_a_section_has_no_notes() -> None:
    with pytest.raises(LookupError):
        notes("1.2.31", CHANGELOG)


def test_this_version_has_notes() -> None:
    assert notes(__version__, (ROOT / "CHANGELOG.md").read_text())


def run_of(status: str, conclusion: str = "") -> dict[str, str]:
    return {"status": status, "conclusion": conclusion}


@pytest.mark.parametrize(
    ("runs", "fine"),
    [
        ([run_of("completed", "success")], True),
        ([run_of("completed", "success"), run_of("completed", "failure")], True),  # run again
        ([run_of("completed", "failure"), run_of("completed", "success")], False),
        ([run_of("completed", "cancelled")], False),
        ([run_of("in_progress"), run_of("completed", "success")], False),
        ([], False),
    ],
)
@pytest.mark.parametrize("on_main", [True, False])
def test_a_commit_is_released_if_it_is_on_main_and_ci_has_passed(
    runs: list[dict[str, str]], fine: bool, on_main: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    git = functools.partial(output, "git", "-c", "user.name=n", "-c", "user.email=n@example.com")
    git("init", "--quiet", "--initial-branch", "main")
    git("commit", "--quiet", "--allow-empty", "--message", "one")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    if not on_main:
        git("commit", "--quiet", "--allow-empty", "--message", "two")
    commit = git("rev-parse", "HEAD").strip()
    gh = tmp_path / "gh"
    gh.write_text(f"#!/bin/sh\necho \"$@\" > asked\necho '{json.dumps(runs)}'\n")
    gh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert ready(commit) == (0 if fine and on_main else 1)
    assert f"--commit {commit}" in Path("asked").read_text()


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections
    for section in sections:
        assert re.fullmatch(r"Unreleased|\[?\d+\.\d+\.\d+\S*\]? - (unreleased|\d{4}-\d\d-\d\d)", section), section
    assert any(__version__ in section for section in sections)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
