"""Replacing a part of the package, or of a library, in this process."""

from __future__ import annotations

__all__ = ["replace"]


def replace(owner: object, name: str, value: object) -> None:
    """Set an attribute that is there: one that was renamed would be replaced without effect.

    :raises AttributeError: when there is none of this name.
    """
    getattr(owner, name)
    setattr(owner, name, value)
