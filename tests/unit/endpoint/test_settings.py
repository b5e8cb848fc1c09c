from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.endpoint.__main__ import KEY_VARIABLE, main
from airflow_provider_modelslab.endpoint.arguments import build_parser, settings_of
from airflow_provider_modelslab.endpoint.settings import Settings


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("answers", "other"),
        ("hold_s", -1),
        ("publish_delay_s", -0.1),
        ("retention_s", 0),
        ("webhook_timeout_s", 0),
        ("max_queue", 0),
        ("api_keys", ("a", "")),
        ("public_url", "gpu-box:8188"),
    ],
)
def test_a_setting_that_cannot_work_is_named(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=setting):
        Settings(state_dir=Path("s"), **{setting: value})


def test_keys_are_not_shown() -> None:
    assert "hush" not in repr(Settings(state_dir=Path("s"), api_keys=("hush",)))


def test_the_command_says_what_is_wrong_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "hush-hush")
    with pytest.raises(SystemExit) as caught:
        main(["--state-dir", str(tmp_path / "state"), "--hold-s", "-1"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert "hold_s must be at least 0 seconds" in told
    assert "hush-hush" not in told
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--faults", '{"rates": {"reset": 1}}'], "'reset' is no fault"),
        (["--faults", "/no/such/file"], "cannot be read"),
        (["--engine", "echo", "--echo-seconds", "-1"], "echo seconds must be at least 0"),
    ],
)
def test_the_command_refuses_faults_and_engines_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    with pytest.raises(SystemExit):
        main(["--state-dir", str(tmp_path / "state"), *arguments])
    assert text in capsys.readouterr().err


def test_private_addresses_are_closed_unless_the_command_opens_them(tmp_path: Path) -> None:
    parse, given = build_parser().parse_args, ["--state-dir", str(tmp_path)]
    assert not settings_of(parse(given)).allow_private_addresses
    assert settings_of(parse([*given, "--allow-private-addresses"])).allow_private_addresses
