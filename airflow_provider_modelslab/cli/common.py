"""What all commands share: errors in one line, exit codes, quiet logs, questions, and output in Airflow's formats."""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from airflow_provider_modelslab.api.errors import ModelsLabError

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["FAILED", "INTERRUPTED", "RUNNING", "UNKNOWN", "USAGE", "RefusedError", "command", "confirm", "program"]
__all__ += ["echo_line", "print_record", "print_rows", "unknown_advice"]

FAILED, USAGE, RUNNING, UNKNOWN, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit codes, see docs/reference/cli.md. Scripts rely on them: a job that may still run never has that of a failure."""

_result: ContextVar[TextIO | None] = ContextVar(
    "modelslab_cli_result", default=None
)  # stdout, while logs are kept off it
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")


class RefusedError(Exception):
    """Nothing was done, and that is no failure of anything.

    :param code: the exit code.
    """

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


def command(run: Callable[[Namespace], int | None], *, on_error: int = FAILED) -> Callable[[Namespace], None]:
    """Make a command of a function that returns its exit code.

    :param on_error: the exit code after an error.

    Unlike Airflow's own commands these are not written to Airflow's audit log: that keeps the whole command line, and
    the link of a clip may hold a signature.
    """

    @functools.wraps(run)
    def guarded(args: Namespace) -> None:
        try:
            with _quiet_logs(verbose=args.verbose):
                code = run(args)
        except KeyboardInterrupt:
            echo_line("Interrupted")
            code = INTERRUPTED
        except Exception as error:
            told = _explain(error)
            if told is None:
                raise
            echo_line(f"error: {told}")
            code = error.code if isinstance(error, RefusedError) else on_error
        if code:
            raise SystemExit(code)

    return guarded


def _explain(error: Exception) -> str | None:
    """What went wrong and what to do next; ``None`` for what is a defect and deserves its traceback."""
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, describe

    if isinstance(error, ModelsLabError | RefusedError):
        return _without_queries(str(error))
    if isinstance(error, AirflowNotFoundException):
        return (
            f"{error}. See `airflow connections list`. To add it: `airflow connections add <id> "
            "--conn-type modelslab --conn-password <key>`. If it is in a secrets backend, this process needs the "
            "settings of that backend"
        )
    if isinstance(error, S3_ERRORS):
        return _without_queries(describe(error))
    return None


def _without_queries(text: str) -> str:
    return _QUERY.sub(r"\1?...", text)


@contextmanager
def _quiet_logs(*, verbose: bool) -> Iterator[None]:
    """Logs go to stderr, since stdout is for the command's output; below warnings only with ``--verbose``."""
    import structlog  # Airflow's loggers are its loggers, and the standard library's in older modules

    result = sys.stdout
    token = _result.set(result)
    moved = []
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is result:
            handler.setStream(sys.stderr)
            moved.append(handler)
    disabled = logging.root.manager.disable
    before = structlog.get_config()["processors"]
    if not verbose:
        logging.disable(max(disabled, logging.INFO))
        structlog.configure(processors=[_drop_chatter, *before])
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        structlog.configure(processors=before)
        logging.disable(disabled)
        for handler in moved:
            handler.setStream(result)
        _result.reset(token)


def _drop_chatter(_: object, method: str, event: Any) -> Any:
    import structlog

    if method in {"debug", "info"}:
        raise structlog.DropEvent
    return event


def program(args: Namespace) -> str:
    """How this command was called, for the commands that a message names."""
    return getattr(args, "program", "airflow modelslab")


def unknown_advice(number: int, command: str) -> str:
    """How a person says what became of a command's submission of unknown outcome, as sentences.

    :param number: of the submission: what is said holds for no later one.
    :param command: how to name the command that is to be run again.
    """
    return (
        f"If ModelsLab has the job, run {command} again with --adopt {number}=<the job's id>; this pays for nothing. "
        f"If it does not, run it again with --resubmit {number}; this pays for a new job"
    )


def echo_line(text: str) -> None:
    """Say something to the person. Where the terminal is gone, the work goes on without it."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def confirm(question: str, *, yes: bool, undone: str) -> None:
    """Ask, unless ``--yes`` was given.

    :param undone: what was not done when the answer is no, for example "Nothing was submitted".
    :raises RefusedError: when the answer is no, or there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise RefusedError(
            f"{undone}: the command must ask, but there is no terminal. To confirm in advance, add --yes", code=USAGE
        )
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise RefusedError(undone, code=FAILED)


def print_record(record: Mapping[str, Any], output: str) -> None:
    """One thing: an object in JSON and YAML, else a line for each field that has a value."""
    if output in {"json", "yaml"}:
        _dump(dict(record), output)
    else:
        print_rows([{"field": name, "value": value} for name, value in record.items() if value is not None], output)


def print_rows(rows: Sequence[Mapping[str, Any]], output: str) -> None:
    """A table, or a list of objects in JSON and YAML, with numbers as numbers."""
    if output in {"json", "yaml"}:
        _dump([dict(row) for row in rows], output)
        return
    from airflow.cli.simple_table import AirflowConsole

    shown = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    with redirect_stdout(_result.get() or sys.stdout):
        AirflowConsole(markup=False, emoji=False, highlight=False).print_as(shown, output)


def _dump(value: object, output: str) -> None:
    plain = json.loads(json.dumps(value, default=str))
    if output == "json":
        text = f"{json.dumps(plain, indent=2)}\n"
    else:
        from airflow.utils import yaml

        text = yaml.dump(plain, sort_keys=False)
    (_result.get() or sys.stdout).write(text)
