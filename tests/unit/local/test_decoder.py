"""Clips that nobody vouches for are decoded by another process, within limits; what breaks them becomes an error."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from airflow_provider_modelslab.api.errors import ClipUnreadableError, ErrorCode, JobFailedError
from airflow_provider_modelslab.api.response import Failed, read_answer
from airflow_provider_modelslab.local.media import decode
from airflow_provider_modelslab.local.media.decode import open_clip, read_frames
from airflow_provider_modelslab.local.media.decoder import process, video
from airflow_provider_modelslab.local.media.decoder.process import Decoder, close_idle
from airflow_provider_modelslab.local.media.encode import write_gif, write_mp4
from benchmarks.hostile_clips.bombs import many_samples, picture_movie, png
from benchmarks.hostile_clips.boxes import box, full_box, movie, places, sample_table, track
from tests.support.moving import distance, moving_frames


@pytest.fixture
def new_decoders() -> Iterator[None]:
    """For tests that change how decoders are started."""
    close_idle()
    yield
    close_idle()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_mp4(moving_frames(8, 64, 48), path, 8)
    return path


def refused(path: Path, content: bytes | None = None) -> ClipUnreadableError:
    """The error of reading it, which the client of a served endpoint takes for one of the clip too."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ClipUnreadableError) as caught:
        read_frames(path, 4)
    error = caught.value
    assert (error.code, error.retryable) == (ErrorCode.CLIP_UNREADABLE, False)
    answer = read_answer(200, f'{{"status": "failed", "id": 7, "message": "{error.message}"}}', polling=True)
    assert isinstance(answer, Failed)
    assert answer.to_error().code is ErrorCode.CLIP_UNREADABLE
    return error


@pytest.mark.parametrize("tracks", [1, 3])
def test_an_mp4_of_656_bytes_that_promises_50_million_samples(tmp_path: Path, tracks: int) -> None:
    refused(tmp_path / "a.mp4", many_samples(tracks))


@pytest.mark.parametrize("header", [(64, 48), (16000, 16000)])
def test_a_png_of_16000_x_16000_in_an_mp4(tmp_path: Path, header: tuple[int, int]) -> None:
    refused(tmp_path / "a.mp4", picture_movie(b"png ", [png(16000, 16000, rows=50)], *header))


def test_frames_of_8k_are_too_large_and_the_error_says_how_large(tmp_path: Path) -> None:
    error = refused(tmp_path / "a.mp4", picture_movie(b"png ", [png(7680, 4320, rows=50)], 7680, 4320))
    assert "7680x4320" in error.message


def test_a_clip_that_changes_its_size_counts_each_frame_at_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = png(64, 48), png(320, 240)
    path = tmp_path / "a.mp4"
    path.write_bytes(picture_movie(b"png ", [small, large, large], 64, 48))
    frames, _ = read_frames(path, 3)
    assert [frame.size for frame in frames] == [(64, 48), (320, 240), (320, 240)]
    monkeypatch.setattr(decode, "MAX_CLIP_PIXELS", 64 * 48 + 320 * 240)
    refused(path)
    monkeypatch.setattr(decode, "MAX_FRAME_PIXELS", 320 * 240 - 1)
    assert "320x240" in refused(path).message


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_frames_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = tmp_path / "clip"
    (write_gif if kind == "gif" else write_mp4)(moving_frames(8, 16, 16), path, 8)
    monkeypatch.setattr(decode, "MAX_CLIP_FRAMES", 7)
    assert "at most 7" in refused(path).message


