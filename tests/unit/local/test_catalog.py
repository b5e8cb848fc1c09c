from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import MODEL_IDS
from airflow_provider_modelslab.local.cache_dir import default_cache_dir
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.models.tiny import build_tiny
from airflow_provider_modelslab.local.models.weights import read_tensors
from airflow_provider_modelslab.local.plan import Plan


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
    with pytest.raises(InvalidRequestError) as caught:
        catalog.lookup(model_id)
    return caught.value.fields["model_id"][0]


def test_the_tiny_model_is_built_in_and_built_on_demand(tmp_path: Path) -> None:
    catalog = Catalog(None, tmp_path)
    spec = catalog.lookup("tiny")
    assert catalog.available() == ["demo", "tiny", *sorted([*MODEL_IDS, "wan2.1-t2v-1.3b"])]
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
    assert catalog.available() == ["demo", "tiny", *sorted([*MODEL_IDS, "wan2.1-t2v-1.3b", "my-model.v1"])]
    spec = catalog.lookup("my-model.v1")
    assert spec.folder == model_dir / "my-model.v1"
    assert (spec.width, spec.height, spec.guidance_scale, spec.fps) == (512, 512, 7.5, 8)


@pytest.mark.parametrize(
    "model_id",
    ["../secret", "..", ".hidden", "a/../b", "a/b/c", "a//b", "a\\b", "/etc", "a\x00b", "name\n", "", "ä", "x" * 101],
)
def test_ids_that_could_lead_elsewhere_are_refused(model_dir: Path, tmp_path: Path, model_id: str) -> None:
    shutil.copytree(model_dir / "my-model.v1", tmp_path / "secret")
    assert "must be letters, digits" in problem(Catalog(model_dir, tmp_path), model_id)


def test_an_unknown_id_says_what_there_is_and_how_to_add_one(model_dir: Path, tmp_path: Path) -> None:
    text = problem(Catalog(model_dir, tmp_path), "my-model.v2")
    assert "did you mean my-model.v1?" in text
    assert "available: demo, tiny, dark-sushi-mix, " in text
    assert f"save it as {model_dir}/my-model.v2" in text
    assert "<model_dir>/dark-sushi-max" in problem(Catalog(None, tmp_path), "dark-sushi-max")


def test_a_checkpoint_in_one_file_says_how_to_make_a_folder_of_it(model_dir: Path, tmp_path: Path) -> None:
    (model_dir / "one.safetensors").touch()
    assert "StableDiffusionPipeline.from_single_file(file)" in problem(Catalog(model_dir, tmp_path), "one")
    (model_dir / "catalog.json").write_text('{"models": {"mine": "one.safetensors"}}')
    assert "is a checkpoint in one file" in problem(Catalog(model_dir, tmp_path), "mine")


def test_the_models_of_the_page_are_known(tmp_path: Path) -> None:
    catalog = Catalog(None, tmp_path, allow_pickle=True)
    repositories = {name: catalog.lookup(name).source.repo for name in MODEL_IDS}
    assert repositories == {
        "dark-sushi-mix": "stablediffusionapi/dark-sushi-mix",
        "epicrealismnaturalsi": "Justin-Choo/epiCRealism-Natural_Sin_RC1_VAE",
        "hellonijicute25d": "stablediffusionapi/hellonijicute25d",
    }


def test_a_repository_of_pickles_is_refused_with_a_way_out(tmp_path: Path) -> None:
    text = problem(Catalog(None, tmp_path), "dark-sushi-mix")
    assert "is published only as pickles (stablediffusionapi/dark-sushi-mix)" in text
    assert "put a copy in safetensors at <model_dir>/dark-sushi-mix" in text
    assert "allow_pickle=True" in text


def test_offline_says_where_to_put_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_dir: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    text = problem(Catalog(model_dir, tmp_path, offline=True), "epicrealismnaturalsi")
    assert "is not on this machine, and the engine is offline" in text
    assert f"put its files at {model_dir}/epicrealismnaturalsi" in text


def test_a_folder_takes_the_place_of_a_repository(model_dir: Path, tmp_path: Path) -> None:
    (model_dir / "my-model.v1").rename(model_dir / "dark-sushi-mix")
    spec = Catalog(model_dir, tmp_path, offline=True).lookup("dark-sushi-mix")
    assert spec.folder == model_dir / "dark-sushi-mix"
    assert spec.license == "CreativeML OpenRAIL-M"
    assert (spec.base, spec.own_motion) == (None, "v2_sd15_mm")


@pytest.mark.slow
def test_pickles_are_read_when_they_are_allowed(model_dir: Path, tmp_path: Path) -> None:
    folder = model_dir / "my-model.v1" / "unet"
    file = folder / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(str(file)), folder / "diffusion_pytorch_model.bin")
    file.unlink()
    catalog = Catalog(model_dir, tmp_path, allow_pickle=True)
    spec = catalog.lookup("my-model.v1")
    model = AnimateDiffModel(spec, catalog, "cpu", torch.float32)
    model.prepare(Plan(spec, (), 3, 8))
    assert not any(weight.is_meta for weight in model.pipeline.unet.state_dict().values())


def test_a_pickle_with_code_is_never_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "ran"),))  # type: ignore[return-value]

    torch.save({"a": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        read_tensors([tmp_path / "evil.ckpt"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_can_hold_code_are_refused(model_dir: Path, tmp_path: Path, part: str) -> None:
    (file,) = (model_dir / "my-model.v1" / part).glob("*.safetensors")
    file.rename(file.with_suffix(".bin"))
    assert f"{part} has no *.safetensors file" in problem(Catalog(model_dir, tmp_path), "my-model.v1")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"unet": ["my_unet", "MyUNet"]}, "contains its own code for unet"),
        ({"safety_checker": ["evil", "Checker"]}, "contains its own code for safety_checker"),
        ({"vae": []}, "contains its own code for vae"),
        ({"_class_name": "FluxPipeline"}, "contains a FluxPipeline"),
        ({"_class_name": "WanPipeline"}, "transformer has no *.safetensors file"),
        ({"_class_name": ["pipeline", "Mine"]}, "are supported"),
        (
            {"motion_adapter": ["diffusers", "MotionAdapter"], "unet": ["diffusers", "UNet2DConditionModel"]},
            "motion_adapter has no *.safetensors file",
        ),
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
        ("model_index.json", "[]", "is not a JSON object"),
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
