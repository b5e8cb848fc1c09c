"""Which sizes keep a clip's proportions, and when somebody would see that one does not."""

from __future__ import annotations

from fractions import Fraction

import pytest

from airflow_provider_modelslab.api.aspect import Size, check_on_stretch, describe_stretch, sizes_that_keep
from airflow_provider_modelslab.api.errors import InvalidRequestError

FULL_HD, PHONE, SQUARE = (1920, 1080), (1080, 1920), (720, 720)


@pytest.mark.parametrize(
    ("clip", "asked", "most", "sizes"),
    [
        (FULL_HD, (512, 512), 768, [(768, 432), (640, 360), (512, 288)]),
        (FULL_HD, (256, 256), 768, [(768, 432), (384, 216), (256, 144)]),
        (PHONE, (512, 512), 768, [(432, 768), (360, 640), (288, 512)]),
        (SQUARE, (768, 432), 768, [(768, 768), (576, 576), (568, 568)]),
        ((640, 480), (512, 288), 768, [(768, 576), (448, 336), (416, 312)]),
        ((64, 64), (1024, 512), 1024, [(1024, 1024), (728, 728), (720, 720)]),
        ((854, 480), (512, 512), 768, [(768, 432), (680, 384), (688, 384)]),  # none is exact
        ((4000, 100), (512, 512), 768, []),
    ],
)
def test_sizes_that_keep_the_proportions(clip: Size, asked: Size, most: int, sizes: list[Size]) -> None:
    found = sizes_that_keep(clip, asked, most)
    assert found == sorted(sizes, key=lambda size: size[0] * size[1], reverse=True)
    for width, height in found:
        assert width % 8 == height % 8 == 0
        assert 64 <= min(width, height) <= max(width, height) <= most
        assert abs(Fraction(width, height) / Fraction(*clip) - 1) <= Fraction(1, 99)


@pytest.mark.parametrize(
    ("clip", "asked"), [(FULL_HD, (768, 432)), (FULL_HD, (856, 480)), ((4096, 2160), (1920, 1040)), (SQUARE, (64, 64))]
)
def test_what_nobody_sees_is_not_said(clip: Size, asked: Size) -> None:
    assert describe_stretch(clip, asked, 768) is None


@pytest.mark.parametrize(
    ("clip", "asked", "said"),
    [
        (FULL_HD, (512, 512), ("1920x1080", "512x512", "78% taller", "768x432")),
        (PHONE, (512, 512), ("1080x1920", "78% wider", "432x768")),
        ((1350, 1080), (768, 512), ("20% wider", "760x608")),
        ((4000, 100), (512, 512), ("No size up to 768x768",)),
    ],
)
def test_what_everybody_sees_names_the_sizes(clip: Size, asked: Size, said: tuple[str, ...]) -> None:
    text = describe_stretch(clip, asked, 768)
    assert text is not None
    assert [part for part in said if part not in text] == []


def test_another_way_to_take_it_is_refused() -> None:
    check_on_stretch("ignore")
    with pytest.raises(InvalidRequestError) as refused:
        check_on_stretch("crop")
    assert list(refused.value.fields) == ["on_stretch"]
