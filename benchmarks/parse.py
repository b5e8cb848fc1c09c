"""What parsing a Dag costs because of this provider: the Dag processor does it for each file, again and again.

    python -m benchmarks.parse --json benchmarks/results/parse.json

Each module and each example Dag is loaded in fresh interpreters that have imported ``airflow.sdk`` before the clock
starts, beside operators of the OpenAI and Amazon providers, turn by turn, so that a busy moment hits all of them. What
counts is CPU time (user and system), since other processes lengthen the wall clock. ``a Dag of Airflow alone`` is a Dag
with params, one operator and one ``@task`` and nothing of any provider but ``standard``: what no Dag gets below.

The exit code is 1 when the median of an example Dag is above 60 ms, that of the package above 20 ms (every Airflow
process imports it, to learn what it offers), or when anything of ours has loaded torch.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_modelslab import get_provider_info
from benchmarks.report import about, add_json_option, print_table, write_json

__all__ = ["HEAVY", "Program", "Sample", "Taken", "find_programs", "measure", "too_dear"]

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "dags_examples"
PACKAGE = "airflow_provider_modelslab"

ALLOWED_MS = {"package": 20.0, "example Dag": 60.0}
"""By kind of program, the CPU milliseconds over ``import airflow.sdk`` that its median may take."""

OURS = ("package", "operators", "sensors", "decorators", "links", "cli", "plugins", "example Dag")
"""The kinds of programs that are this provider's. Dags load the operators, sensors and decorators; the API server the
links and plugins; each ``airflow`` command what is named as ``cli``."""

HEAVY = (
    *("torch", "diffusers", "transformers", "numpy", "pandas", "av", "PIL"),
    *("requests", "botocore", "boto3", "aiohttp", "openai", "fastapi", "sqlalchemy"),
)
"""Packages that a Dag has no need of; the table names those that ``airflow.sdk`` had not loaded by itself."""

OTHERS = (
    "airflow.providers.openai.operators.openai",
    "airflow.providers.amazon.aws.operators.s3",
    "airflow.providers.amazon.aws.operators.batch",
    "airflow.providers.amazon.aws.sensors.s3",
)

AIRFLOW_ALONE = """
from airflow.sdk import DAG, BaseOperator, Param, task

class Operator(BaseOperator):
    def execute(self, context):
        return 1

with DAG("airflow_alone", schedule=None, params={"a": Param("x", type="string"), "b": Param(1, type="integer")}):
    @task
    def use(value):
        return value

    use(Operator(task_id="make").output)
"""

_PROBE = """
import sys, time
import airflow.sdk
before = set(sys.modules)
wall, cpu = time.perf_counter(), time.process_time()
{program}
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
import json
loaded = set(sys.modules) - before - {{"json"}}
heavy = [name for name in {heavy!r} if name in loaded]
print("\\n" + json.dumps({{"cpu": cpu * 1000, "wall": wall * 1000, "modules": len(loaded), "heavy": heavy}}))
"""

# Airflow, told to look for providers, has loaded it already.
_LOAD_PACKAGE = """
import sys
for name in [name for name in sys.modules if name.startswith({package!r})]:
    del sys.modules[name]
