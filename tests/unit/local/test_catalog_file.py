from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.models.catalog_file import read_catalog_file
from airflow_provider_modelslab.local.models.hub import hub_source
from airflow_provider_modelslab.local.models.specs import Source
from airflow_provider_modelslab.local.models.tiny import build_tiny
from tests.support.page import SAMPLE_REQUEST


def test_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '{"models": {"mine": {"source": "org/name", "revision": "1a2b", "guidance_scale": 6, "width": 640}},'
        ' "loras": {"ink": "org/loras/ink.safetensors"},'
        ' "motion_modules": {"fast": {"source": "org/fast", "scheduler": "lcm", "steps": 8, "all_steps": true}}}'
    )
    (tmp_path / "a.yaml").write_text(
        "models:\n  mine: {source: org/name, revision: 1a2b, guidance_scale: 6, width: 640}\n"
        "loras:\n  ink: org/loras/ink.safetensors\n"
        "motion_modules:\n  fast: {source: org/fast, scheduler: lcm, steps: 8, all_steps: true}\n"
    )
    read = read_catalog_file(tmp_path / "a.json")
    assert read == read_catalog_file(tmp_path / "a.yaml")
    assert read.models["mine"].source == Source("org/name", revision="1a2b")
    assert (read.models["mine"].settings, read.models["mine"].family) == ({"guidance_scale": 6.0, "width": 640}, None)
    assert read.loras["ink"].source == Source("org/loras", file="ink.safetensors")
    fast = read.motion_modules["fast"]
    assert (fast.scheduler, fast.steps, fast.all_steps, fast.guidance_scale) == ("lcm", 8, True, None)


def test_paths_are_relative_to_the_file_and_settings_hold(tmp_path: Path) -> None:
    build_tiny(tmp_path / "weights" / "one")
    (tmp_path / "catalog.json").write_text(
        json.dumps({"models": {"mine": {"source": "weights/one", "steps": 7, "fps": 12, "motion_modules": ["x"]}}})
    )
    spec = Catalog(tmp_path, tmp_path / "cache", offline=True).lookup("mine")
    assert spec.folder == tmp_path / "weights" / "one"
    assert (spec.steps, spec.fps, spec.text_layers, spec.motion_modules) == (7, 12, 5, ("x",))


def test_a_mapping_says_the_same_as_a_file(tmp_path: Path) -> None:
    build_tiny(tmp_path / "one")
    catalog = Catalog(None, tmp_path, catalog_file={"models": {"mine": str(tmp_path / "one")}})
    assert catalog.lookup("mine").folder == tmp_path / "one"
    with pytest.raises(ValueError, match=r"The catalog: models\.mine must have a source.*; got 'one'"):
        Catalog(None, tmp_path, catalog_file={"models": {"mine": "one"}})


def test_the_users_names_go_first(tmp_path: Path) -> None:
    build_tiny(tmp_path / "one")
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"models": {"dark-sushi-mix": "one"}, "motion_modules": {"animatelcm": "org/other"}}))
    catalog = Catalog(None, tmp_path, catalog_file=file)
    assert catalog.lookup("dark-sushi-mix").folder == tmp_path / "one"
    assert catalog.parts.motion_module("animatelcm").source.repo == "org/other"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("{", "cannot be read"),
        ([], "the file must be an object"),
        ({"model": {}}, "the file unknown key: model; allowed: models, "),
        ({"models": []}, "models must be an object"),
        ({"models": {"a": 1}}, "models.a must be an object"),
        ({"models": {"a": {}}}, "models.a must have a source"),
        ({"models": {"a": "no-such-folder"}}, "org/name or an existing path"),
        ({"models": {"a": {"source": "o/n", "strength": 1}}}, "models.a unknown key: strength"),
        ({"models": {"a": {"source": "o/n", "steps": "many"}}}, "models.a.steps must be int"),
        ({"models": {"a": {"source": "o/n", "steps": 0}}}, "models.a.steps must be at least 1"),
        ({"models": {"a": {"source": "o/n", "scheduler": "x"}}}, "must be one of ddim, lcm, euler-trailing"),
        ({"models": {"a": {"source": "o/n", "family": "flux"}}}, "must be one of animatediff-sd15, wan-v2v"),
        ({"models": {"a": {"source": "o/n", "revision": 7}}}, "must have text as its revision"),
        ({"motion_modules": {"a": {"source": "o/n", "all_steps": 1}}}, "must be bool"),
        ({"loras": {"a": {"source": "o/n", "aliases": "b"}}}, "must be a list of names"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, data: Any, text: str) -> None:
    file = tmp_path / "catalog.json"
    file.write_text(data if isinstance(data, str) else json.dumps(data))
    with pytest.raises(ValueError, match=r"catalog\.json") as caught:
        Catalog(tmp_path, tmp_path)
    assert text in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.yaml cannot be read"):
        Catalog(None, tmp_path, catalog_file=tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("org/name", Source("org/name")),
        ("org/name/a/b.safetensors", Source("org/name", file="a/b.safetensors")),
        ("name", None),
        ("org/name/b.exe", None),
        ("../name", None),
        ("org/name/../b.safetensors", None),
        ("https://huggingface.co/org/name", None),
    ],
)
def test_names_on_the_hub(name: str, source: Source | None) -> None:
    assert hub_source(name) == source


def test_another_name_for_a_built_in_model_is_that_model() -> None:
    """So a request for the vendor's model runs on the demo model, and its meta names what made the clip."""
    engine = LocalEngine(catalog_file={"models": {"dark-sushi-mix": "demo", "mine": "org/name"}})
    assert engine.catalog.lookup("dark-sushi-mix") == engine.catalog.lookup("demo")
    assert engine.catalog.own.models["mine"].source == Source("org/name")
    request = Video2VideoRequest.from_body({**SAMPLE_REQUEST, "init_video": "clip.mp4"})
    engine.check(request)
    assert engine._plan(request, ready=True).used()["model_id"] == "demo"
