"""The response check of the HTTP provider's trigger; it loads this module anew before each look."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests


async def is_done(response: requests.Response) -> bool:
    """Whether an answer to a fetch says that the job is done."""
    return bool(response.json()["status"] == "success")
