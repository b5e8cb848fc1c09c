"""diffusers and transformers, imported when first used (seconds), without progress bars and needless warnings.

They are typed as ``Any``: neither has types that a strict check could use.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

__all__ = ["load_diffusers", "load_transformers"]


def load_diffusers() -> Any:
    """The module ``diffusers``."""
    load_transformers()
    diffusers: Any = importlib.import_module("diffusers")
    diffusers.utils.logging.disable_progress_bar()
    return diffusers


def load_transformers() -> Any:
    """The module ``transformers``."""
    logging.getLogger("transformers.utils.import_utils").addFilter(_is_of_use)
    transformers: Any = importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _is_of_use(record: logging.LogRecord) -> bool:
    """No warning that torchvision is missing: a pipeline imports image processors, which nothing here uses."""
    return "requires torchvision" not in record.getMessage()
