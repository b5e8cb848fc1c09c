"""The error on a clip's card: the half that differs from clip to clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.gallery_site import MadeUpGallery, batch, task_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("code", "message", "shown"),
    [
        ("job_failed", "The job 4711 has failed: the GPU is out of memory", "the GPU is out of memory"),
        ("job_failed", "Job 4711 failed: s3://bucket/in/day/a.mp4 cannot be decoded", "…/a.mp4 cannot be decoded"),
        ("validation", "The request was not sent, because it is not valid: width: is 7", "width: is 7"),
        ("landing", "https://host/a/b.mp4 gave HTTP 500", "…/b.mp4 gave HTTP 500"),
    ],
)
def test_a_card_shows_the_useful_half(page: Page, gallery: MadeUpGallery, code: str, message: str, shown: str) -> None:
    gallery.answer = batch(1, status="failed")
    row = gallery.answer["batch"]["rows"][0]
    row[-2:] = [code, message]
    page.goto(task_page())
    detail = page.locator(".card .detail").first
    detail.wait_for()
    assert detail.inner_text() == shown
