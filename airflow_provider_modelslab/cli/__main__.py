"""``python -m airflow_provider_modelslab.cli``: the same commands where ``airflow`` has none (Airflow 3.1)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from airflow.cli.cli_config import GroupCommand

from airflow_provider_modelslab.cli.definition import get_modelslab_cli_commands

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand

__all__ = ["main"]

PROGRAM = "python -m airflow_provider_modelslab.cli"


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command.

    :param argv: the arguments after the program's name; those of the process by default.
    :raises SystemExit: with the command's exit code unless that is 0.
    """
    (group,) = get_modelslab_cli_commands()
    assert isinstance(group, GroupCommand)  # noqa: S101 - tells the type checker, for whom it is a union
    parser = argparse.ArgumentParser(prog=PROGRAM, description=group.help)
    _add(parser, group.subcommands)
    args = parser.parse_args(argv)
    args.func(args)


def _add(parser: argparse.ArgumentParser, commands: Iterable[CLICommand]) -> None:
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in commands:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        if isinstance(command, GroupCommand):
            _add(subparser, command.subcommands)
            continue
        for arg in command.args:
            arg.add_to_parser(subparser)
        subparser.set_defaults(func=command.func, program=PROGRAM)


if __name__ == "__main__":
    main()
