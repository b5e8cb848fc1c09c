from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools import demo
from tools.demo import LOCAL_RUN, write_sheet
from tools.stack.kept import exclusive, kept_ports
from tools.stack.process import free_port
from tools.stack.s3 import S3Server


def test_the_sheet_shows_the_clip_that_ships_above_the_result(tmp_path: Path) -> None:
    result = [Image.new("RGB", (192, 128), (255, 0, 255))] * 16
    path = write_sheet(result, dict(LOCAL_RUN), tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(path).convert("RGB")).astype(int)
    made = (sheet == (255, 0, 255)).all(-1).any(1).nonzero()[0]
    assert (len(made), sheet.shape[1] > 6 * 192) == (128, True)
    above = sheet[made[0] - 136 : made[0] - 8, 64:]
    assert above.std((0, 1)).min() > 20  # the clip's coloured shapes, not paper


def test_of_another_model_the_source_is_not_at_hand(tmp_path: Path) -> None:
    result = [Image.new("RGB", (192, 128), (255, 0, 255))] * 16
    both = Image.open(write_sheet(result, dict(LOCAL_RUN), tmp_path / "both.png")).convert("RGB")
    other = LOCAL_RUN | {"model_id": "dark-sushi-mix"}
    one = Image.open(write_sheet(result, other, tmp_path / "one.png")).convert("RGB")
    assert both.height - one.height == 128 + 8


@pytest.mark.parametrize("has_objects", [True, False])
def test_the_next_demo_goes_on_or_starts_afresh_and_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], has_objects: bool
) -> None:
    (tmp_path / "airflow").mkdir()
    (tmp_path / "ports.json").write_text("{}")
    if has_objects:
        (tmp_path / "objects").mkdir()
        (tmp_path / "objects" / "index.json").write_text("[]")
    demo._begin_afresh_if_incomplete(tmp_path)
    said = capsys.readouterr().out
    assert ("Going on" in said, "starts all afresh" in said) == (has_objects, not has_objects)
    assert (tmp_path / "airflow").exists() == has_objects
    assert (tmp_path / "ports.json").exists()  # the addresses that people know


def test_the_first_demo_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo._begin_afresh_if_incomplete(tmp_path)
    assert capsys.readouterr().out == ""


def test_ports_are_kept_unless_somebody_has_them(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = kept_ports(file, ("s3", "airflow"))
    assert kept_ports(file, ("s3", "airflow")) == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        file.write_text(json.dumps({"s3": taken, "airflow": free_port()}))
        kept = kept_ports(file, ("s3", "airflow"))
    assert kept["s3"] != taken
    assert json.loads(file.read_text()) == kept


def test_a_part_that_was_launched_is_not_started_again(tmp_path: Path) -> None:
    server = S3Server(tmp_path)
    server.launch()
    try:
        assert server.ca_path.exists()  # for the environment of those that are started before the server answers
        pid = server.process.pid
        server.start()
        assert server.process.pid == pid
        assert server.process.started
    finally:
        server.stop()
    assert not server.process.started


def test_one_demo_at_a_time(tmp_path: Path) -> None:
    with exclusive(tmp_path) as first:
        assert first
        with exclusive(tmp_path) as second:
            assert not second
    with exclusive(tmp_path) as again:
        assert again