def test_the_frames_of_a_gif_are_counted_before_they_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow takes 20 microseconds for each, and a MiB holds 45,000 of one pixel."""
    frame = b"\x21\xf9\x04\x04\x04\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    content = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff" + frame * 250_000 + b";"
    monkeypatch.setattr(decode, "CPU_SECONDS", 1)
    monkeypatch.setattr(decode, "CPU_SECONDS_PER_MIB", 0)
    monkeypatch.setattr(decode, "CLOCK_FACTOR", 100)
    assert str(decode.MAX_CLIP_FRAMES) in refused(tmp_path / "a.gif", content).message


def test_a_gif_may_have_fewer_pixels_than_an_mp4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_GIF_PIXELS", 8 * 16 * 16 - 1)
    for kind, write in (("mp4", write_mp4), ("gif", write_gif)):
        write(moving_frames(8, 16, 16), tmp_path / kind, 8)
    assert len(read_frames(tmp_path / "mp4", 4)[0]) == 4
    refused(tmp_path / "gif")


@pytest.mark.usefixtures("new_decoders")
def test_memory_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    monkeypatch.setattr(process, "_MEMORY_BYTES", 48 << 20)
    error = refused(tmp_path / "a.mp4", picture_movie(b"png ", [png(4096, 2304)], 4096, 2304))
    assert "48 MiB" in error.message
    monkeypatch.undo()
    assert len(read_frames(clip, 4)[0]) == 4  # by another one


def test_less_than_1_gib_with_everything() -> None:
    decoder = Decoder()
    try:
        with pytest.raises(ClipUnreadableError):
            decoder.decode(os.open(os.devnull, os.O_RDONLY), _job(), _nothing, seconds=60)
        limits = Path(f"/proc/{decoder.pid}/limits").read_text()
    finally:
        decoder.close()
    address_space = int(next(line for line in limits.splitlines() if line.startswith("Max address space")).split()[3])
    assert address_space < 1.2 * (1 << 30)  # libraries are mapped in it, of which little is in memory


@pytest.mark.slow
def test_processor_time_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "CPU_SECONDS", 1)
    monkeypatch.setattr(decode, "CPU_SECONDS_PER_MIB", 0)
    monkeypatch.setattr(decode, "CLOCK_FACTOR", 100)
    write_gif(moving_frames(1, 500, 500), tmp_path / "one.gif", 8)
    head, _, picture = (tmp_path / "one.gif").read_bytes().partition(b"\x21\xf9")
    path = tmp_path / "bomb.gif"
    path.write_bytes(head + (b"\x21\xf9" + picture[:-1]) * 1950 + b";")
    assert "1 s of processor time" in refused(path).message


def test_a_busy_machine_is_not_the_clips_fault(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "CLOCK_FACTOR", 0)
    with pytest.raises(JobFailedError) as caught:
        read_frames(clip, 4)
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.JOB_FAILED, True)
    monkeypatch.undo()
    assert len(read_frames(clip, 4)[0]) == 4


@pytest.mark.parametrize("head", [b"\0\0\0\x18ftyp", b"GIF89a"])
def test_a_larger_file_has_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    seen: list[tuple[int, float]] = []

    def decode_clip(_clip: int, job: dict[str, Any], _keep: object, *, seconds: float) -> None:
        seen.append((job["cpu_seconds"], seconds))
        raise JobFailedError("seen")

    monkeypatch.setattr(decode, "decode_clip", decode_clip)
    for mebibytes in (0, 1, 10, 500):
        with (tmp_path / "clip").open("wb") as file:
            file.write(head)
            file.truncate(max(len(head), mebibytes << 20))
        with pytest.raises(JobFailedError, match="seen"):
            read_frames(tmp_path / "clip", 4)
    assert seen == [(8, 12), (10, 15), (37, 55.5), (300, 450)]


def _nothing(*_: object) -> None:
    pass


def _job() -> dict[str, Any]:
    return {
        "kind": "mp4", "count": 4, "size": None, "max_frame_pixels": 10**6, "max_clip_pixels": 10**9,
        "max_frames": 1000, "cpu_seconds": 10,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stopped_by", "error"),
    [
        (signal.SIGSEGV, ClipUnreadableError),
        (signal.SIGABRT, ClipUnreadableError),
        (signal.SIGXCPU, ClipUnreadableError),
        (signal.SIGKILL, JobFailedError),  # the system's, for want of memory
        (signal.SIGTERM, JobFailedError),
    ],
)
def test_a_decoder_that_is_stopped_by_a_signal(clip: Path, stopped_by: signal.Signals, error: type[Exception]) -> None:
    decoder = Decoder()
    try:
        os.kill(decoder.pid, stopped_by)
        with clip.open("rb") as file, pytest.raises(JobFailedError) as caught:
            decoder.decode(file.fileno(), _job(), _nothing, seconds=60)
    finally:
        decoder.close()
    assert type(caught.value) is error
    assert not decoder.sound


@pytest.mark.usefixtures("new_decoders")
@pytest.mark.parametrize("stopped_by", [signal.SIGSEGV, signal.SIGKILL])
def test_a_clip_is_not_blamed_for_the_crash_of_a_decoder_that_read_others(
    clip: Path, monkeypatch: pytest.MonkeyPatch, stopped_by: signal.Signals
) -> None:
    read_frames(clip, 4)
    (idle,) = process._idle
    os.kill(idle.pid, stopped_by)
    idle._process.wait()
    monkeypatch.setattr(Decoder, "usable", True)  # it is found out with the clip in hand
    assert len(read_frames(clip, 4)[0]) == 4
    assert process._idle != [idle]


@pytest.mark.usefixtures("new_decoders")
def test_one_decoder_reads_one_clip_after_the_other_bad_ones_too(tmp_path: Path, clip: Path) -> None:
    read_frames(clip, 4)
    (first,) = process._idle
    for number in range(3):
        refused(tmp_path / f"{number}.mp4", b"\0\0\0\x18ftypisom" + bytes(64))
        read_frames(clip, 4)
    assert process._idle == [first]
    assert first.jobs == 7


def test_a_decoder_keeps_no_frames_and_threads_of_the_clips_that_it_has_read(tmp_path: Path) -> None:
    """A frame of PyAV whose side data were read refers to itself, and holds its pixels and threads."""
    path = tmp_path / "clip.mp4"
    write_mp4(moving_frames(2, 1280, 720), path, 8)
    decoder = Decoder()
    sizes = []
    try:
        for _ in range(12):
            with path.open("rb") as file:
                decoder.decode(file.fileno(), _job(), _nothing, seconds=60)
            with pytest.raises(ClipUnreadableError):  # its answer comes after the clip before was let go
                decoder.decode(os.open(os.devnull, os.O_RDONLY), _job(), _nothing, seconds=60)
            status = dict(line.split(":", 1) for line in Path(f"/proc/{decoder.pid}/status").read_text().splitlines())
            assert int(status["Threads"]) == 1
            sizes.append(int(status["VmSize"].split()[0]))
    finally:
        decoder.close()
    assert sizes[-1] < sizes[1] + 4096  # KiB


@pytest.mark.usefixtures("new_decoders")
def test_threads_read_at_the_same_time(clip: Path) -> None:
    expected, _ = read_frames(clip, 8)
    with ThreadPoolExecutor(3) as pool:
        for frames, _ in pool.map(lambda _: read_frames(clip, 8), range(6)):
            assert distance(frames, expected) == 0
    assert len(process._idle) == 1


def test_frames_come_in_the_size_that_is_wanted(clip: Path) -> None:
    frames, _ = read_frames(clip, 4)
    small, _ = read_frames(clip, 4, size=(20, 30))
    assert {frame.size for frame in small} == {(20, 30)}
    assert distance(decode.resize_frames(frames, 20, 30), small) == 0


_FORKS = """
import os, sys
from pathlib import Path
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.decoder import process
clip = Path(sys.argv[1])
read_frames(clip, 4)
(parents,) = process._idle
if (child := os.fork()) == 0:
    read_frames(clip, 4)
    os._exit(0 if process._idle[0].pid != parents.pid else 1)
