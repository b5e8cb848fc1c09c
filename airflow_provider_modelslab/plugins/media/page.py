"""Small HTML pages without scripts: result not ready, error, state of a job."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from airflow_provider_modelslab.api.links import is_http_link

__all__ = ["HEADERS", "page"]

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
}
"""Of every answer."""

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 44rem; margin: 12vh auto 0; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; margin: 1.5rem 0; }
dt { opacity: .65; } dd { margin: 0; overflow-wrap: anywhere; }
small { opacity: .65; }
"""


def page(title: str, text: str, facts: Mapping[str, object] | None = None, *, back: str, refresh: int | None) -> str:
    """One page.

    :param text: a sentence or two below the title.
    :param facts: a table below it; ``None`` and empty values are left out, http(s) links can be clicked.
    :param back: the path of the task instance in Airflow's UI.
    :param refresh: seconds after which the page loads itself again.
    """
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{_cell(value)}</dd>" for name, value in (facts or {}).items() if value)
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    note = f" <small>This page reloads every {refresh} seconds.</small>" if refresh else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{again}'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1><p>{escape(text)}{note}</p>"
        f'{f"<dl>{rows}</dl>" if rows else ""}<p><a href="{escape(back)}">Back to the task</a></p></body></html>'
    )


def _cell(value: object) -> str:
    text = escape(str(value))
    if is_http_link(str(value)):
        return f'<a href="{text}" rel="noreferrer noopener">{text}</a>'
    return text
