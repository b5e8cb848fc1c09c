"""The documentation site, built as Read the Docs does: a warning is an error."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.slow

DOCS = Path(__file__).resolve().parents[3] / "docs"


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build a site with warnings as errors."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(target.parent / "doctrees")]
    return subprocess.run(
        [*command, "-b", "html", str(source), str(target)],
        env=os.environ | {"AIRFLOW_HOME": str(target.parent / "airflow"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


class Page(HTMLParser):
    """The text of a built page, its links and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        content = path.read_text()
        self.feed(content)
        article = content.partition("<article")[2].partition("</article>")[0]
        self.text = html.unescape(re.sub(r"<!--.*?-->|<[^>]+>", "", article, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(value for name in ("id", "name") if (value := given.get(name)))
        if tag in {"a", "img"} and (link := given.get("href" if tag == "a" else "src")):
            self.links.add(link)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    target = tmp_path_factory.mktemp("docs") / "html"
    built = build(DOCS, target)
    assert built.returncode == 0, built.stderr
    return target


@pytest.fixture(scope="module")
def built_pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_links_within_the_site_lead_somewhere(site: Path, built_pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in built_pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = built_pages.get(target)
            if not target.exists() or (parts.fragment and known and unquote(parts.fragment) not in known.anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []


def test_no_page_is_empty_or_shows_markup(built_pages: dict[Path, Page]) -> None:
    for path, page in built_pages.items():
        if path.stem not in {"genindex", "search"}:
            assert len(page.text.split()) >= 20, path.name
        assert not re.search(r"\{py:\w+\}|:(?:class|exc|meth|func|data|mod):`", page.text), path.name


def test_a_page_with_dead_links_fails_the_build(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    shutil.copytree(DOCS / "_ext", source / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "_static").mkdir()
    (source / "_static" / "site.css").touch()
    (source / "conf.py").write_text((DOCS / "conf.py").read_text())
    page = "# A page\n\n[text](nowhere.md) {py:class}`airflow_provider_modelslab.api.errors.NoSuchError`\n"
    (source / "index.md").write_text(page)
    built = build(source, tmp_path / "html")
    assert built.returncode != 0
    assert "nowhere.md" in built.stderr
    assert "NoSuchError" in built.stderr
