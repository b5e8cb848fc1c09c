"""One Chromium for the gallery's pages with made-up data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import chromium, new_page
from tests.support.gallery_site import MadeUpGallery

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser; closed with the last test of this folder: while it is open, an event loop counts as running."""
    with chromium() as found:
        yield found


@pytest.fixture
def gallery() -> MadeUpGallery:
    """What the page is told; a test changes it."""
    return MadeUpGallery()


@pytest.fixture
def page(browser: Browser, gallery: MadeUpGallery) -> Iterator[Page]:
    """A page of 1100 by 700 pixels, which must end without an error that nobody caught."""
    opened = new_page(browser, viewport={"width": 1100, "height": 700})
    uncaught: list[str] = []
    opened.on("pageerror", lambda error: uncaught.append(str(error)))
    gallery.serve(opened)
    yield opened
    opened.context.close()
    assert uncaught == []
