"""``python -m tools.release.check_wheel [WHEEL]``: the wheel, where nothing else is installed.

A new virtual environment gets the wheel with the pins of ``constraints.txt`` and nothing else; then Airflow's own
commands must tell of everything that the provider brings. Without an argument the wheel is built first. What must be
there is written out here, and compared with the wheel's ``get_provider_info``: neither may lack what the other has.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.release.dist import build

__all__ = ["Expected", "Installed", "check", "main"]

ROOT = Path(__file__).resolve().parents[2]
DIST = "airflow-provider-modelslab"


@dataclass(frozen=True)
class Expected:
    """What people find in an Airflow with the provider."""

    connection_type: str = "modelslab"
    links: frozenset[str] = frozenset({"ModelsLabJobLink", "ModelsLabManifestLink"}) | {
        "ModelsLabResultLink",
        "ModelsLabSourceLink",
    }
    trigger_modules: frozenset[str] = frozenset({"batch", "video2video"})
    decorators: frozenset[str] = frozenset({"modelslab_video2video", "modelslab_video2video_batch"}) | {
        "modelslab_local_video2video",
        "modelslab_local_video2video_batch",
    }
    plugins: frozenset[str] = frozenset({"modelslab_gallery", "modelslab_media", "modelslab_webhook"})
    commands: frozenset[str] = frozenset({"check", "clean", "land", "ledger", "server", "show", "submit"})


class Installed:
    """A new environment with the wheel in it.

    :param folder: an empty one.
    :raises subprocess.CalledProcessError: when pip fails; its output is on this process's.
    """

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder / "venv", with_pip=True)
        self._bin = folder / "venv" / "bin"
        # Nothing of this checkout is importable, and nothing of the user's Airflow is read.
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "PYTHON"))}
        self._env |= {"AIRFLOW_HOME": str(folder / "home"), "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}"}
        self._folder = folder
        pip = [str(self._bin / "python"), "-m", "pip", "--disable-pip-version-check"]
        constraints = str(ROOT / "constraints.txt")
        subprocess.run([*pip, "install", "-qq", "-c", constraints, str(wheel)], check=True, cwd=folder, env=self._env)
        subprocess.run([*pip, "check"], check=True, cwd=folder, env=self._env, stdout=sys.stderr)

    def run(self, *command: str) -> str:
        """What a command of the environment prints."""
        done = subprocess.run(
            [str(self._bin / command[0]), *command[1:]], cwd=self._folder, env=self._env, capture_output=True, text=True
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout

    def rows(self, *command: str) -> list[dict[str, Any]]:
        """The rows that ``airflow <command> -o json`` prints, whatever it logs before them."""
        printed = self.run("airflow", *command, "-o", "json")
        rows: list[dict[str, Any]] = json.loads(printed[printed.index("[{") :])
        return rows


def check(here: Installed, expected: Expected | None = None) -> list[str]:
    """What is missing or wrong, in words; empty when all is well."""
    expected = expected or Expected()
    problems: list[str] = []

    def same(what: str, found: object, wanted: object) -> None:
        if found != wanted:
            problems.append(f"{what}: {found!r} where {wanted!r} was expected")

    info = here.rows("providers", "get", DIST, "--full")[0]
    same("providers list", [r["package_name"] for r in here.rows("providers", "list")].count(DIST), 1)
    kinds = [r["connection_type"] for r in here.rows("providers", "hooks") if r["package_name"] == DIST]
    same("providers hooks", kinds, [expected.connection_type])
    shown = {r["field_behaviours"] for r in here.rows("providers", "behaviours")}
    same("providers behaviours", expected.connection_type in shown, True)
    prefix = f"extra__{expected.connection_type}__"
    names = {r["connection_parameter_name"] for r in here.rows("providers", "widgets")}
    fields = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    same("providers widgets", fields, set(info["connection-types"][0]["conn-fields"]))
    links = [r["extra_link_class_name"] for r in here.rows("providers", "links")]
    ours = {name for name in links if name.startswith("airflow_provider_modelslab.")}
    same("providers links", {name.rpartition(".")[2] for name in ours}, set(expected.links))
    same("extra-links", ours, set(info["extra-links"]))
    triggers = {r["class"] for r in here.rows("providers", "triggers") if r["package_name"] == DIST}
    same("providers triggers", triggers, {f"airflow_provider_modelslab.triggers.{m}" for m in expected.trigger_modules})
    plugins = {r["name"] for r in here.rows("plugins")}
    same("plugins", expected.plugins - plugins, frozenset())
    same("plugins in the metadata", {p["name"] for p in info["plugins"]}, set(expected.plugins))
    same("task-decorators", {d["name"] for d in info["task-decorators"]}, set(expected.decorators))
    printed = here.run("airflow", "modelslab", "--help")
    listed = {line.split()[0] for line in printed.splitlines() if line.startswith("    ") and line.strip()}
    same("airflow modelslab --help", expected.commands - listed, frozenset())
    problems += _imports(here, info, expected)
    return problems


def _imports(here: Installed, info: dict[str, Any], expected: Expected) -> list[str]:
    """Everything that the metadata names is imported, each decorator is made, and torch is not there to help."""
    parts = ("hooks", "operators", "sensors", "triggers")
    modules = [module for part in parts for entry in info[part] for module in entry["python-modules"]]
    program = (
        "import importlib, importlib.util\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        "from airflow.sdk import task\n"
        f"for name in {sorted(expected.decorators)!r}: assert callable(getattr(task, name)), name\n"
        "assert importlib.util.find_spec('torch') is None\n"
        "import airflow_provider_modelslab; print(airflow_provider_modelslab.__file__)\n"
    )
    place = here.run("python", "-c", program).splitlines()[-1]
    return [] if "site-packages" in place else [f"imported from {place}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 when nothing is missing."""
    parser = argparse.ArgumentParser(prog="tools.release.check_wheel", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("wheel", nargs="?", type=Path, help="built from the tree when left out")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="check-wheel-") as name:
        folder = Path(name)
        wheel = given.wheel.resolve() if given.wheel else build(folder / "dist").wheel
        problems = check(Installed(folder, wheel))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{wheel.name}: {'not whole' if problems else 'whole'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
