"""The small pages behind the links: no script, and nothing of a job or a task is taken for markup."""

from __future__ import annotations

from airflow_provider_modelslab.plugins.media.page import HEADERS, page

MARKUP = '<script>alert("1")</script>'


def test_everything_is_escaped() -> None:
    shown = page(MARKUP, MARKUP, {MARKUP: MARKUP, "Link": f'https://host/"{MARKUP}'}, back=f'/"{MARKUP}', refresh=None)
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 6
    assert "script-src" not in HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]


def test_only_http_links_can_be_clicked() -> None:
    shown = page("Job", "", {"a": "https://host/a.mp4", "b": "javascript:alert(1)", "c": None}, back="/", refresh=None)
    assert '<a href="https://host/a.mp4" rel="noreferrer noopener">' in shown
    assert "<dd>javascript:alert(1)</dd>" in shown
    assert "<dt>c</dt>" not in shown


def test_a_page_looks_again_only_when_told() -> None:
    assert 'http-equiv="refresh" content="5"' in page("Job", "Waiting.", back="/", refresh=5)
    assert "http-equiv" not in page("Job", "Done.", back="/", refresh=None)
