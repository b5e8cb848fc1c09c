from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.echo import EchoEngine, FetchingEchoEngine
from airflow_provider_modelslab.local.engine import GenerationInterruptedError
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.fetch import FetchLimits
from airflow_provider_modelslab.storage.media import ContainerVerifier
from tests.support.endpoint_engine import write_clip
from tests.support.files_server import FilesServer, ServedFile


def request(**changes: Any) -> Video2VideoRequest:
    values = {"model_id": "m", "prompt": "p", "init_video": "https://h/a.gif", "width": 48, "height": 32, "seed": 1}
    return Video2VideoRequest(**{**values, "num_frames": 3, **changes})


@pytest.mark.parametrize(("kind", "size"), [("mp4", (46, 32)), ("gif", (47, 32))])
def test_a_whole_clip_of_the_shape_asked_for(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"clip.{kind}"
    made = EchoEngine().generate(request(output_type=kind, width=47, fps=10), path)
    verifier = ContainerVerifier()
    verifier.feed(made.path.read_bytes())
    assert verifier.finish() == kind
    frames, fps = read_frames(made.path, 3)
    assert (frames[0].size, round(fps)) == (size, 10)
    assert frames[0].tobytes() != frames[1].tobytes() != frames[2].tobytes()
    meta = made.meta
    assert (meta["width"], meta["height"], meta["num_frames"], meta["fps"]) == (*size, 3, 10)
    assert (meta["engine"], meta["output_type"], meta["seed"]) == ("echo", kind, 1)


def test_the_limits_are_those_of_the_vendor() -> None:
    EchoEngine().check(request(width=768, num_frames=25))
    with pytest.raises(InvalidRequestError) as caught:
        EchoEngine().check(request(width=832, num_frames=33))
    assert set(caught.value.fields) == {"width", "num_frames"}
    with pytest.raises(InvalidRequestError) as caught:
        EchoEngine().check(request(extra_parameters={"x_clip_mode": "whole"}))
    assert set(caught.value.fields) == {"x_clip_mode"}


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_bytes_differ_by_request_and_by_nothing_else(tmp_path: Path, kind: str) -> None:
    def clip(**changes: Any) -> bytes:
        return EchoEngine().generate(request(output_type=kind, **changes), tmp_path / "clip").path.read_bytes()

    clips = {clip(seed=seed, prompt=prompt) for seed in range(20) for prompt in "ab"}
    assert len(clips) == 40
    assert clip() == clip(track_id="t", webhook="https://h/hook") != clip(seed=2)


def test_defaults_and_upscaling(tmp_path: Path) -> None:
    plain = EchoEngine().generate(request(width=None, height=None, num_frames=1), tmp_path / "clip").meta
    larger = EchoEngine().generate(request(upscale_width=64, upscale_height=96), tmp_path / "clip").meta
    assert (plain["width"], plain["height"], plain["fps"], plain["output_type"]) == (512, 512, 8, "mp4")
    assert (larger["width"], larger["height"]) == (64, 96)


def test_it_takes_its_time_and_stops_when_told(tmp_path: Path) -> None:
    assert EchoEngine(seconds=0.05).generate(request(), tmp_path / "clip").seconds >= 0.05
    path = tmp_path / "stopped"
    with pytest.raises(GenerationInterruptedError):
        EchoEngine(seconds=1000).generate(request(), path, should_stop=lambda: True)
    assert not path.exists()
    with pytest.raises(ValueError, match="at least 0; got -1"):
        EchoEngine(seconds=-1)


def test_it_paints_over_the_source_when_it_may_read_it(tmp_path: Path) -> None:
    source = tmp_path / "in.gif"
    write_clip(source, frames=6, side=64, fps=7, seed=1)
    engine = FetchingEchoEngine(limits=FetchLimits(allow_private_addresses=True, allow_local_files=False))
    with FilesServer() as files:
        link = files.add("/in.gif", ServedFile(source.read_bytes(), content_type="image/gif"))
        made = engine.generate(request(init_video=link, output_type="gif"), tmp_path / "out.gif")
        with pytest.raises(InvalidRequestError, match="HTTP 404"):
            engine.generate(request(init_video=files.url("/none.gif")), tmp_path / "none.gif")
    frames, _ = read_frames(made.path, 3)
    expected, _ = read_frames(source, 3)
    corners = [(frame.getpixel((0, 0)), of.getpixel((0, 0))) for frame, of in zip(frames, expected, strict=True)]
    for got, wanted in corners:
        assert isinstance(got, tuple)
        assert isinstance(wanted, tuple)
        assert all(abs(a - b) <= 8 for a, b in zip(got, wanted, strict=True))


@pytest.mark.slow
def test_it_needs_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from airflow_provider_modelslab.endpoint import __main__, echo; "
        "from airflow_provider_modelslab.endpoint.echo import _template, _Shape; "
        "_template(_Shape('gif', 16, 16, 2, 8), 0); _template(_Shape('mp4', 16, 16, 2, 8), 0); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'airflow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
