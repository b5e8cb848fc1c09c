"""Stops botocore's endless redirects with a store that redirects every request.

If a redirect names no region, botocore reads the bucket's region with ``HeadBucket``, and does the same if that request
is redirected, until Python's stack is full.
"""

from __future__ import annotations

from typing import Any

__all__ = ["stop_redirect_loops"]

_REGION = "x-amz-bucket-region"


def stop_redirect_loops(client: Any) -> None:
    """Make a redirected ``HeadBucket`` without a region an error of this client, like other error responses."""
    # Handlers of one operation are called before those of all operations, such as botocore's.
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