assert os.waitpid(child, 0)[1] == 0
read_frames(clip, 4)
assert process._idle == [parents] and parents.jobs == 2
print(parents.pid)
"""


def test_a_forked_process_starts_its_own_and_the_last_one_ends_with_its_parent(clip: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _FORKS, str(clip)], check=True, capture_output=True, text=True, env={**os.environ}
    )
    assert not Path(f"/proc/{run.stdout.strip()}").exists()


def test_a_decoder_can_open_no_other_file_and_no_connection(clip: Path) -> None:
    """Told by the system, whatever the libraries do: descriptors have run out."""
    with clip.open("rb") as file:
        decoder = Decoder()
        try:
            decoder.decode(file.fileno(), _job(), _nothing, seconds=60)
            limits = Path(f"/proc/{decoder.pid}/limits").read_text()
            descriptors = {int(entry.name) for entry in Path(f"/proc/{decoder.pid}/fd").iterdir()}
        finally:
            decoder.close()
    allowed = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert descriptors == {0, 1, 2}
    assert allowed["Max open files"] == ["4", "4"]  # the fourth is the clip's
    assert allowed["Max file size"] == ["0", "0"]
    assert allowed["Max core file size"] == ["0", "0"]


def test_a_decoder_knows_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSLAB_API_KEY", "secret")
    decoder = Decoder()
    try:
        assert b"secret" not in Path(f"/proc/{decoder.pid}/environ").read_bytes()
    finally:
        decoder.close()


def test_a_decoder_that_cannot_import_its_libraries_says_so(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = process._command()
    monkeypatch.setattr(process, "_command", lambda: command[:4])
    close_idle()
    with pytest.raises(JobFailedError, match="cannot be imported") as caught:
        read_frames(clip, 4)
    assert caught.value.code is ErrorCode.JOB_FAILED
    monkeypatch.setattr(process, "_command", lambda: ["/nowhere/python"])
    with pytest.raises(JobFailedError, match="cannot be started"):
        read_frames(clip, 4)


def test_a_clip_that_is_gone_is_no_unreadable_clip(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError) as caught:
        read_frames(tmp_path / "none.mp4", 4)
    assert caught.value.code is ErrorCode.JOB_FAILED


@pytest.mark.parametrize("name", ["concat:other.mp4", "file:other.mp4", "http:a", "subfile,,start,0,end,9,,:other.mp4"])
def test_a_clips_name_is_no_address(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_mp4(list(reversed(moving_frames(8, 64, 48))), Path("other.mp4"), 8)
    Path(name).write_bytes(clip.read_bytes())
    assert distance(read_frames(Path(name), 4)[0], read_frames(clip, 4)[0]) == 0


def test_media_in_another_file_are_not_read(tmp_path: Path, clip: Path) -> None:
    """The reference may name a file or an address; this clip is one whose media would be whole there."""
    data = clip.read_bytes()
    start = next(place.start for place in places(data) if place.kind == b"mdat")
    (tmp_path / "elsewhere.mp4").write_bytes(data)
    reference = full_box(b"url ", b"file://" + str(tmp_path / "elsewhere.mp4").encode() + b"\0")
    sizes = (len(data) - start - 8,)
    refused(tmp_path / "a.mp4", movie(track(sample_table(b"avc1", sizes=sizes, offset=start + 8), reference=reference)))


TEXT = b"caf\xe9 \xff\xfe \x80"  # no UTF-8


def test_metadata_that_is_not_utf8(tmp_path: Path, clip: Path) -> None:
    name = box(b"\xa9nam", struct.pack(">HH", len(TEXT), 0x55C4) + TEXT)
    data = clip.read_bytes()
    moov = next(place for place in places(data) if place.kind == b"moov")
    end = moov.start + moov.length
    more = box(b"udta", name)
    # At the end, so that the media stay where the index says.
    longer = struct.pack(">I", moov.length + len(more)) + data[moov.start + 4 : end] + more
    path = tmp_path / "a.mp4"
    path.write_bytes(data[: moov.start] + box(b"free", data[moov.start + 8 : end]) + data[end:] + longer)
    with av.open(str(path), metadata_errors="replace") as container:
        assert "caf" in container.metadata["title"]
    assert distance(read_frames(path, 8)[0], read_frames(clip, 8)[0]) == 0


def test_a_gif_with_a_comment_that_is_not_utf8(tmp_path: Path) -> None:
    write_gif(moving_frames(4, 16, 16), tmp_path / "a.gif", 8)
    data = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "b.gif").write_bytes(data[:-1] + b"\x21\xfe" + bytes([len(TEXT)]) + TEXT + b"\0;")
    assert distance(read_frames(tmp_path / "b.gif", 4)[0], read_frames(tmp_path / "a.gif", 4)[0]) == 0


@pytest.mark.parametrize(
    "block",
    [
        b"\x21\xf9\x01\x00\x00",  # a control block that is too short: struct.error
        b"\x21\xf9\x00",  # and empty: IndexError
        b"\x21\xff\x0bNETSCAPE2.0\x00",
        b"\x2c\x00\x00",  # a picture without a size
        b"\x2c" + bytes(9),  # without a data block
        b"\x2c\0\0\0\0\x10\0\x10\0\0\x0d\x01\x00\x00",  # with codes of 13 bits
    ],
)
@pytest.mark.parametrize("whole_frames", [0, 3])
def test_damaged_gifs(tmp_path: Path, block: bytes, whole_frames: int) -> None:
    write_gif(moving_frames(3, 16, 16), tmp_path / "a.gif", 8)
    data = (tmp_path / "a.gif").read_bytes()
    path = tmp_path / "b.gif"
    if whole_frames:
        path.write_bytes(data[:-1] + block)
        frames, _ = read_frames(path, 3)
        assert distance(frames[:2], read_frames(tmp_path / "a.gif", 3)[0][:2]) == 0
    else:
        refused(path, data[: 13 + 768] + block)


def test_what_is_done_with_frames_does_not_count(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes the frames as they come may be slower than any clip."""
    late = 0.0

    def take(*_: object) -> None:
        nonlocal late
        late += 1000.0

    shifted = SimpleNamespace(monotonic=lambda: time.monotonic() + late)
    monkeypatch.setattr(process, "time", shifted)
    with open_clip(clip) as (descriptor, limits):
        job = {**limits, "count": 3, "size": None}
        process.decode_clip(descriptor, job, take, seconds=60)
    assert late == 3000.0


