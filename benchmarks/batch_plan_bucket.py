"""The bucket of ``benchmarks.batch_plan`` and of its server. Imports nothing: the memory of some users is measured."""

from __future__ import annotations

__all__ = ["BUCKET", "FOLDERS"]

BUCKET = "clips"
FOLDERS = 20
"""The clips are spread over this many folders below ``in/``."""
