from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from airflow_provider_modelslab.endpoint import __main__ as module
from airflow_provider_modelslab.endpoint.__main__ import KEY_VARIABLE, main
from airflow_provider_modelslab.endpoint.arguments import ALIASES_VARIABLE, build_parser, settings_of
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
        ("max_total_queue", 0),
        ("unknown_attributes", "some"),
        ("admin_key", " "),
        ("api_keys", ("a", "")),
        ("public_url", "gpu-box:8188"),
        ("aliases", {"a": " "}),
        ("aliases", {"a": "b", "b": "demo"}),
    ],
)
def test_a_setting_that_cannot_work_is_named(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=setting):
        Settings(state_dir=Path("s"), **{setting: value})


def test_aliases_come_from_flags_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def aliases(*flags: str) -> dict[str, str]:
        given = build_parser().parse_args(["--state-dir", str(tmp_path), *flags])
        return dict(settings_of(given).aliases)

    assert aliases("--alias", "a=demo", "--alias", "b = tiny") == {"a": "demo", "b": "tiny"}
    monkeypatch.setenv(ALIASES_VARIABLE, "a=tiny, c=demo,")
    assert aliases("--alias=a=demo") == {"a": "demo", "c": "demo"}
    monkeypatch.setenv(ALIASES_VARIABLE, "demo")
    with pytest.raises(ValueError, match=ALIASES_VARIABLE):
        aliases()
    with pytest.raises(SystemExit):
        aliases("--alias", "demo")


def test_models_to_preload_are_flags(tmp_path: Path) -> None:
    given = build_parser().parse_args(["--state-dir", str(tmp_path), "--preload", "demo", "--preload=tiny"])
    assert settings_of(given).preload == ("demo", "tiny")


def test_keys_are_not_shown() -> None:
    assert "hush" not in repr(Settings(state_dir=Path("s"), api_keys=("hush",), admin_key="hush"))


@pytest.mark.parametrize(
    ("changes", "exposed"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "::1"}, False),
        ({"host": "127.0.0.2"}, False),
        ({"public_url": "http://localhost:8188"}, False),
        ({"host": "0.0.0.0"}, True),  # noqa: S104
        ({"host": "::"}, True),
        ({"host": ""}, True),
        ({"host": "192.168.1.5"}, True),
        ({"host": "gpu-box"}, True),
        ({"public_url": "https://clips.example.com"}, True),
    ],
)
def test_an_endpoint_that_others_can_reach_needs_keys(changes: dict[str, Any], exposed: bool) -> None:
    with_keys = Settings(state_dir=Path("s"), api_keys=("a",), admin=True, admin_key="b", **changes)
    assert with_keys.is_exposed is exposed
    for missing, name in (({"admin_key": None}, "admin_key"), ({"api_keys": ()}, "api_keys")):
        if exposed:
            with pytest.raises(ValueError, match=name):
                replace(with_keys, **missing)
        else:
            assert not replace(with_keys, **missing).is_exposed


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["--host", "0.0.0.0"], "--api-key"),  # noqa: S104
        (["--public-url", "https://clips.example.com"], "--api-key"),
        (["--host", "::", "--api-key", "a", "--admin"], "--admin-key"),
    ],
)
def test_the_command_names_the_key_that_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], flag: str
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(SystemExit) as caught:
        main(["--state-dir", str(tmp_path / "state"), *arguments])
    assert caught.value.code == 2
    assert flag in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("flags", "offline"), [([], "1"), (["--offline"], "1"), (["--allow-downloads"], None)])
def test_the_hubs_library_is_told_to_stay_offline_before_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], offline: str | None
) -> None:
    seen: list[str | None] = []

    def engines_of(*_: object) -> NoReturn:
        seen.append(os.environ.get("HF_HUB_OFFLINE"))
        raise ValueError("enough")

    monkeypatch.setenv("HF_HUB_OFFLINE", "before")
    monkeypatch.delenv("HF_HUB_OFFLINE")  # to be taken back after the test
    monkeypatch.setattr(module, "engines_of", engines_of)
    with pytest.raises(SystemExit):
        main(["--state-dir", str(tmp_path), *flags])
    assert seen == [offline]


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
        (["--faults", '{"rates": {"reset": 1}}'], "'reset' is not a fault"),
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
