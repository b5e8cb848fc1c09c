"""Headless Chromium for the tests of pages; they are skipped where none is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["chromium", "keep_screenshot"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SCREENSHOTS = "MODELSLAB_SCREENSHOTS"
_MOST_BYTES = 240_000


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
