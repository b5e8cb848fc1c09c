"""Every attribute of the page, through the local operator and through the local endpoint: the same bytes from both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from airflow_provider_modelslab.api.request import ATTRIBUTES
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.media.fetch import FetchLimits
from airflow_provider_modelslab.local.models.tiny import build_tiny
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator
from tests.integration.tasks.conftest import Store
from tests.support.s3 import lines_of
from tests.support.tasks import TaskInstance, context_of, execute
from tests.support.tiny_parts import save_parts

pytestmark = [
    pytest.mark.usefixtures("connections"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # diffusers 0.42, numpy 2.4
]

UPSCALED = {"upscale_width": 48, "upscale_num_inference_steps": 2}
CHANGES: list[dict[str, Any]] = [
    {},
    {"prompt": "a red ship"},
    {"negative_prompt": "low quality"},
    {"seed": 8},
    {"height": 40},
    {"width": 40},
    {"num_frames": 3},
    {"num_inference_steps": 5},
    {"guidance_scale": 3},
    {"clip_skip": 1},
    {"strength": 1},
    {"output_type": "gif"},
    {"fps": 5},
    {"lora_models": "style"},
    {"lora_models": "style", "lora_strength": 0.5},
    {"motion_loras": "zoom-in"},
    {"motion_loras": "zoom-in", "motion_lora_strength": 0.5},
    {"adapter_lora": "v3_sd15_adapter"},
    {"adapter_lora": "v3_sd15_adapter", "domain_lora_scale": 0.5},
    {"motion_module": "v3_sd15_mm"},
    {"upscale_height": 40, "upscale_num_inference_steps": 2},
    UPSCALED,
    {**UPSCALED, "upscale_strength": 1},
    {**UPSCALED, "upscale_guidance_scale": 1},
    {**UPSCALED, "upscale_num_inference_steps": 4},
    {"use_improved_sampling": True},
]
GIVEN_TO_ALL = {"model_id", "init_video"}
AT_THE_VENDOR_ONLY: set[str] = set()
"""Attributes that no family of local models honours: each refuses them."""
DELIVERY = {"base64", "instant_response", "temp", "webhook", "track_id"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The folder of models, and the cache."""
    torch.set_num_threads(1)
    cache = tmp_path_factory.mktemp("cache")
    stock = build_tiny(tmp_path_factory.mktemp("stock") / "tiny")
    kind = load_diffusers().AnimateDiffVideoToVideoPipeline
    pipeline: Any = kind.from_pretrained(str(stock), motion_adapter=None, use_safetensors=True)
    models = save_parts(tmp_path_factory.mktemp("models"), pipeline.unet, pipeline.text_encoder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield models, cache / "airflow-provider-modelslab"


@pytest.fixture
def engine(folders: tuple[Path, Path]) -> LocalEngine:
    """The endpoint's."""
    models, cache = folders
    private = FetchLimits(allow_private_addresses=True)
    return LocalEngine(model_dir=models, cache_dir=cache, device="cpu", offline=True, limits=private)


def test_the_list_is_the_page() -> None:
    changed = {name for change in CHANGES for name in change}
    assert changed | AT_THE_VENDOR_ONLY == set(ATTRIBUTES) - GIVEN_TO_ALL - DELIVERY
    assert not changed & AT_THE_VENDOR_ONLY


@pytest.mark.slow
def test_the_operator_and_the_endpoint_make_the_same_of_every_attribute(
    folders: tuple[Path, Path], clip: str, bucket: str, store: Store
) -> None:
    common: dict[str, Any] = {
        "model_id": "tiny",
        "prompt": "a fox",
        "seed": 7,
        "num_frames": 4,
        "num_inference_steps": 3,
        "width": 32,
        "height": 32,
    }
    rows = [
        {"init_video": clip, "destination": f"{number}.{change.get('output_type', 'mp4')}", **change}
        for number, change in enumerate(CHANGES)
    ]
    local = execute(
        LocalVideo2VideoBatchOperator(
            task_id="local",
            source=rows,
            destination=f"s3://{bucket}/local/",
            model_dir=str(folders[0]),
            device="cpu",
            offline=True,
            allow_private_addresses=True,
            **common,
        ),
        context_of(TaskInstance(task_id="local")),
    )
    remote = execute(
        ModelsLabVideo2VideoBatchOperator(
            task_id="remote",
            source=rows,
            destination=f"s3://{bucket}/remote/",
            max_in_flight=8,
            poll_interval=0.05,
            max_poll_interval=0.5,
            **common,
        ),
        context_of(TaskInstance(task_id="remote")),
    )
    made = [[line["sha256"] for line in lines_of(store.s3, summary["manifest"])] for summary in (local, remote)]
    assert len(made[0]) == len(CHANGES)
    assert made[0] == made[1]
    same_as_plain = [change for change, sha256 in zip(CHANGES, made[0], strict=True) if sha256 == made[0][0]]
    assert same_as_plain == [{}]
    assert len(set(made[0])) == len(CHANGES)
