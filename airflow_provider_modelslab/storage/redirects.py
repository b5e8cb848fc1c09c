"""A store that redirects every request sends botocore round in circles; here it is stopped after one.

Where a redirect names no region, botocore asks for the bucket's with ``HeadBucket``, and does the same where that one
is redirected: until Python's stack is full.
"""

from __future__ import annotations

from typing import Any

__all__ = ["stop_redirect_loops"]

_REGION = "x-amz-bucket-region"


def stop_redirect_loops(client: Any) -> None:
    """Let a redirected ``HeadBucket`` that names no region be an error of this client, as any other answer."""
    # Handlers of one operation are called before those of all, botocore's among them.
    client.meta.events.register("needs-retry.s3.HeadBucket", _end_here)


def _end_here(
    request_dict: dict[str, Any] | None = None, response: tuple[Any, dict[str, Any]] | None = None, **_: Any
) -> None:
    if not request_dict or response is None:
        return
    _, parsed = response
    headers = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if _REGION not in headers and not parsed.get("Error", {}).get("Region"):
        request_dict.get("context", {}).get("s3_redirect", {})["redirected"] = True
