"""The commands' definition: complete, and cheap to load."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.cli.cli_config import ActionCommand, GroupCommand
from airflow.cli.cli_parser import get_parser

from airflow_provider_modelslab import get_provider_info
from airflow_provider_modelslab.api.request import ATTRIBUTES
from airflow_provider_modelslab.cli import common
from airflow_provider_modelslab.cli.__main__ import main
from airflow_provider_modelslab.cli.definition import FLAGS, get_modelslab_cli_commands

EXIT_CODES = {0, common.FAILED, common.USAGE, common.RUNNING, common.UNKNOWN, common.INTERRUPTED}
COMMANDS = ["check", "clean", "land", "ledger", "plan", "server", "show", "submit"]
ACTIONS = ["check", "clean", "land", "plan", "resolve", "server", "show", "show", "submit"]


def test_the_provider_names_the_function_and_airflow_loads_it(capsys: pytest.CaptureFixture[str]) -> None:
    function = get_modelslab_cli_commands
    assert get_provider_info()["cli"] == [f"{function.__module__}.{function.__name__}"]
    with pytest.raises(SystemExit) as end:
        get_parser().parse_args(["modelslab", "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {name} " in shown for name in COMMANDS)


def test_every_attribute_is_a_flag() -> None:
    assert (*(name for name in ATTRIBUTES if name != "init_video"), "extra_parameters") == FLAGS


def test_each_command_can_be_imported() -> None:
    (group,) = get_modelslab_cli_commands()
    assert isinstance(group, GroupCommand)
    for command in _actions(group):
        module, name = inspect.getclosurevars(command.func).nonlocals["import_path"].rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), name))
    assert sorted(command.name for command in group.subcommands) == COMMANDS
    assert sorted(command.name for command in _actions(group)) == ACTIONS


def _actions(group: GroupCommand) -> Iterator[ActionCommand]:
    for command in group.subcommands:
        if isinstance(command, GroupCommand):
            yield from _actions(command)
        else:
            yield command


@pytest.mark.slow
def test_every_airflow_command_pays_little_for_it() -> None:
    script = (
        "import airflow.cli.cli_config, sys; before = set(sys.modules);"
        "from airflow_provider_modelslab.cli.definition import get_modelslab_cli_commands as found; found();"
        "print(*sorted(set(sys.modules) - before))"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    told = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment
    ).stdout.split()
    assert [name for name in told if not name.startswith("airflow_provider_modelslab")] == []
    assert {name for name in told if name.count(".") == 1} == {"airflow_provider_modelslab.cli"}


WRONG = [
    [],
    ["nothing"],
    ["show"],
    ["submit", "--timeout", "-1"],
    ["submit", "--fps"],
    ["ledger"],
    ["clean"],
    ["clean", "--older-than", "7d"],
    ["clean", "--older-than", "soon"],
    ["ledger", "s3://bucket/out.mp4"],
    ["ledger", "resolve", "--since", "2026-11-29", "--as", "resubmit"],
    ["ledger", "resolve", "--unknown", "--since", "2026-11-29"],
    ["ledger", "resolve", "--unknown", "--since", "yesterday", "--as", "resubmit"],
]


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage_is_exit_code_2_in_either_program(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for run in (main, lambda words: get_parser().parse_args(["modelslab", *words])):
        with pytest.raises(SystemExit) as end:
            run(words)
        assert end.value.code == 2
        assert "error: " in capsys.readouterr().err


def test_help_tells_what_the_request_says_of_each_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for run in (main, lambda words: get_parser().parse_args(["modelslab", *words])):
        with pytest.raises(SystemExit):
            run(["submit", "--help"])
        assert "Denoising steps. At ModelsLab at most 50." in capsys.readouterr().out


def test_every_exit_code_is_documented() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/reference/cli.md").read_text()
    told = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert [int(code) for code in told] == sorted(EXIT_CODES)


def test_each_timeout_says_what_it_counts_from_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for name, said in (
        ("submit", "this long after the submission, with exit code 3"),
        ("show", "this time, with exit code 3"),
    ):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        assert said in " ".join(capsys.readouterr().out.split())
