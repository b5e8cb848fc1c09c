from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from airflow_provider_modelslab.endpoint.arguments import build_parser, engines_of, parse_bytes, settings_of
from airflow_provider_modelslab.endpoint.echo import EchoEngine
from airflow_provider_modelslab.endpoint.engine import Engine, StagedEngine, device_of, models_of, with_flags
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.runtime.device_list import split_devices
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets torch find so many GPUs."""
    return lambda number: monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


def engines(tmp_path: Path, *arguments: str) -> list[Engine]:
    given = build_parser().parse_args(["--state-dir", str(tmp_path / "state"), *arguments])
    return engines_of(given, settings_of(given))


@pytest.mark.parametrize(
    ("text", "found", "devices"),
    [
        ("auto", 0, ("cpu",)),
        ("auto", 1, ("cuda:0",)),
        ("auto", 3, ("cuda:0", "cuda:1", "cuda:2")),
        ("cuda", 2, ("cuda:0", "cuda:1")),
        ("cuda:1", 2, ("cuda:1",)),
        ("cuda:1, cuda:0", 2, ("cuda:1", "cuda:0")),
        ("cpu", 2, ("cpu",)),
        ("cpu,cuda:0", 1, ("cpu", "cuda:0")),
        ("mps", 0, ("mps",)),
    ],
)
def test_devices(gpus: Any, text: str, found: int, devices: tuple[str, ...]) -> None:
    gpus(found)
    assert split_devices(text) == devices


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cuda", "torch finds no GPU here; use auto or cpu"),
        ("cuda:0", "there is no cuda:0; torch finds no GPU"),
        ("cpu,cpu", "each once; got 'cpu,cpu'"),
        ("cpu,", "each once; got 'cpu,'"),
        ("", "each once; got ''"),
        ("auto,cpu", "cannot be combined with other devices; got 'auto,cpu'"),
    ],
)
def test_devices_that_cannot_be(gpus: Any, text: str, problem: str) -> None:
    gpus(0)
    with pytest.raises(ValueError, match=problem):
        split_devices(text)


def test_a_gpu_beyond_the_last_is_refused_with_those_that_there_are(gpus: Any) -> None:
    gpus(2)
    with pytest.raises(ValueError, match="there is no cuda:2; torch finds cuda:0, cuda:1"):
        split_devices("cuda:0,cuda:2")


def test_there_is_an_engine_for_each_gpu(gpus: Any, tmp_path: Path) -> None:
    gpus(2)
    made = engines(tmp_path)
    assert [device_of(engine) for engine in made] == ["cuda:0", "cuda:1"]
    assert all(isinstance(engine, StagedEngine) and models_of(engine) == [] for engine in made)


def test_arguments_reach_the_engine(tmp_path: Path) -> None:
    catalog = tmp_path / "own.json"
    catalog.write_text(json.dumps({"models": {"mine": {"source": str(tmp_path)}}}))
    (made,) = engines(
        tmp_path,
        *("--device", "cpu", "--catalog-file", str(catalog), "--allow-pickle", "--memory-budget", "1.5GB", "--compile"),
        *("--guidance-until", "0.5", "--reuse-deep", "2", "--tiny-vae", "madebyollin/taesd", "--dtype", "bfloat16"),
        *("--keep-aspect", "fit"),
    )
    assert isinstance(made, LocalEngine)
    assert "mine" in made.catalog.own.models
    assert (made.catalog.allow_pickle, made.catalog.offline) == (True, True)
    assert made._models._find_budget() == 1_500_000_000
    assert made._speed == Optimizations(compile=True, tiny_vae="madebyollin/taesd", guidance_until=0.5, reuse_deep=2)
    assert (made._dtype, made._keep_aspect) == ("bfloat16", "fit")


@pytest.mark.parametrize(("flags", "offline"), [([], True), (["--offline"], True), (["--allow-downloads"], False)])
def test_the_hub_is_left_alone_unless_it_is_allowed(tmp_path: Path, flags: list[str], offline: bool) -> None:
    (made,) = engines(tmp_path, "--device", "cpu", *flags)
    assert isinstance(made, LocalEngine)
    assert made.catalog.offline is offline


def test_the_defaults_change_no_result(tmp_path: Path) -> None:
    (made,) = engines(tmp_path, "--device", "cpu")
    assert isinstance(made, LocalEngine)
    assert made._speed == Optimizations()


def test_the_echo_has_as_many_workers_as_asked_for(tmp_path: Path) -> None:
    made = engines(tmp_path, "--engine", "echo", "--workers", "3")
    assert [type(engine) for engine in made] == [EchoEngine] * 3
    assert len(set(map(id, made))) == 3


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--workers", "0", "--engine", "echo"], "workers must be at least 1; got 0"),
        (["--workers", "2", "--device", "cpu"], "the local engine has one worker for each GPU"),
        (["--guidance-until", "2", "--device", "cpu"], "guidance_until must be a share"),
        (["--dtype", "int8", "--device", "cpu"], "dtype must be one of"),
        (["--catalog-file", "/no/such/file.json", "--device", "cpu"], "/no/such/file.json"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, arguments: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        engines(tmp_path, *arguments)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("60GB", 60 * 10**9),
        ("60gb", 60 * 10**9),
        ("60 GiB", 60 * 2**30),
        ("60", 60 * 2**30),
        ("0.5", 2**29),
        ("500M", 500 * 10**6),
        ("1.5TiB", 3 * 2**39),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "0", "1PB", "1e3", "GB"])
def test_sizes_that_cannot_be(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a size such as 60GB"):
        parse_bytes(text)


def test_the_advice_of_an_engine_names_the_flags_of_the_endpoint(tmp_path: Path) -> None:
    from airflow_provider_modelslab.api.errors import InvalidRequestError
    from airflow_provider_modelslab.api.request import Video2VideoRequest

    (engine,) = engines(tmp_path, "--device", "cpu")
    with pytest.raises(InvalidRequestError) as refused:
        engine.check(Video2VideoRequest(model_id="dark-sushi-mix", prompt="p", init_video="https://example.com/a.mp4"))
    (text,) = refused.value.fields["model_id"]
    assert "--allow-pickle" in with_flags(text)
    assert "allow_pickle=True" not in with_flags(text)