import {package}
{package}.get_provider_info()
"""

# As the Dag processor does it.
_LOAD_DAG = """
import importlib.machinery, importlib.util, sys
loader = importlib.machinery.SourceFileLoader("unusual_prefix_of_a_dag", {path!r})
module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
sys.modules[loader.name] = module
loader.exec_module(module)
"""


@dataclass(frozen=True)
class Program:
    """Something to load.

    :param kind: whose it is and what, see :data:`OURS`.
    :param text: what is run after ``import airflow.sdk``.
    """

    name: str
    kind: str
    text: str


@dataclass(frozen=True)
class Sample:
    """One load. ``cpu`` and ``wall`` are milliseconds over ``import airflow.sdk``, ``modules`` how many it added."""

    cpu: float
    wall: float
    modules: int
    heavy: list[str]


@dataclass
class Taken:
    """All loads of one program."""

    program: Program
    samples: list[Sample] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        """The median, in milliseconds."""
        return statistics.median(sample.cpu for sample in self.samples)

    @property
    def least(self) -> float:
        """The least CPU of all, in milliseconds: what it takes when nothing else runs."""
        return min(sample.cpu for sample in self.samples)

    @property
    def wall(self) -> float:
        """The median, in milliseconds."""
        return statistics.median(sample.wall for sample in self.samples)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say by the exit code whether all stay within what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interpreters started for each of them (default 5)")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="only those whose name holds one of these texts")
    add_json_option(parser)
    given = parser.parse_args(arguments)

    wanted = given.only or [""]
    programs = [program for program in find_programs() if any(text in program.name for text in wanted)]
    results = measure(programs, given.rounds)
    rows: list[list[float | str]] = [
        [
            result.program.name,
            result.program.kind,
            result.cpu,
            result.least,
            result.wall,
            str(result.samples[0].modules).rjust(7),
            ", ".join(result.samples[0].heavy),
        ]
        for result in results
    ]
    columns = ["loaded", "kind", "CPU ms", "least", "wall ms", "modules", "heavy packages"]
    print_table(f"Milliseconds over `import airflow.sdk`, medians of {given.rounds}", columns, rows)
    write_json(given.json, {**about("parse", arguments), **_figures(results, given.rounds)})
    findings = too_dear(results)
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1 if findings else 0


def find_programs() -> Iterator[Program]:
    """Everything there is to load, in the order of the table; other providers only where they are installed."""
    yield Program("a Dag of Airflow alone", "Airflow", AIRFLOW_ALONE)
    yield Program(PACKAGE, "package", _LOAD_PACKAGE.format(package=PACKAGE))
    info: dict[str, Any] = get_provider_info()
    for kind, names in _modules(info).items():
        for module in dict.fromkeys(names):
            yield Program(module, kind, f"import {module}")
    for path in sorted(EXAMPLES.glob("*.py")):
        yield Program(f"{EXAMPLES.name}/{path.name}", "example Dag", _LOAD_DAG.format(path=str(path)))
    for module in OTHERS:
        provider = ".".join(module.split(".")[:3])
        if importlib.util.find_spec(provider):
            yield Program(module, provider.removeprefix("airflow.providers."), f"import {module}")


def _modules(info: Mapping[str, Any]) -> dict[str, list[str]]:
    """The modules that Airflow's processes import for what the provider offers, by :data:`OURS`."""
    parts = ("operators", "sensors")
    named = {
        "decorators": [entry["class-name"] for entry in info.get("task-decorators", ())],
        "links": info.get("extra-links", ()),
        "cli": info.get("cli", ()),
        "plugins": [entry["plugin-class"] for entry in info.get("plugins", ())],
    }
    return {
        **{part: [name for entry in info[part] for name in entry["python-modules"]] for part in parts},
        **{kind: [name.rpartition(".")[0] for name in names] for kind, names in named.items()},
    }


def measure(programs: Sequence[Program], rounds: int) -> list[Taken]:
    """Load each of them in so many fresh interpreters, turn by turn."""
    results = [Taken(program) for program in programs]
    with tempfile.TemporaryDirectory(prefix="modelslab-parse-") as home:
        # Bytecode is kept, as it is where a package is installed; the first time writes it and does not count.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["AIRFLOW_HOME"] = home
        for program in programs:
            _load(program, environment)
        for _ in range(rounds):
            for result in results:
                result.samples.append(_load(result.program, environment))
    return results


def too_dear(results: Sequence[Taken]) -> list[str]:
    """What is wrong, as sentences: more CPU than :data:`ALLOWED_MS`, or torch."""
    findings = []
    for result in results:
        name, allowed = result.program.name, ALLOWED_MS.get(result.program.kind)
        if allowed is not None and result.cpu > allowed:
            findings.append(f"{name} takes {result.cpu:.1f} ms over airflow.sdk; allowed are {allowed:.0f} ms")
        if result.program.kind in OURS and any("torch" in sample.heavy for sample in result.samples):
            findings.append(f"{name} has loaded torch")
    return findings


def _load(program: Program, environment: Mapping[str, str]) -> Sample:
    """Load it once in an interpreter of its own."""
    text = _PROBE.format(program=program.text, heavy=HEAVY)
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program.name} cannot be loaded:\n{done.stderr}")
    return Sample(**json.loads(done.stdout.splitlines()[-1]))


def _figures(results: Sequence[Taken], rounds: int) -> dict[str, float | str | Mapping[str, float | str]]:
    return {
        "rounds": rounds,
        "ms_over_sdk": {result.program.name: round(result.cpu, 2) for result in results},
        "least_ms_over_sdk": {result.program.name: round(result.least, 2) for result in results},
        "wall_ms_over_sdk": {result.program.name: round(result.wall, 2) for result in results},
        "modules": {result.program.name: result.samples[0].modules for result in results},
        "heavy": {result.program.name: ", ".join(result.samples[0].heavy) for result in results},
    }


if __name__ == "__main__":
    sys.exit(main())
