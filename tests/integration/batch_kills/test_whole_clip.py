"""A whole clip whose worker is killed ten times with SIGKILL: each segment is paid for once, and one object lands."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.kills.moments import Strike
from tests.support.kills.processes import Processes
from tests.support.kills.vendor import Vendor
from tests.support.s3 import keys_of
from tests.support.sounding import frame_times, grey_frames, write_sounding

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

SEGMENTS, FRAMES, OVERLAP, FPS = 12, 6, 2, 25
TOTAL = FRAMES + (SEGMENTS - 1) * (FRAMES - OVERLAP)
MOMENTS = ("claiming", "claimed", "answered", "submitted", "recorded", "landing", "object written", "landing recorded")
KILLS = 10


def test_ten_kills_of_a_whole_clip(
    vendor: Vendor, processes: Processes, s3: S3Client, bucket: str, tmp_path: Path, task: dict[str, Any]
) -> None:
    write_sounding(tmp_path / "in.mp4", grey_frames(TOTAL, step=4), [number / FPS for number in range(TOTAL)])
    s3.upload_file(str(tmp_path / "in.mp4"), bucket, "in.mp4")
    places = {"init_video": f"s3://{bucket}/in.mp4", "destination": f"s3://{bucket}/out/clip.mp4", "seed": None}
    whole = {"clip_mode": "whole", "num_frames": FRAMES, "overlap": OVERLAP, "deferrable": False, "max_in_flight": 2}
    shared = {name: value for name, value in task.items() if name not in {"source", "defer_after"}}
    draw, answers, killed, tries = random.Random(7), dict[str, str](), 0, 0

    def paid() -> dict[str, str]:
        """The ids of the jobs by their track_ids."""
        return {str(job["track_id"]): str(job["id"]) for job in vendor.jobs() if bucket in str(job["track_id"])}

    while True:
        tries += 1
        assert tries < 4 * KILLS
        strike = Strike(draw.choice(MOMENTS), delay=draw.uniform(0, 0.02)) if killed < KILLS else None
        process = processes.start(
            "execute",
            operator="single",
            task={**shared, **places, **whole},
            run_id=bucket,
            try_number=tries,
            max_tries=60,
            conf={"modelslab": {"submissions": answers}},
            strike=strike,
            surely=False,
        )
        outcome = processes.wait(process)
        if outcome is None:
            killed += 1
            continue
        if outcome["end"] == "success":
            break
        # A person looks up the submission that the message names, and clears the task.
        assert outcome["code"] == "submission_unknown", outcome
        advised = re.search(r'modelslab_submissions to \{"([^"]+)": "<the job\'s id>"\}', outcome["text"])
        assert advised is not None, outcome
        answers[advised[1]] = paid().get(advised[1], "resubmit")
    assert killed == KILLS
    segments = [re.search(r"/(\d{3})\.mp4/submission\d+$", name) for name in paid()]
    assert sorted(found[1] for found in segments if found) == [f"{number:03d}" for number in range(SEGMENTS)]
    assert [key for key in keys_of(s3, bucket) if key.startswith("out/clip.mp4") and "/" not in key[4:]] == [
        "out/clip.mp4",
        "out/clip.mp4.json",
    ]
    s3.download_file(bucket, "out/clip.mp4", str(tmp_path / "out.mp4"))
    assert len(frame_times(tmp_path / "out.mp4")) == TOTAL
    sidecar = json.loads(s3.get_object(Bucket=bucket, Key="out/clip.mp4.json")["Body"].read())
    assert sorted(part["job_id"] for part in sidecar["segments"]) == sorted(paid().values())
