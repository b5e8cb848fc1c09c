"""Gifs, which browsers play for ever: here they stand still until someone wants them to move, and stop when told to."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.support.gallery_site import FIRST_COLOUR, RECENT, MadeUpGallery, batch, recent_item, single, task_page

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.slow


def colour(where: Locator) -> tuple[int, int, int]:
    """What is seen in its middle, roughly: a screenshot may have other shades."""
    with Image.open(io.BytesIO(where.screenshot())) as shot:
        found = shot.convert("RGB").getpixel((shot.width // 2, shot.height // 2))
    assert isinstance(found, tuple)
    red, _, blue = (round(part / 255) * 255 for part in found[:3])
    return red, 0, blue


def stands(where: Locator) -> None:
    """It shows its first picture, and does not move."""
    where.locator("canvas").wait_for()
    assert where.locator("img").is_hidden()
    assert colour(where) == FIRST_COLOUR


def moves(where: Locator) -> None:
    """It has gone on from its first picture."""
    where.locator("img").wait_for()
    assert where.locator("canvas").is_hidden()
    while colour(where) == FIRST_COLOUR:  # pytest's timeout is the limit
        where.page.wait_for_timeout(20)


@pytest.fixture
def gifs(gallery: MadeUpGallery) -> MadeUpGallery:
    gallery.answer = single("landed")
    gallery.links = {"source": "a.gif", "result": "b.gif"}
    return gallery


def loaded(page: Page, where: str) -> Locator:
    """The place of a gif that has come."""
    page.wait_for_function("where => document.querySelector(where + ' img')?.naturalWidth > 0", arg=where)
    return page.locator(where).first


def test_a_gif_is_paused_and_played(page: Page, gifs: MadeUpGallery) -> None:
    page.goto(task_page())
    sides = [loaded(page, f"[data-side={side}]") for side in ("source", "result")]
    page.get_by_role("button", name="Pause").wait_for()
    for side in sides:
        moves(side)
    page.get_by_role("button", name="Pause").click()
    for side in sides:
        stands(side)
    assert page.get_by_role("img", name="Result of restyle").count() == 1  # what stands for it has its name
    page.get_by_role("button", name="Play").click()
    for side in sides:
        moves(side)
    assert page.get_by_role("img", name="Result of restyle").count() == 1


def test_a_gif_keeps_its_place_when_it_is_paused(page: Page, gifs: MadeUpGallery) -> None:
    for width in (320, 1100):
        page.set_viewport_size({"width": width, "height": 700})
        page.goto(task_page())
        side = loaded(page, "[data-side=result]")
        page.get_by_role("button", name="Pause").wait_for()
        moving = side.locator("img").bounding_box()
        page.keyboard.press(" ")
        page.get_by_role("button", name="Play").wait_for()
        assert side.locator("canvas").bounding_box() == moving
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_who_wants_no_motion_gets_none(page: Page, gifs: MadeUpGallery) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(task_page())
    side = loaded(page, "[data-side=result]")
    play = page.get_by_role("button", name="Play")
    play.wait_for()
    stands(side)
    play.click()
    moves(side)


def test_a_gif_stops_with_its_video(page: Page, gifs: MadeUpGallery) -> None:
    gifs.links = {"source": "a.mp4", "result": "b.gif"}
    page.goto(task_page())
    side = loaded(page, "[data-side=result]")
    page.wait_for_function("() => document.querySelector('video')?.currentTime > 0")
    moves(side)
    page.get_by_role("button", name="Pause").click()
    stands(side)
    assert page.locator("video").evaluate("video => video.paused")


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_gifs_of_a_batch_move_like_videos(page: Page, gifs: MadeUpGallery, motion: str) -> None:
    gifs.answer = batch(3)
    page.emulate_media(reduced_motion=motion)  # type: ignore[arg-type]
    page.goto(task_page())
    page.wait_for_selector(".card.filled:nth-child(3)")
    frame = loaded(page, ".card .frame")
    stands(frame)
    frame.hover()
    (moves if motion == "no-preference" else stands)(frame)
    page.mouse.move(0, 0)
    stands(frame)
    page.get_by_role("button", name="Play all").click()
    moves(frame)
    frame.hover()
    moves(frame)
    page.get_by_role("button", name="Play all").click()
    page.mouse.move(0, 0)
    stands(frame)


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_gifs_of_what_was_made_lately(page: Page, gifs: MadeUpGallery, motion: str) -> None:
    gifs.pages = [[recent_item("restyle")]]
    page.emulate_media(reduced_motion=motion)  # type: ignore[arg-type]
    page.goto(RECENT)
    frame = loaded(page, ".card .frame")
    stands(frame)
    frame.hover()
    (moves if motion == "no-preference" else stands)(frame)


def test_a_gif_that_is_gone_is_said(page: Page, gifs: MadeUpGallery) -> None:
    gifs.links = {"source": "a.mp4", "result": "b.gif"}
    page.route("**/b.gif", lambda route: route.fulfill(status=404))
    page.goto(task_page())
    page.get_by_text("This browser cannot show the result").wait_for()


@pytest.mark.parametrize(("found", "shown"), [(1, 1), (2, 2), (3, 3), (9, 4)])
def test_a_small_batch_shows_all_its_clips(page: Page, gallery: MadeUpGallery, found: int, shown: int) -> None:
    gallery.answer = {"found": found}
    gallery.links = {"result": "a.mp4"}
    gallery.pages = [[recent_item("restyle_all", found=found)]]
    page.goto(RECENT)
    page.wait_for_selector(".frame video")
    assert page.locator(".frame video").count() == shown
    frame = page.locator(".frame").bounding_box()
    assert frame
    boxes = [box for video in page.locator(".frame video").all() if (box := video.bounding_box())]
    covered = sum(box["width"] * box["height"] for box in boxes)
    assert covered > 0.97 * frame["width"] * frame["height"]
