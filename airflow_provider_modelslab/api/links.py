"""Telling links from the other places that a clip or a result can be: objects in S3 and files."""

from __future__ import annotations

__all__ = ["is_http_link"]


def is_http_link(text: str) -> bool:
    """Whether a text begins as an http(s) link does, in capitals or not; what follows is not looked at."""
    return text[:8].lower().startswith(("http://", "https://"))
