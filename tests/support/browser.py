"""Headless Chromium for the tests of pages; they are skipped where none is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["chromium", "expecting_toast", "keep_screenshot", "new_page"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SCREENSHOTS = "MODELSLAB_SCREENSHOTS"
_MOST_BYTES = 240_000
_TIMEOUT_MS = 120_000
_TOAST = """text => { window.toast = new Promise(done => new MutationObserver(() => {
    if (document.querySelector(".toast[role=status]")?.textContent.includes(text)) done();
}).observe(document.documentElement, { childList: true, subtree: true, characterData: true })); }"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium, without a window.

    Skips the test where there is none; ``make chromium`` installs it on Debian.
    """
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium on this machine (looked for {', '.join(_NAMES)}); `make chromium` installs one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The sandbox needs what containers often lack; the only pages opened are our own.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--no-proxy-server"])
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Browser, **options: Any) -> Page:
    """A page in a context of its own, which waits two minutes for what is to come; close ``page.context`` after use.

    :param options: of the context.
    """
    context = browser.new_context(**options)
    context.set_default_timeout(_TIMEOUT_MS)
    return context.new_page()


@contextmanager
def expecting_toast(page: Page, text: str) -> Iterator[None]:
    """What the block does shows a text for a moment, which is not missed where the browser is asked for it too late."""
    page.evaluate(_TOAST, text)
    yield
    page.evaluate("window.toast")


def keep_screenshot(page: Page, name: str) -> None:
    """Write ``name.png`` to the folder that ``MODELSLAB_SCREENSHOTS`` names; nothing where it names none.

    One that would be heavy in a page of the docs, above 240 kB, keeps 256 colours.
    """
    if folder := os.environ.get(_SCREENSHOTS):
        from PIL import Image

        place = Path(folder, f"{name}.png")
        place.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=place)
        if place.stat().st_size > _MOST_BYTES:
            with Image.open(place) as picture:
                few = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            few.save(place, optimize=True)
