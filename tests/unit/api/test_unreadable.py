"""A failed job whose text clearly blames the clip is told from one that fails for any other cause."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_modelslab.api.errors import ClipUnreadableError, ErrorCode, JobFailedError
from airflow_provider_modelslab.api.response import Failed, read_answer
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.fetch import FetchLimits, fetch_clip
from tests.support.samples import branded, small_mp4

BLAMES_THE_CLIP = [
    "Invalid data found when processing input",
    "[mov,mp4 @ 0x1] moov atom not found",
    "Could not decode the video",
    "cannot open the input video file",
    "Failed to decode video frames",
    "failed to open input",
    "Unable to read the clip",
    "Error opening input: Invalid data found when processing input",
    "error while decoding the video stream",
    "The video could not be decoded",
    "Input video can't be opened",
    "init_video cannot be read",
    "The uploaded file video is corrupted",
    "the mp4 file seems to be damaged",
    "Corrupt input",
    "Unsupported codec: prores_raw",
    "unsupported video codec",
    "Unsupported pixel format yuv444p16",
    "clip.mp4 is not a valid video",
    "Invalid video file",
    "No video stream found",
    "no frames in the clip",
]
SOMETHING_ELSE = [
    "",
    "out of memory",
    "CUDA out of memory while decoding the video",
    "could not read from queue",
    "could not read input from queue",
    "Failed to decode latents",
    "failed to decode video latents",
    "could not open the video writer",
    "cannot open video encoder",
    "failed to open file model.safetensors",
    "could not open the video: HTTP 404",
    "cannot read video: 403 Forbidden",
    "could not read the video: connection reset",
    "unable to read the clip: timed out",
    "the video could not be read: timeout",
    "Failed to download the video",
    "could not open video: too many open files",
    "could not open input: No such file or directory",
    "unsupported output format",
    "no video was generated",
    "invalid video length",
    "the result video is corrupt",
    "The server is broken",
    "internal error: cannot read input",
    "video generation failed",
    "init_video the server returned HTTP 404; give a link to a clip that can be read",
    "init_video cannot be downloaded (ConnectTimeout); got 'https://host/a.mp4'",
    "init_video the download stopped after 5 of 9 bytes; got 'https://host/a.mp4'",
    "the job was interrupted",
]


def failed(message: str, *, polling: bool = True) -> Failed:
    answer = read_answer(200, json.dumps({"status": "failed", "id": 7, "message": message}), polling=polling)
    assert isinstance(answer, Failed)
    return answer


@pytest.mark.parametrize("polling", [True, False])
@pytest.mark.parametrize("text", BLAMES_THE_CLIP)
def test_a_text_that_blames_the_clip(text: str, polling: bool) -> None:
    for message in (text, text.upper(), f"Failed, Try Again: {text}"):
        error = failed(message, polling=polling).to_error()
        assert isinstance(error, ClipUnreadableError)
        assert (error.code, error.job_id, error.retryable) == (ErrorCode.CLIP_UNREADABLE, "7", False)
        assert message in error.message


@pytest.mark.parametrize("text", SOMETHING_ELSE)
def test_a_text_that_blames_something_else(text: str) -> None:
    error = failed(f"Failed, Try Again: {text}").to_error()
    assert (type(error), error.code) == (JobFailedError, ErrorCode.JOB_FAILED)


def test_an_answer_that_is_no_failed_job_is_not_read_so() -> None:
    """A refused submit is not paid for, and an error in unknown words ends no wait by itself."""
    body = json.dumps({"status": "error", "message": "Could not decode the video"})
    for polling in (True, False):
        answer = read_answer(200, body, polling=polling)
        assert isinstance(answer, Failed)
        assert answer.to_error().code is ErrorCode.VALIDATION


CUT = small_mp4()[: len(small_mp4()) // 2]  # its index, at the end, is gone
UNREADABLE = {
    "cut off": CUT,
    "boxes without content": branded(b"isom", b"isom"),
    "noise": b"\0\0\0\x18ftypisom" + bytes(range(256)) * 9,
    "cut gif": b"GIF89a\x10\0\x10\0" + b"\0" * 3,
    "huge gif": b"GIF89a" + b"\xff" * 40,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_the_local_pipeline_and_the_served_endpoint_say_of_such_a_clip(name: str, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(UNREADABLE[name])
    with pytest.raises(ClipUnreadableError) as caught:
        read_frames(fetch_clip(str(path), tmp_path, limits=FetchLimits()), 4)
    assert failed(f"Failed, Try Again: {caught.value.message}").to_error().code is ErrorCode.CLIP_UNREADABLE
