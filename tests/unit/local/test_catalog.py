from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from airflow_provider_modelslab.api.errors import RequestValidationError
from airflow_provider_modelslab.local.catalog import Catalog, default_cache_dir
from airflow_provider_modelslab.local.tiny import build_tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline as a user saves it."""
    return build_tiny(tmp_path_factory.mktemp("saved") / "my-model.v1")


@pytest.fixture
def model_dir(saved: Path, tmp_path: Path) -> Path:
    """A folder of models that a test may change."""
    shutil.copytree(saved, tmp_path / "models" / saved.name)
    return tmp_path / "models"


def problem(catalog: Catalog, model_id: str) -> str:
    with pytest.raises(RequestValidationError) as caught:
        catalog.lookup(model_id)
    return caught.value.fields["model_id"][0]


def test_the_tiny_model_is_built_in_and_built_on_demand(tmp_path: Path) -> None:
    catalog = Catalog(None, tmp_path)
    spec = catalog.lookup("tiny")
    assert catalog.available() == ["tiny"]
    assert list(tmp_path.iterdir()) == []
    catalog.prepare(spec)
    assert (spec.folder / "model_index.json").is_file()


def test_what_is_said_of_the_tiny_model_is_what_its_files_say(tmp_path: Path) -> None:
    built_in = Catalog(None, tmp_path).lookup("tiny")
    build_tiny(tmp_path / "models" / "same")
    read = Catalog(tmp_path / "models", tmp_path).lookup("same")
    assert (read.text_layers, read.max_frames, read.has_motion) == (
        built_in.text_layers,
        built_in.max_frames,
        built_in.has_motion,
    )


def test_saved_folders_are_models(model_dir: Path, tmp_path: Path) -> None:
    (model_dir / "notes").mkdir()
    (model_dir / "readme.txt").touch()
    catalog = Catalog(model_dir, tmp_path)
    assert catalog.available() == ["tiny", "my-model.v1"]
    spec = catalog.lookup("my-model.v1")
    assert spec.folder == model_dir / "my-model.v1"
    assert (spec.width, spec.height, spec.guidance_scale, spec.fps) == (512, 512, 7.5, 8)


@pytest.mark.parametrize(
    "model_id", ["../secret", "..", ".hidden", "a/b", "a\\b", "/etc", "a\x00b", "name\n", "", "ä", "x" * 101]
)
def test_ids_that_could_lead_elsewhere_are_refused(model_dir: Path, tmp_path: Path, model_id: str) -> None:
    shutil.copytree(model_dir / "my-model.v1", tmp_path / "secret")
    assert "must be letters, digits" in problem(Catalog(model_dir, tmp_path), model_id)


def test_an_unknown_id_says_what_there_is_and_how_to_add_one(model_dir: Path, tmp_path: Path) -> None:
    text = problem(Catalog(model_dir, tmp_path), "my-model.v2")
    assert "did you mean my-model.v1?" in text
    assert "available: tiny, my-model.v1" in text
    assert f"save it as {model_dir}/my-model.v2" in text
    assert "<model_dir>/dark-sushi-mix" in problem(Catalog(None, tmp_path), "dark-sushi-mix")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_can_hold_code_are_refused(model_dir: Path, tmp_path: Path, part: str) -> None:
    (file,) = (model_dir / "my-model.v1" / part).glob("*.safetensors")
    file.rename(file.with_suffix(".bin"))
    assert f"{part} has no *.safetensors file" in problem(Catalog(model_dir, tmp_path), "my-model.v1")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"unet": ["my_unet", "MyUNet"]}, "brings its own code for unet"),
        ({"safety_checker": ["evil", "Checker"]}, "brings its own code for safety_checker"),
        ({"vae": []}, "brings its own code for vae"),
        ({"_class_name": "StableDiffusionPipeline"}, "holds a StableDiffusionPipeline"),
        ({"_class_name": ["pipeline", "Mine"]}, "can be run"),
        ({"unet": ["diffusers", "UNet2DConditionModel"]}, "motion_adapter has no *.safetensors file"),
    ],
)
def test_folders_that_cannot_be_run_are_refused(
    model_dir: Path, tmp_path: Path, change: dict[str, object], expected: str
) -> None:
    path = model_dir / "my-model.v1" / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert expected in problem(Catalog(model_dir, tmp_path), "my-model.v1")


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("model_index.json", "{", "cannot be read"),
        ("model_index.json", "[]", "is no JSON object"),
        ("unet/config.json", "{}", "has no motion_max_seq_length"),
        ("text_encoder/config.json", '{"num_hidden_layers": "many"}', "has no num_hidden_layers"),
    ],
)
def test_damaged_folders_are_refused(model_dir: Path, tmp_path: Path, file: str, text: str, expected: str) -> None:
    (model_dir / "my-model.v1" / file).write_text(text)
    assert expected in problem(Catalog(model_dir, tmp_path), "my-model.v1")


def test_the_cache_is_where_the_system_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "airflow-provider-modelslab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "airflow-provider-modelslab"
