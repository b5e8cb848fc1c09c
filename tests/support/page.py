"""The example request and response of the vendor's page "Enterprise: Video to Video Endpoint", as Python data.

The page's response is not the answer to its request (another model, prompt, guidance, strength): it shows the shape.
"""

from __future__ import annotations

from typing import Any

PAGE_ATTRIBUTES = (
    "key",
    "model_id",
    "negative_prompt",
    "seed",
    "height",
    "width",
    "init_video",
    "num_frames",
    "num_inference_steps",
    "guidance_scale",
    "clip_skip",
    "strength",
    "output_type",
    "fps",
    "lora_models",
    "lora_strength",
    "motion_loras",
    "motion_lora_strength",
    "domain_lora_scale",
    "adapter_lora",
    "upscale_height",
    "upscale_width",
    "upscale_strength",
    "upscale_guidance_scale",
    "upscale_num_inference_steps",
    "motion_module",
    "instant_response",
    "temp",
    "webhook",
    "track_id",
)
"""The table of the page, which lacks three attributes of its own example."""

SAMPLE_REQUEST: dict[str, Any] = {
    "key": "",
    "model_id": "dark-sushi-mix",
    "prompt": "fox playing ukulele on a boat floating on magma flowing under the boat",
    "negative_prompt": "low quality",
    "init_video": (
        "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/diffusers/"
        "animatediff-vid2vid-output-1.gif"
    ),
    "clip_skip": 2,
    "num_inference_steps": 40,
    "use_improved_sampling": False,
    "guidance_scale": 9.5,
    "strength": 0.8,
    "base64": False,
    "webhook": None,
    "track_id": None,
}

SAMPLE_RESPONSE: dict[str, Any] = {
    "status": "success",
    "generationTime": 8.49,
    "id": 500,
    "output": [
        "https://pub-3626123a908346a7a8be8d9295f44e26.r2.dev/generations/05ffff8d-a0ba-4019-9df0-5de966c52ad5.gif"
    ],
    "proxy_links": ["https://cdn2.stablediffusionapi.com/generations/05ffff8d-a0ba-4019-9df0-5de966c52ad5.gif"],
    "meta": {
        "base64": "no",
        "clip_skip": None,
        "file_prefix": "05ffff8d-a0ba-4019-9df0-5de966c52ad5",
        "fps": 7,
        "guidance_scale": 7,
        "height": 512,
        "init_video": (
            "https://pub-3626123a908346a7a8be8d9295f44e26.r2.dev/generations/af5057ce-2a53-4d8f-bdb7-f0e5a6d4064c.mp4"
        ),
        "instant_response": "no",
        "model_id": "midjourney",
        "negative_prompt": "low quality",
        "num_frames": 16,
        "num_inference_steps": 20,
        "output_type": "gif",
        "prompt": "An astronaut riding a horse",
        "seed": 3276424082,
        "strength": 0.7,
        "temp": "no",
        "width": 512,
    },
}
