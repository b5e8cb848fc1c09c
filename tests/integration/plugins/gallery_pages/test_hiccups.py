"""A server that does not answer as it should: what was shown stays, what is wrong is said, it goes on where it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.gallery_site import RECENT, MadeUpGallery, batch, recent_item, single, task_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

LOOK = 4100  # milliseconds until the page looks again
LOOK_AFTER_TROUBLE = 16_100


def test_show_more_can_be_pressed_again(page: Page, gallery: MadeUpGallery) -> None:
    gallery.pages = [[recent_item(f"take_{at}")] for at in range(3)]
    page.goto(RECENT)
    more = page.get_by_role("button", name="Show more")
    more.wait_for()
    gallery.status, gallery.detail = 500, "the database is away"
    more.click()
    page.get_by_role("status").get_by_text("the database is away").wait_for()
    assert more.is_enabled()
    gallery.status = 200
    more.press("Enter")
    page.get_by_text("take_1").wait_for()
    page.wait_for_function("() => document.activeElement.textContent === 'Show more'")
    more.press("Enter")
    page.get_by_text("take_2").wait_for()
    assert more.is_hidden()
    assert page.locator("a.card").count() == 3


@pytest.mark.parametrize("kind", ["single", "batch"])
@pytest.mark.parametrize(
    ("status", "words"), [(401, "You are not logged in"), (403, "Your role in Airflow"), (404, "no such task instance")]
)
def test_what_ends_the_looking_is_said(page: Page, gallery: MadeUpGallery, kind: str, status: int, words: str) -> None:
    gallery.answer = single() if kind == "single" else batch(8)
    page.clock.install()
    page.goto(task_page())
    page.get_by_role("heading", name="restyle").wait_for()
    gallery.status, gallery.detail = status, "There is no such task instance"
    page.clock.run_for(LOOK)
    problem = page.get_by_role("alert")
    problem.wait_for()
    assert words in problem.inner_text()
    assert problem.get_by_role("link", name="Log in").count() == (status == 401)
    assert page.get_by_role("heading", name="restyle").is_visible()  # what was shown stays
    looks = gallery.looks
    page.clock.run_for(2 * LOOK_AFTER_TROUBLE)
    assert gallery.looks == looks


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_a_page_says_since_when_it_stands_still(page: Page, gallery: MadeUpGallery, kind: str) -> None:
    gallery.answer = single() if kind == "single" else batch(8)
    page.clock.install()
    page.goto(task_page())
    page.get_by_role("heading", name="restyle").wait_for()
    gallery.status = 502
    page.clock.run_for(LOOK)
    note = page.get_by_role("status").filter(has_text="Not up to date since")
    note.get_by_text("not now").wait_for()
    first = note.inner_text()
    page.clock.run_for(LOOK_AFTER_TROUBLE)
    assert note.inner_text() == first  # said once
    gallery.status = 200
    page.clock.run_for(LOOK_AFTER_TROUBLE)
    note.wait_for(state="detached")
    assert page.get_by_role("heading", name="restyle").is_visible()
