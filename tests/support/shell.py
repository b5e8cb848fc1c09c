"""``airflow modelslab ...`` in this process, through Airflow's own parser."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.connections import KEY


class Shell:
    """Runs a command; its output stays in ``out`` and ``err``."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *words: str) -> int:
        from airflow.cli.cli_parser import get_parser

        code = 0
        self._capsys.readouterr()
        try:
            args = get_parser().parse_args(["modelslab", *words])
            args.func(args)
        except SystemExit as end:
            code = int(end.code or 0)
        self.out, self.err = self._capsys.readouterr()
        assert KEY not in self.out + self.err
        assert "Signature" not in self.out + self.err
        return code

    def json(self, *words: str, code: int = 0) -> Any:
        assert self(*words, "--output", "json") == code, self.err
        return json.loads(self.out)
