"""The manifest and the sidecar of a whole clip, which name all of its jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.prices import amount_text
from airflow_provider_modelslab.storage.result_manifest import SCHEMA_VERSION, object_facts
from airflow_provider_modelslab.storage.sidecar import write_sidecar

if TYPE_CHECKING:
    from airflow_provider_modelslab.jobs.whole_clip.clip import WholeClip
    from airflow_provider_modelslab.jobs.whole_clip.segments import SegmentSet
    from airflow_provider_modelslab.storage.landing import LandedObject

__all__ = ["describe_whole"]

_OF_A_SEGMENT = ("uri", "job_id", "seed", "generation_time_s", "cost", "currency", "submitted_at")


def describe_whole(
    clip: WholeClip,
    segments: SegmentSet,
    results: Sequence[Mapping[str, Any]],
    landed: LandedObject,
    *,
    size: tuple[int, int],
    with_sound: bool,
) -> dict[str, Any]:
    """Write the sidecar of a clip that has landed, and return its manifest.

    :param results: the manifests of the segments, in order.
    :param size: width and height in pixels.
    :param with_sound: whether the result has the clip's sound.
    :raises LandingError: when S3 refuses the sidecar.
    """
    plan, sound = segments.plan, segments.sound
    record = clip.request.record()
    jobs = [result["job_id"] for result in results]
    facts: dict[str, Any] = {
        "job_id": jobs[0] if len(jobs) == 1 else None,
        "submitted_at": min((str(at) for result in results if (at := result.get("submitted_at"))), default=None),
        "seed": segments.seed,
        "generation_time_s": _sum([result.get("generation_time_s") for result in results]),
        **_cost(results),
        "clip_mode": "whole",
        "frames": plan.total,
        "fps": plan.fps,
        "audio": sound.codec if with_sound else None,
    }
    if sound.problem is not None and clip.settings.audio != "drop":
        facts["audio_problem"] = sound.problem
    meta = {"width": size[0], "height": size[1], "num_frames": plan.total, "fps": plan.fps, "seed": segments.seed}
    parts = [
        {
            "number": segment.index + 1,
            "first_frame": segment.first,
            "frames": segment.frames,
            "seconds": [round(segment.first / plan.fps, 3), round(segment.end / plan.fps, 3)],
            **{name: result[name] for name in _OF_A_SEGMENT if result.get(name) is not None},
        }
        for segment, result in zip(plan.segments, results, strict=True)
    ]
    sidecar = write_sidecar(
        clip.hook.get_s3_client(),
        landed,
        {
            **facts,
            "request": record,
            "meta": meta,
            "overlap": segments.overlap,
            "audio_copied": sound.copied if with_sound else None,
            "segments": parts,
        },
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "landed",
        "conn_id": clip.hook.modelslab_conn_id,
        "model_id": clip.request.model_id,
        "expires_at": None,
        **object_facts(landed, sidecar),
        **facts,
        "segments": len(parts),
        "jobs": jobs,
    }


def _sum(seconds: Sequence[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return round(sum(known), 3) if len(known) == len(seconds) else None


def _cost(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What all segments did cost together; empty where it is unknown of one, or the currency changed meanwhile."""
    currencies = {result.get("currency") for result in results}
    if len(currencies) != 1 or not all(result.get("cost") for result in results):
        return {}
    total = sum((Decimal(result["cost"]) for result in results), Decimal(0))
    return {"cost": amount_text(total), "currency": str(currencies.pop())}