def test_a_damaged_packet_costs_its_frames_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    pictures = [png(64, 48), b"\0" * 40, png(64, 48), png(64, 48)]
    path.write_bytes(picture_movie(b"png ", pictures, 64, 48))
    frames, _ = read_frames(path, 3)
    assert len(frames) == 3
    refused(path, picture_movie(b"png ", pictures[1:2] * 4, 64, 48))


def test_a_damaged_clip_is_the_same_whatever_the_number_of_threads(tmp_path: Path, clip: Path) -> None:
    """With threads FFmpeg drops frames around the damage that one thread shows."""
    data = clip.read_bytes()
    media = next(place for place in places(data) if place.kind == b"mdat")
    middle = media.start + media.length // 3
    path = tmp_path / "a.mp4"
    path.write_bytes(data[:middle] + b"\xff" * 60 + data[middle + 60 :])
    frames, _ = read_frames(path, 8)
    os.sched_setaffinity(0, before := os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(0, {min(before)})
        close_idle()
        alone, _ = read_frames(path, 8)
    finally:
        os.sched_setaffinity(0, before)
        close_idle()
    assert distance(frames, alone) == 0


def test_a_count_of_samples_that_lies_hides_no_frames(tmp_path: Path, clip: Path) -> None:
    data = clip.read_bytes()
    table = next(place for place in places(data) if place.kind == b"stts").start + 16
    path = tmp_path / "a.mp4"
    path.write_bytes(data[:table] + b"\x7f\xff\xff\xff" + data[table + 4 :])
    assert distance(read_frames(path, 8)[0], read_frames(clip, 8)[0]) == 0


def test_a_gif_that_pillow_gives_up_is_read_by_ffmpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    write_gif(moving_frames(6, 48, 32), path, 8)
    whole, _ = read_frames(path, 6)
    data = path.read_bytes()
    control = data.index(b"\x21\xf9\x04")
    path.write_bytes(data[:control] + b"\x21\xf9\x01\x00\x00" + data[control:])  # Pillow: struct.error
    frames, fps = read_frames(path, 6)
    assert fps == pytest.approx(8, rel=0.1)
    assert distance(frames, whole) < 1


def test_codecs_that_no_player_plays_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w", format="mov") as container:
        stream = container.add_stream("dpx", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    assert "dpx" in refused(path).message
    assert "dpx" not in video.DECODERS
