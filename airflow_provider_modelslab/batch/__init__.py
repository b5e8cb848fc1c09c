"""Many clips as one piece of work: found, planned, skipped where they have landed, counted. Runs nothing itself."""

__all__ = ["DEFAULT_TEMPLATE"]

DEFAULT_TEMPLATE = "{path}/{stem}.{ext}"
"""How results are named by default: the clip's own place and name below the output prefix."""
