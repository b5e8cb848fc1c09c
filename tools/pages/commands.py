"""Command lines: the endpoint's flags and the ``airflow modelslab`` commands, from their parsers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from airflow_provider_modelslab import get_provider_info
from airflow_provider_modelslab.api.request import ATTRIBUTES
from tools.pages.markdown import code, from_rst, table

__all__ = ["cli", "commands", "endpoint_flags"]

_SAID_TWICE = re.compile(r" \(default: [^)]*\)")


def endpoint_flags() -> str:
    """Every flag of ``python -m airflow_provider_modelslab.endpoint``."""
    from airflow_provider_modelslab.endpoint.arguments import build_parser

    actions = (action for action in build_parser()._actions if action.dest != "help")
    return table(["flag", "default", "meaning"], (_flag(action) for action in actions))


def cli() -> str:
    """Every command that the provider adds to ``airflow``; a sentence where this version has none."""
    sections = [_section(words, command) for words, command in commands()]
    return "\n\n".join(sections) or "This version adds no commands to `airflow`."


def commands() -> Iterator[tuple[str, Any]]:
    """``airflow modelslab ...`` and what does it, from the provider's metadata."""
    paths: Any = get_provider_info().get("cli", [])
    for path in paths:
        module, _, name = path.rpartition(".")
        yield from _below("airflow", getattr(import_module(module), name)())


def _below(words: str, found: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for command in found:
        if hasattr(command, "subcommands"):
            yield from _below(f"{words} {command.name}", command.subcommands)
        elif not getattr(command, "hide", False):
            yield f"{words} {command.name}", command


def _section(words: str, command: Any) -> str:
    parser = argparse.ArgumentParser(prog=words, add_help=False, exit_on_error=False)
    for argument in command.args:
        argument.add_to_parser(parser)
    said = " ".join(from_rst(text.strip()) for text in (command.description, command.epilog) if text)
    parts = [f"## {code(words)}", said or _sentence(command.help)]
    actions = [action for action in parser._actions if action.dest not in ATTRIBUTES]
    if actions:
        parts.append(table(["argument", "default", "meaning"], map(_flag, actions)))
    if len(actions) < len(parser._actions):
        parts.append("Each [attribute](attributes.md) is a flag as well: `--prompt`, `--num-frames` and so on.")
    return "\n\n".join(parts)


def _sentence(text: str) -> str:
    text = from_rst(" ".join(text.split()))
    return text if text.endswith((".", "!")) else f"{text}."


def _flag(action: argparse.Action) -> list[str]:
    value = action.metavar if isinstance(action.metavar, str) else None
    if action.choices is not None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    if action.option_strings:
        name = " ".join([", ".join(action.option_strings), *([value or action.dest.upper()] * (action.nargs != 0))])
    else:
        name = value or action.dest
    default = _default(action)
    text = (action.help or "").replace("%(default)s", str(action.default))
    if default:
        text = _SAID_TWICE.sub("", text)
    return [code(name), default, from_rst(text)]


def _default(action: argparse.Action) -> str:
    if action.required:
        return "required"
    if action.default is None or action.default is False or action.default in ([], argparse.SUPPRESS):
        return ""
    return code(action.default)
