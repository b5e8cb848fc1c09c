"""What a screen reader and the Tab key meet: few announcements, and cards in the order in which they are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.browser import expecting_toast
from tests.support.gallery_site import MadeUpGallery, batch, single, task_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

# Records the changes that a screen reader would announce by itself.
_LISTEN = """() => {
    const live = "[aria-live]:not([aria-live=off]), output, [role=status], [role=alert], [role=log]";
    window.announced = [];
    new MutationObserver((changes) => {
        for (const { target } of changes) {
            const place = (target.nodeType === Node.TEXT_NODE ? target.parentElement : target)?.closest(live);
            if (place) window.announced.push(place.tagName + "." + place.className);
        }
    }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });
}"""
_ORDER = "() => [...document.querySelectorAll('.grid .card')].map(card => Number(card.ariaPosInSet))"
_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
_PLAYS = "video => !video.paused && video.currentTime > 0.4"


def _scroll(page: Page, *tops: int) -> None:
    for top in tops:
        page.evaluate("top => scrollTo(0, top)", top)
        page.evaluate(_FRAMES)


def test_scrolling_is_not_announced(page: Page, gallery: MadeUpGallery) -> None:
    gallery.answer = batch(400)
    page.goto(task_page())
    page.wait_for_selector(".card")
    page.evaluate(_LISTEN)
    _scroll(page, 1000, 3000, 6000, 0)
    assert page.evaluate("window.announced") == []
    page.get_by_label("Search clips").fill("00007")
    page.evaluate(_FRAMES)
    assert set(page.evaluate("window.announced")) == {"P.quiet detail"}
    assert page.get_by_role("status").inner_text() == "1 of 400 clips"


def test_the_clock_is_not_announced(page: Page, gallery: MadeUpGallery) -> None:
    gallery.answer = single("landed")
    gallery.links = {"source": "a.mp4", "result": "b.mp4"}
    page.add_init_script(f"addEventListener('DOMContentLoaded', {_LISTEN})")
    page.goto(task_page())
    page.wait_for_function(_PLAYS, arg=page.wait_for_selector("[data-side=result] video"))
    shown = page.locator(".clock").inner_text()
    page.wait_for_function("shown => document.querySelector('.clock').textContent !== shown", arg=shown)
    assert page.evaluate("window.announced") == []


def test_the_position_is_announced_when_someone_changes_it(page: Page, gallery: MadeUpGallery) -> None:
    gallery.answer = single("landed")
    gallery.links = {"source": "a.mp4", "result": "b.mp4"}
    page.goto(task_page())
    page.wait_for_function(_PLAYS, arg=page.wait_for_selector("[data-side=result] video"))
    line = page.get_by_role("slider", name="Position")
    line.focus()
    met = line.get_attribute("aria-valuetext") or ""
    assert met.endswith(" s")
    page.evaluate(_FRAMES)
    assert line.get_attribute("aria-valuetext") == met  # it plays on in silence
    page.get_by_role("button", name="Pause").click()
    line.focus()
    line.fill("0")
    assert (line.get_attribute("aria-valuetext") or "").startswith("0.0 of ")
    line.press("PageUp")
    assert not (line.get_attribute("aria-valuetext") or "").startswith("0.0 of ")


def test_the_end_of_a_task_is_announced_once(page: Page, gallery: MadeUpGallery) -> None:
    page.clock.install()
    page.goto(task_page())
    page.get_by_text("Waiting", exact=True).wait_for()
    gallery.answer = single("landed")
    gallery.links = {"source": "a.mp4", "result": "b.mp4"}
    with expecting_toast(page, "restyle: done"):
        page.clock.run_for(4100)


def test_cards_come_in_order_wherever_one_scrolls(page: Page, gallery: MadeUpGallery) -> None:
    gallery.answer = batch(400)
    page.goto(task_page())
    page.wait_for_selector(".card")
    for tops in [(1500, 3000), (2700, 2400), (4000, 3800, 3900, 3600), (1200, 700, 300, 0), (90_000, 89_000, 0)]:
        _scroll(page, *tops)
        order = page.evaluate(_ORDER)
        assert order == list(range(order[0], order[0] + len(order)))
    assert order[0] == 1


def test_tab_goes_through_the_cards_as_they_stand(page: Page, gallery: MadeUpGallery) -> None:
    gallery.answer = batch(400)
    page.goto(task_page())
    page.wait_for_selector(".card")
    _scroll(page, 1500, 1000, 500, 0)
    page.get_by_role("button", name="Play all").focus()
    visited = []
    for _ in range(24):
        page.keyboard.press("Tab")
        visited.append(int(page.evaluate("document.activeElement.closest('.card')?.ariaPosInSet ?? 0")))
    assert visited == [at // 2 + 1 for at in range(24)]  # each has a picture and a box


def test_the_focus_stays_while_cards_come_before_it(page: Page, gallery: MadeUpGallery) -> None:
    gallery.answer = batch(400)
    page.goto(task_page())
    page.wait_for_selector(".card")
    _scroll(page, 2000)
    focused = page.evaluate(
        "() => { const cards = [...document.querySelectorAll('.card')]; const card = cards[8];"
        " card.querySelector('button').focus({ preventScroll: true }); return card.ariaPosInSet; }"
    )
    _scroll(page, 1700)
    assert page.evaluate("document.activeElement.closest('.card')?.ariaPosInSet") == focused
    assert int(focused) > page.evaluate(_ORDER)[0] + 8  # some did come


def test_a_filter_keeps_the_order(page: Page, gallery: MadeUpGallery) -> None:
    gallery.answer = batch(400)
    for row in gallery.answer["batch"]["rows"][::3]:
        row[1] = "failed"
    page.goto(task_page())
    page.wait_for_selector(".card")
    _scroll(page, 900, 500)
    for name in ("Failed", "Landed", "All"):
        page.locator(".counts").get_by_role("button", name=name).click()
        _scroll(page, 700, 200)
        order = page.evaluate(_ORDER)
        assert order == sorted(order)
