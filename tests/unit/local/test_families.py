"""Each family has its own limits and defaults, and is known from the catalog before anything is accepted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grimp
import huggingface_hub
import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.families.registry import BUILTIN_MODELS, FAMILIES
from airflow_provider_modelslab.local.models import hub
from airflow_provider_modelslab.local.models.load_lock import GATE
from airflow_provider_modelslab.local.models.specs import Source
from airflow_provider_modelslab.local.models.tiny import build_tiny
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from tests.support.tiny_parts import wan_model

SD15_UNET = {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768}
CONFIGS: dict[str, dict[str, Any]] = {
    "animatediff-sd15": {
        "model_index.json": {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]},
        "unet/config.json": SD15_UNET,
        "text_encoder/config.json": {"num_hidden_layers": 12},
    },
    "wan-v2v": {"model_index.json": {"_class_name": "WanPipeline"}},
    "cogvideox-v2v": {"model_index.json": {"_class_name": "CogVideoXPipeline"}, "transformer/config.json": {}},
}
SETTINGS = ("width", "height", "frames", "fps", "steps", "guidance_scale", "max_frames")


@dataclass
class Hub:
    """A Hub with repositories of configuration files; it counts what it is asked for."""

    root: Path
    asked: list[dict[str, Any]] = field(default_factory=list)

    def add(self, repo: str, files: dict[str, Any]) -> None:
        for name, content in files.items():
            path = self.root / repo / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))

    def snapshot_download(self, **options: Any) -> str:
        self.asked.append(options)
        return str(self.root / options["repo_id"])


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub(tmp_path / "hub")
    for name, files in CONFIGS.items():
        fake.add(f"org/{name}", files)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


def engine_with(tmp_path: Path, **models: Any) -> LocalEngine:
    return LocalEngine(cache_dir=tmp_path, device="cpu", catalog_file={"models": models})


def request(model_id: str, **changes: Any) -> Video2VideoRequest:
    return Video2VideoRequest(**{"model_id": model_id, "prompt": "a fox", "init_video": "https://h/a.mp4", **changes})


def fields_of(engine: LocalEngine, asked: Video2VideoRequest) -> set[str]:
    with pytest.raises(InvalidRequestError) as caught:
        engine.check(asked)
    return set(caught.value.fields)


def test_every_family_is_tested() -> None:
    assert set(CONFIGS) == set(FAMILIES)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_catalog_entry_gets_the_defaults_of_its_family(fake_hub: Hub, tmp_path: Path, name: str) -> None:
    """An entry of family Wan got those of Stable Diffusion 1.5."""
    source = {"source": f"org/{name}"}
    engine = engine_with(tmp_path, plain=source, named={**source, "family": name}, wide={**source, "width": 640})
    for model_id in ("plain", "named", f"org/{name}"):
        spec = engine.catalog.lookup(model_id)
        assert {key: getattr(spec, key) for key in SETTINGS} == {key: FAMILIES[name].defaults[key] for key in SETTINGS}
        assert (spec.family, spec.source) == (name, Source(f"org/{name}"))
    assert engine.catalog.lookup("wide").width == 640


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_frames_of_a_catalog_entry_count(fake_hub: Hub, tmp_path: Path, name: str) -> None:
    engine = engine_with(tmp_path, mine={"source": f"org/{name}", "frames": 9})
    assert engine._plan(request("mine"), ready=False).frames == 9
    assert engine._plan(request("mine", num_frames=17), ready=False).frames == 17


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_limits_are_those_of_the_family(fake_hub: Hub, tmp_path: Path, name: str) -> None:
    family, engine = FAMILIES[name], engine_with(tmp_path)
    side, frames = family.max_side, family.defaults["max_frames"]
    sides = ("width", "height", "upscale_width", "upscale_height")
    engine.check(request(f"org/{name}", num_frames=frames, **dict.fromkeys(sides, side)))
    engine.check(request(f"org/{name}"))  # its own defaults are within its limits
    for one in sides:
        assert fields_of(engine, request(f"org/{name}", **{one: side + 1})) == {one}
    assert fields_of(engine, request(f"org/{name}", num_frames=frames + family.frame_step)) == {"num_frames"}
    assert fields_of(engine, request(f"org/{name}", num_inference_steps=1001)) == {"num_inference_steps"}


@pytest.mark.parametrize("setting", ["scheduler", "own_motion", "motion_modules"])
def test_a_setting_that_a_family_does_not_have_is_refused(fake_hub: Hub, tmp_path: Path, setting: str) -> None:
    value = {"scheduler": "ddim", "own_motion": "v2_sd15_mm", "motion_modules": ["v2_sd15_mm"]}[setting]
    for name in CONFIGS:
        engine = engine_with(tmp_path, mine={"source": f"org/{name}", setting: value})
        if name == "animatediff-sd15":
            engine.check(request("mine"))
        else:
            assert fields_of(engine, request("mine")) == {"model_id"}


def test_an_unknown_repository_is_asked_what_it_is_before_it_is_planned(fake_hub: Hub, tmp_path: Path) -> None:
    """It was planned as AnimateDiff, accepted, and failed after gigabytes."""
    fake_hub.add("org/flux", {"model_index.json": {"_class_name": "FluxPipeline"}})
    engine = engine_with(tmp_path)
    assert fields_of(engine, request("org/flux")) == {"model_id"}
    assert fields_of(engine, request("org/wan-v2v", motion_module="v2_sd15_mm")) == {"motion_module"}
    engine.check(request("org/wan-v2v", width=832, num_frames=33))
    assert [(asked["repo_id"], asked["allow_patterns"]) for asked in fake_hub.asked] == [
        ("org/flux", ["model_index.json", "*/config.json"]),
        ("org/wan-v2v", ["model_index.json", "*/config.json"]),
    ]


def test_a_family_that_the_catalog_claims_is_checked(fake_hub: Hub, tmp_path: Path) -> None:
    engine = engine_with(tmp_path, mine={"source": "org/wan-v2v", "family": "cogvideox-v2v"})
    assert fields_of(engine, request("mine")) == {"model_id"}


def test_parts_of_stable_diffusion_fit_a_repository_with_its_sizes(fake_hub: Hub, tmp_path: Path) -> None:
    fake_hub.add("org/small", {**CONFIGS["animatediff-sd15"], "unet/config.json": {"block_out_channels": [8]}})
    engine = engine_with(tmp_path, mine={"source": "org/animatediff-sd15", "family": "animatediff-sd15"})
    for model_id in ("mine", "org/animatediff-sd15"):
        engine.check(request(model_id, motion_module="animatelcm", motion_loras="zoom-in"))
    assert fields_of(engine, request("org/small", motion_module="animatelcm")) == {"motion_module"}


def test_what_is_built_in_is_known_without_the_hub(fake_hub: Hub, tmp_path: Path) -> None:
    engine = LocalEngine(cache_dir=tmp_path, device="cpu", allow_pickle=True)
    for model_id in BUILTIN_MODELS:
        engine.check(request(model_id))
    assert fake_hub.asked == []


def test_a_hub_that_does_not_answer_is_no_fault_of_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(JobFailedError, match="could not be downloaded"):
        engine_with(tmp_path).check(request("org/name"))


def test_configuration_files_alone_are_no_model_for_an_offline_engine(fake_hub: Hub, tmp_path: Path) -> None:
    """They are in the Hub's cache after a check, which downloads no more than them."""
    with pytest.raises(InvalidRequestError, match="is not on this machine"):
        hub.fetch(Source("org/wan-v2v"), "model_id", offline=True, allow_pickle=False)
    offline = LocalEngine(cache_dir=tmp_path, device="cpu", offline=True)
    assert fields_of(offline, request("org/wan-v2v")) == {"model_id"}


