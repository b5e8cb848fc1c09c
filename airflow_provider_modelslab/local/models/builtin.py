"""The models of Stable Diffusion 1.5, motion modules and LoRAs that are built in, with the names of the vendor's page.

Each is a reference to the Hub, but for :mod:`~.demo_model`, which ships. A folder or file of the same name under
``model_dir`` goes first, see :class:`~.catalog.Catalog`.
"""

from __future__ import annotations

from airflow_provider_modelslab.local.models.demo_model import DEMO_LORA, DEMO_MODEL
from airflow_provider_modelslab.local.models.specs import (
    ANIMATEDIFF,
    SD15,
    LoraSpec,
    ModelEntry,
    MotionSpec,
    Source,
)

__all__ = ["ADAPTERS", "LIGHTNING_STEPS", "LORAS", "MODELS", "MOTION_LORAS", "MOTION_MODULES", "NO_ADAPTER"]

NO_ADAPTER = "v2_sd15_adapter"
"""The page's default for ``adapter_lora``: no adapter.

AnimateDiff's domain adapter came with version 3, whose motion module was trained on top of it. The version 2 module was
trained without one, and its authors published none, so there is nothing that this name could load.
"""

LIGHTNING_STEPS = (1, 2, 4, 8)
"""The numbers of steps for which AnimateDiff-Lightning has a file."""

_OPENRAIL = "CreativeML OpenRAIL-M"
_APACHE = "Apache-2.0"

MODELS = (
    ModelEntry(
        "dark-sushi-mix",
        Source("stablediffusionapi/dark-sushi-mix", pickled=True),
        ANIMATEDIFF,
        {"license": _OPENRAIL},
    ),
    ModelEntry(
        "epicrealismnaturalsi",
        Source("Justin-Choo/epiCRealism-Natural_Sin_RC1_VAE"),
        ANIMATEDIFF,
        {"license": _OPENRAIL},
    ),
    ModelEntry(
        "hellonijicute25d",
        Source("stablediffusionapi/hellonijicute25d", pickled=True),
        ANIMATEDIFF,
        {"license": _OPENRAIL},
    ),
    DEMO_MODEL,
)
"""Checkpoints of Stable Diffusion 1.5; the other families name their own."""

LORAS = {DEMO_LORA.id: DEMO_LORA}
"""Style LoRAs by name. The page's own are its users' uploads, which no list can know."""

MOTION_MODULES = {
    spec.id: spec
    for spec in (
        MotionSpec(
            "v2_sd15_mm",
            Source("guoyww/animatediff-motion-adapter-v1-5-2"),
            scheduler="ddim",
            base=SD15,
            aliases=("mm_sd_v15_v2",),
            license=_APACHE,
        ),
        MotionSpec(
            "v3_sd15_mm",
            Source("guoyww/animatediff-motion-adapter-v1-5-3"),
            scheduler="ddim",
            base=SD15,
            license=_APACHE,
        ),
        MotionSpec(
            "animatelcm",
            Source("wangfuyun/AnimateLCM"),
            scheduler="lcm",
            steps=6,
            guidance_scale=2.0,
            loras=(
                (
                    LoraSpec(
                        "animatelcm-lora",
                        Source("wangfuyun/AnimateLCM", file="AnimateLCM_sd15_t2v_lora.safetensors"),
                        base=SD15,
                    ),
                    0.8,
                ),
            ),
            base=SD15,
            license="see its Hub page",
        ),
        MotionSpec(
            "animateDiff-lightning",
            Source("ByteDance/AnimateDiff-Lightning", revision="368eff5011273f6f7ff8d2b73382fc28f66ad25d"),
            scheduler="euler-trailing",
            steps=4,
            guidance_scale=1.0,
            all_steps=True,
            step_files={steps: f"animatediff_lightning_{steps}step_diffusers.safetensors" for steps in LIGHTNING_STEPS},
            base=SD15,
            aliases=("animatediff-lightning",),
            license=_OPENRAIL,
        ),
    )
}
"""Motion modules by name."""

_UPSTREAM = {
    "zoom-in": "ZoomIn",
    "zoom-out": "ZoomOut",
    "pan-left": "PanLeft",
    "pan-right": "PanRight",
    "tilt-up": "TiltUp",
    "tilt-down": "TiltDown",
    "rolling-clockwise": "RollingClockwise",
    "rolling-anticlockwise": "RollingAnticlockwise",
}

MOTION_LORAS = {
    name: LoraSpec(
        name,
        Source(f"guoyww/animatediff-motion-lora-{name}"),
        base=SD15,
        aliases=(name.replace("-", "_"), f"v2_lora_{upstream}"),
        license=_APACHE,
    )
    for name, upstream in _UPSTREAM.items()
}
"""AnimateDiff's eight camera movements; made for ``v2_sd15_mm`` and the modules of its build."""

ADAPTERS = {
    "v3_sd15_adapter": LoraSpec(
        "v3_sd15_adapter",
        Source("guoyww/animatediff-motion-lora-v1-5-3"),
        base=SD15,
        aliases=("v3_adapter_sd_v15",),
        license=_APACHE,
    )
}
"""Domain adapters: LoRAs of the spatial weights, whose strength is ``domain_lora_scale``."""
