"""The check, before anything is paid for, that a remote job keeps the proportions of its clip."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.aspect import OnStretch, Size, describe_stretch
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.links import is_http_link
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.client.config import is_vendor
from airflow_provider_modelslab.storage.clip_head import clip_size

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
    from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

__all__ = ["check_stretch", "for_each_clip", "needs_size", "stretched_clips"]

log = logging.getLogger(__name__)

_SAMPLE = 20


def _asked_size(request: EndpointRequest) -> Size | None:
    """The size that a clip is stretched to; ``None`` where the endpoint decides."""
    if not isinstance(request, Video2VideoRequest) or request.width is None or request.height is None:
        return None
    return request.width, request.height


def for_each_clip(on_stretch: OnStretch) -> OnStretch:
    """What happens to each clip of a batch: the warning is one for all of them, see :func:`stretched_clips`."""
    return "fail" if on_stretch == "fail" else "ignore"


def needs_size(request: EndpointRequest, on_stretch: OnStretch) -> bool:
    """Whether :func:`check_stretch` has to know the size of the clip."""
    return on_stretch != "ignore" and _asked_size(request) is not None


def check_stretch(request: EndpointRequest, clip: Size | None, hook: ModelsLabHook, on_stretch: OnStretch) -> None:
    """Say which sizes keep the proportions of a clip, where the request's size does not.

    :param clip: the size of its picture; where it is unknown, there is no check.
    :raises InvalidRequestError: for ``width``, with ``on_stretch="fail"``.
    """
    note = _note(request, clip, hook)
    if note is None or on_stretch == "ignore":
        return
    if on_stretch == "fail":
        raise InvalidRequestError.of("width", f"{note}. To submit the job anyway, set on_stretch='warn'")
    log.warning("THE RESULT WILL BE STRETCHED, unless the endpoint itself keeps the proportions: %s", note)


def stretched_clips(plan: BatchPlan, clips: Sequence[ClipPlan], hook: ModelsLabHook) -> str | None:
    """A warning about the clips of a batch that are going to be stretched, from up to 20 of them, spread evenly.

    The beginnings of objects and files are read; those of links are not. ``None`` where all keep their proportions.
    """
    sample = [clips[index * len(clips) // _SAMPLE] for index in range(_SAMPLE)] if len(clips) > _SAMPLE else clips
    sample = [clip for clip in sample if not is_http_link(clip.source) and _asked_size(plan.request(clip))]
    if not sample:
        return None
    hook.get_s3_client()  # made by this thread
    with ThreadPoolExecutor(_SAMPLE, thread_name_prefix="modelslab-sizes") as pool:
        sizes = list(pool.map(lambda clip: clip_size(clip.source, hook.get_s3_client), sample))
    notes = [
        (clip, note)
        for clip, size in zip(sample, sizes, strict=True)
        if (note := _note(plan.request(clip), size, hook)) is not None
    ]
    if not notes:
        return None
    clip, note = notes[0]
    return (
        f"RESULTS WILL BE STRETCHED, unless the endpoint itself keeps the proportions: {len(notes)} of the "
        f"{len(sample)} clips that were checked. The first is {clip.safe_source}: {note}"
    )


def _note(request: EndpointRequest, clip: Size | None, hook: ModelsLabHook) -> str | None:
    asked = _asked_size(request)
    if asked is None or clip is None:
        return None
    limit = Video2VideoRequest.vendor_limits["width"]
    return describe_stretch(clip, asked, limit if is_vendor(hook.base_url) else max(limit, *asked))
