from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import MOTION_MODULES
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.models.components import Components


@pytest.fixture
def parts(tmp_path: Path) -> Components:
    return Catalog(tmp_path / "models", tmp_path).parts


def put(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "models" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("name", [*MOTION_MODULES, "v3_sd15_mm"])
def test_the_motion_modules_of_the_page_are_known(parts: Components, name: str) -> None:
    motion = parts.motion_module(name)
    assert motion.id == name
    assert (motion.base, motion.source.pickled) == ("sd15", False)


@pytest.mark.parametrize(
    "names",
    [
        ("zoom-in", "zoom_in", "v2_lora_ZoomIn"),
        ("zoom-out", "zoom_out", "v2_lora_ZoomOut"),
        ("pan-left", "pan_left", "v2_lora_PanLeft"),
        ("pan-right", "pan_right", "v2_lora_PanRight"),
        ("tilt-up", "tilt_up", "v2_lora_TiltUp"),
        ("tilt-down", "tilt_down", "v2_lora_TiltDown"),
        ("rolling-clockwise", "rolling_clockwise", "v2_lora_RollingClockwise"),
        ("rolling-anticlockwise", "rolling_anticlockwise", "v2_lora_RollingAnticlockwise"),
    ],
)
def test_the_eight_motion_loras_have_three_names_each(parts: Components, names: tuple[str, ...]) -> None:
    specs = {parts.motion_lora(name) for name in names}
    assert {(spec.id, spec.source.repo) for spec in specs} == {(names[0], f"guoyww/animatediff-motion-lora-{names[0]}")}


def test_files_go_before_the_hub_and_keep_the_settings(parts: Components, tmp_path: Path) -> None:
    path = put(tmp_path, "motion_modules/animatelcm.safetensors")
    motion = parts.motion_module("animatelcm")
    assert motion.source.path == path
    assert (motion.scheduler, motion.steps, motion.base) == ("lcm", 6, None)


def test_files_may_lie_under_any_name(parts: Components, tmp_path: Path) -> None:
    path = put(tmp_path, "motion_loras/v2_lora_ZoomIn.safetensors")
    assert parts.motion_lora("zoom-in").source.path == parts.motion_lora("v2_lora_ZoomIn").source.path == path


def test_folders_and_files_of_the_users_own(parts: Components, tmp_path: Path) -> None:
    file = put(tmp_path, "loras/ink.safetensors")
    put(tmp_path, "adapters/dom/x.safetensors")
    assert parts.lora("ink").source.path == file
    assert parts.adapter("dom").source.path == tmp_path / "models" / "adapters" / "dom"
    assert parts.lora("org/name").source.repo == "org/name"


def test_the_lora_of_a_motion_module_may_lie_beside_it(parts: Components, tmp_path: Path) -> None:
    assert parts.motion_module("animatelcm").loras[0][0].source.repo == "wangfuyun/AnimateLCM"
    among = put(tmp_path, "loras/animatelcm-lora.safetensors")
    assert parts.motion_module("animatelcm").loras[0][0].source.path == among
    beside = put(tmp_path, "motion_modules/animatelcm/AnimateLCM_sd15_t2v_lora.safetensors")
    assert parts.motion_module("animatelcm").loras[0][0].source.path == beside


@pytest.mark.parametrize("suffix", ["ckpt", "bin", "pt"])
def test_pickles_are_refused_unless_they_are_allowed(parts: Components, tmp_path: Path, suffix: str) -> None:
    path = put(tmp_path, f"motion_loras/zoom-in.{suffix}")
    with pytest.raises(InvalidRequestError, match=r"motion_loras: .*zoom-in"):
        parts.motion_lora("zoom-in")
    allowed = Catalog(tmp_path / "models", tmp_path, allow_pickle=True).parts
    assert allowed.motion_lora("zoom-in").source.path == path


def test_offline_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    offline = Catalog(tmp_path / "models", tmp_path, offline=True).parts
    with pytest.raises(InvalidRequestError, match=r"motion_module: .*put its files at .*motion_modules/v3_sd15_mm"):
        offline.motion_module("v3_sd15_mm")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../b", ".x", "a\x00b"])
def test_names_that_could_lead_elsewhere_are_unknown(parts: Components, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="lora_models: there is no"):
        parts.lora(name)