@pytest.fixture
def downloads(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What the engine fetches from the Hub, and whether something was locked; the files come from a folder."""
    seen: list[tuple[str, bool]] = []
    wan_model(tmp_path / "org" / "wan")
    build_tiny(tmp_path / "org" / "sd")

    def fetch(source: Source, field: str, **_: Any) -> Path:
        if source.path is not None:
            return source.path
        seen.append((field, is_locked()))
        return model_dir / source.file if source.file else tmp_path / str(source.repo)

    def is_locked() -> bool:
        return bool(GATE._working) or GATE._loader is not None or any(engine._lock.locked() for engine in engines)

    engines: list[LocalEngine] = []
    build = LocalEngine.__init__

    def keep(self: LocalEngine, *values: Any, **options: Any) -> None:
        build(self, *values, **options)
        engines.append(self)

    monkeypatch.setattr(LocalEngine, "__init__", keep)
    monkeypatch.setattr(hub, "fetch", fetch)
    monkeypatch.setattr(hub, "fetch_configs", lambda source, **_: tmp_path / str(source.repo))
    shutil.copytree(model_dir / "motion_modules" / "v2_sd15_mm", tmp_path / "org" / "motion")
    return seen


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"model_id": "org/wan", "num_frames": 5}, ["model_id"]),
        (
            {
                "model_id": "org/sd", "num_frames": 6, "motion_module": "org/motion",
                "lora_models": "org/loras/loras/style.safetensors",
                "motion_loras": "org/loras/motion_loras/zoom-in.safetensors",
                "adapter_lora": "org/loras/adapters/v3_sd15_adapter.safetensors",
            },
            ["adapter_lora", "lora_models", "model_id", "motion_loras", "motion_module"],
        ),
    ],
    ids=["wan", "parts of AnimateDiff"],
)  # fmt: skip
def test_everything_is_downloaded_before_anything_is_locked(
    downloads: list[tuple[str, bool]], source: Path, tmp_path: Path, changes: dict[str, Any], fields: list[str]
) -> None:
    asked = request(**{"init_video": str(source), "width": 32, "height": 32, "num_inference_steps": 1, **changes})
    first, second = (LocalEngine(cache_dir=tmp_path, device="cpu", dtype="float32") for _ in range(2))
    prepared = first.prepare(asked)
    assert sorted(downloads) == [(name, False) for name in fields]
    downloads.clear()
    for engine in (first, second):  # what one engine of an endpoint prepares, another one may render
        engine.encode(engine.render(prepared), tmp_path / "made")
    assert downloads == []


def test_the_small_vae_is_downloaded_before_anything_is_locked(
    downloads: list[tuple[str, bool]], source: Path, tmp_path: Path
) -> None:
    speed = Optimizations(tiny_vae="org/vae")
    first, second = (LocalEngine(cache_dir=tmp_path, device="cpu", speed=speed) for _ in range(2))
    prepared = first.prepare(request("tiny", init_video=str(source), num_frames=2))
    assert downloads == [("tiny_vae", False)]
    second._fetch(prepared.plan)
    second._fetch(prepared.plan)
    assert downloads == [("tiny_vae", False)] * 2


def test_a_small_vae_that_cannot_be_is_a_failed_job(source: Path, cache_dir: Path) -> None:
    engine = LocalEngine(cache_dir=cache_dir, device="cpu", offline=True, speed=Optimizations(tiny_vae="nowhere"))
    with pytest.raises(JobFailedError, match="tiny_vae must be a folder that exists"):
        engine.prepare(request("tiny", init_video=str(source), num_frames=2))


FAMILY_MODULES = ["families.wan", "families.cogvideox", "families.animatediff.family", "families.animatediff.model"]


@pytest.mark.parametrize("module", FAMILY_MODULES)
def test_nothing_but_the_registry_knows_a_family(module: str, package_graph: Callable[[str], set[str]]) -> None:
    """So a new one is a module and a line of the registry."""
    allowed = {"local.families.registry", "local.families.animatediff.family"}
    assert package_graph(f"local.{module}") <= allowed


@pytest.fixture(scope="module")
def package_graph() -> Callable[[str], set[str]]:
    """The modules that import a module."""
    package = "airflow_provider_modelslab"
    graph = grimp.build_graph(package, cache_dir=None)

    def importers(module: str) -> set[str]:
        found = graph.find_modules_that_directly_import(f"{package}.{module}")
        return {name.removeprefix(f"{package}.") for name in found}

    return importers


def test_no_other_module_names_a_family() -> None:
    root = Path(hub.__file__).parents[2]
    for name in set(FAMILIES) - {"animatediff-sd15"}:  # which is the vendor's, and named by what is built in
        naming = {path.name for path in root.rglob("*.py") if f'"{name}"' in path.read_text(encoding="utf-8")}
        assert len(naming) == 1
