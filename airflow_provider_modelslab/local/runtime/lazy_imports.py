"""diffusers and transformers, imported when first used (seconds), without their progress bars in a task's log.

They are typed as ``Any``: neither has types that a strict check could use.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["load_diffusers", "load_transformers"]


def load_diffusers() -> Any:
    """The module ``diffusers``."""
    diffusers: Any = importlib.import_module("diffusers")
    load_transformers()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers


def load_transformers() -> Any:
    """The module ``transformers``."""
    transformers: Any = importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    return transformers
