"""A small hostile run, and that its watch sees what it is there to see."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_modelslab.api.errors import ClipUnreadableError
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.decoder import process
from airflow_provider_modelslab.local.media.decoder.process import Decoder
from benchmarks import hostile
from benchmarks.hostile_clips import damage
from benchmarks.hostile_clips.host import BEHAVIOURS
from benchmarks.hostile_clips.inputs import FAMILIES, families_of
from benchmarks.hostile_clips.valid import base, frames_that_play
from benchmarks.hostile_clips.watch import Watch


@pytest.mark.slow
def test_a_small_run(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    # In a process of its own: its memory is measured too, and tests before this one have filled theirs.
    command = [sys.executable, "-m", "benchmarks.hostile", "--seed", "5", "--inputs", "60", "--json", str(written)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    figures = json.loads(written.read_text())
    assert figures["inputs"] == 60
    assert {name: figures[name] for name in hostile._MUST_BE_0} == dict.fromkeys(hostile._MUST_BE_0, 0)
    assert figures["worth_a_look"] == []
    assert figures["valid"] == figures["valid_read"] >= 60 * 0.15
    assert figures["damaged"] == figures["damaged_read"] >= 2
    assert set(figures["by_family"]) == set(FAMILIES)
    assert hostile.passed(figures)


def test_the_shares_of_a_whole_run() -> None:
    families = families_of(11, 3000)
    assert len(families) == 3000
    assert families.count("valid") >= 300
    assert families.count("damaged") >= 100
    assert families.count("host") >= len(BEHAVIOURS)


def test_the_same_seed_is_the_same_clip() -> None:
    for make in (damage.lying, damage.mutated, damage.cut, damage.spliced, damage.odd_codec, damage.playing):
        assert make(random.Random(3)).data == make(random.Random(3)).data


def test_damaged_clips_are_damaged_and_play() -> None:
    for number in range(12):
        clip = damage.playing(random.Random(number))
        assert 2 * frames_that_play(clip.data) >= clip.frames
        assert "damage" not in clip.label


@pytest.mark.parametrize(
    ("change", "worse"),
    [
        ({"unclear": 1}, True),
        ({"signals": 1}, True),
        ({"connections": 1}, True),
        ({"valid_read": 9}, True),
        ({}, False),
    ],
)
def test_what_passes(change: dict[str, int], worse: bool) -> None:
    figures = {**dict.fromkeys(hostile._MUST_BE_0, 0), "valid": 10, "valid_read": 10, **change}
    assert hostile.passed(figures) is not worse


def test_the_watch_sees_a_canary_that_is_read_or_called(tmp_path: Path) -> None:
    with Watch(tmp_path, b"clip") as watch:
        assert not watch.seen().files
        subprocess.run(["cat", watch.canaries.file], check=True, stdout=subprocess.DEVNULL)  # noqa: S607
        assert watch.seen().files == ["the canary was opened"]
        with socket.create_connection(("127.0.0.1", watch.canaries.port)):
            assert len(watch.seen().connections) == 1
        seen = watch.seen()
        assert (seen.files, seen.connections, seen.signals) == ([], [], [])


def test_the_watch_sees_a_decoder_that_crashes(tmp_path: Path) -> None:
    with Watch(tmp_path, b"clip") as watch:
        decoder = Decoder()
        os.kill(decoder.pid, signal.SIGSEGV)
        decoder._process.wait()
        decoder.close()
        assert watch.seen().signals == ["SIGSEGV"]


_NOSY = """
import os, resource, socket
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
open("/dev/null").close()
socket.socket().close()
"""


def test_the_watch_sees_a_decoder_that_opens_a_file_or_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nosy.py").write_text(_NOSY)
    monkeypatch.setattr(process, "_command", lambda: [sys.executable, "-sSPB", str(tmp_path / "nosy.py")])
    with Watch(tmp_path, b"clip") as watch:
        decoder = Decoder()
        decoder._process.wait()
        decoder.close()
        seen = watch.seen()
    assert [line.split()[0] for line in seen.files] == ["open"]
    assert [line.split()[0] for line in seen.connections] == ["socket.__new__"]


def test_a_gif_whose_second_frame_is_too_large_opens_no_file(tmp_path: Path) -> None:
    """Pillow warns of it, and Python opens a source file to show a warning."""
    first, second = (
        b"\x21\xf9\x04\x04\x04\0\0\0\x2c\0\0\0\0" + struct.pack("<HH", *size) + b"\0\x02\x02\x44\x01\0"
        for size in ((1, 1), (3000, 4000))
    )
    clip = tmp_path / "clip.gif"
    clip.write_bytes(b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff" + first + second + b";")
    with Watch(tmp_path, b"clip") as watch:
        assert len(read_frames(clip, 4)[0]) == 4
        assert watch.seen().files == []


def test_the_watch_measures_the_memory_of_decoders(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(base(0, "mp4").data)
    with Watch(tmp_path, b"clip") as watch:
        read_frames(tmp_path / "clip.mp4", 2)
        (decoder,) = process._idle
        before = watch.seen().memory
        assert before > 10 << 20
        assert Path(f"/proc/{decoder.pid}").exists()


def test_a_valid_clip_that_is_refused_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise ClipUnreadableError("init_video cannot be decoded as mp4 (a lie)")

    monkeypatch.setattr(hostile, "read_frames", refuses)
    figures = hostile.run(seed=5, count=20)
    assert figures["valid_read"] == 0 < figures["valid"]
    assert figures["unclear"] == 0
    assert not hostile.passed(figures)


def test_other_exceptions_are_unclear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "fetch_clip", lambda *_, **__: 1 / 0)
    figures = hostile.run(seed=5, count=20)
    assert figures["unclear"] == figures["inputs"] == 20
