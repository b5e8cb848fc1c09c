"""Runs the code blocks of the Markdown pages, with Sybil."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import SkipTest

import yaml  # type: ignore[import-untyped]
from airflow.cli.cli_parser import get_parser
from airflow.sdk import DAG
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from airflow_provider_modelslab.testing import DagRunner
from tests.support.endpoint import running

ROOT = Path(__file__).resolve().parents[3]
DAY = datetime(2026, 11, 23, tzinfo=UTC)
_FILE = re.compile(r"# ((?:\w+/)*\w+\.py)\n")
_RUNS = re.compile(r"^ *```(python|console|yaml|ini)$", re.MULTILINE)


def pages() -> list[Path]:
    """The pages that have a block to run."""
    built = ROOT / "docs" / "_build"
    below = (path for path in sorted((ROOT / "docs").rglob("*.md")) if built not in path.parents)
    return [path for path in [*sorted(ROOT.glob("*.md")), *below] if _RUNS.search(path.read_text(encoding="utf-8"))]


def is_part_of_an_example(example: Example) -> bool:
    """Whether the block is a copy of a part of ``dags_examples/``, whose files other tests run as a whole."""
    before = example.document.text[: example.start]
    return before.rfind("<!-- generate: example ") > before.rfind("<!-- end generate -->")


@dataclass
class CodeBlocks:
    """Runs blocks as a reader would, with names of the pages replaced by what is there.

    :param folder: the working directory of started processes.
    :param replacements: texts of the pages and what they become.
    """

    folder: Path
    replacements: Mapping[str, str] = field(default_factory=dict)

    def parse(self, path: Path) -> Document:
        """A page as Sybil sees it."""
        parsers: list[Any] = [
            CodeBlockParser("python", self.python),
            CodeBlockParser("console", self.console),
            CodeBlockParser("yaml", lambda example: self._read(yaml.safe_load(example.parsed))),
            CodeBlockParser("ini", lambda example: configparser.ConfigParser().read_string(example.parsed)),
            SkipParser(),
        ]
        return Sybil(parsers, path=str(ROOT)).parse(path)

    def run(self, path: Path) -> None:
        """Run the blocks of a page in their order."""
        for example in self.parse(path).examples():
            try:
                example.evaluate()
            except SkipTest:
                continue
        if (self.folder / "conftest.py").exists():
            run_project(self.folder)

    def python(self, example: Example) -> None:
        """Run a block of Python; the tasks of the Dag that it makes are run as well.

        A block that begins with the name of a file is written to this file.
        """
        if is_part_of_an_example(example):
            return
        if named := _FILE.match(example.parsed):
            file = self.folder / named[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(example.parsed)
            return
        code = compile(self._replaced(example.parsed), f"{example.path}:{example.line}", "exec", dont_inherit=True)
        namespace = dict(example.namespace)
        exec(code, namespace)  # noqa: S102 - the project's own pages
        dag = namespace.get("dag")
        if isinstance(dag, DAG):
            done = DagRunner().run(dag, logical_date=DAY)
            assert all(done.result(task.task_id, task.map_index)["uri"].startswith("s3://") for task in done.tasks)

    def console(self, example: Example) -> None:
        """Run each command of a block; its exit code has to be 0."""
        for command in commands(self._replaced(example.parsed)):
            words = shlex.split(os.path.expandvars(command), comments=True)
            count = next(number for number, word in enumerate(words) if not re.match(r"\w+=", word))
            if words[count] == "airflow":
                self._airflow(words[count + 1 :])
            elif words[count : count + 3] == ["python", "-m", "airflow_provider_modelslab.endpoint"]:
                self._serve(words[count:])
            else:
                raise AssertionError(f"{command!r} is not run by the tests: say why with <!-- skip: next ... -->")

    def _replaced(self, text: str) -> str:
        for old, new in self.replacements.items():
            text = text.replace(old, new)
        return text

    def _read(self, value: object) -> None:
        assert value, "an empty block"

    def _airflow(self, words: list[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Airflow's commands use names that Airflow has deprecated
            code = _exit_code(words)
        assert code == 0, f"airflow {shlex.join(words)} ended with exit code {code}"

    def _serve(self, words: list[str]) -> None:
        """Start the endpoint with the flags of the page, at a free port and without torch."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        command = [*words[1:], "--port", "0", "--engine", "echo", "--ready-file", str(ready)]
        with running(command, ready):
            pass


def run_project(folder: Path) -> None:
    """Run the tests of a project, each of which has to pass."""
    command = [sys.executable, "-W", "error::pytest.PytestWarning", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", str(folder), str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    tests = sum(len(re.findall(r"^def test_", file.read_text(), re.MULTILINE)) for file in folder.glob("test_*.py"))
    assert re.search(rf"^{tests} passed in", done.stdout, re.MULTILINE), done.stdout + done.stderr


def commands(block: str) -> Iterator[str]:
    """The commands of a console block, each on one line."""
    for line in block.replace("\\\n", " ").splitlines():
        assert line.startswith("$ "), f"a console block has one command per line, after '$ '; got {line!r}"
        yield line.removeprefix("$ ")


def _exit_code(words: list[str]) -> int | str:
    try:
        args = get_parser().parse_args(words)
        args.func(args)
    except SystemExit as end:
        return end.code or 0
    return 0
