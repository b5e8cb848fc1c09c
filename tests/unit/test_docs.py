"""The documentation site, built as a reader gets it: nothing missing, no dead link, no page that has fallen behind."""

from __future__ import annotations

import html
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from annotated_types import Ge, Le

import airflow_provider_modelslab
from airflow_provider_modelslab import get_provider_info
from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.batch import records
from airflow_provider_modelslab.batch.outcomes import Outcome
from airflow_provider_modelslab.batch.plan import ClipPlan
from airflow_provider_modelslab.endpoint.arguments import build_parser
from airflow_provider_modelslab.ledger.model import Fingerprint
from airflow_provider_modelslab.storage.uri import S3Uri

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    target = tmp_path_factory.mktemp("docs") / "html"
    built = build(DOCS, target)
    assert built.returncode == 0, built.stderr
    return target


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """All pages of the site."""
    return {path: Page(path) for path in site.rglob("*.html")}


class Page(HTMLParser):
    """What a built page says: its text, the rows of its tables, its links and what can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: list[list[str]] = []
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.text = ""
        self._in_cell = False
        text = path.read_text()
        self.feed(text)
        article = text.partition("<article")[2].partition("</article>")[0]
        self.text = html.unescape(re.sub(r"<[^>]+>", "", article))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(value for name in ("id", "name") if (value := given.get(name)))
        if tag in {"a", "img"} and (link := given.get("href" if tag == "a" else "src")):
            self.links.add(link)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        """The first row whose first cell says this."""
        return next([cell.strip() for cell in row] for row in self.rows if row and row[0].strip() == first)


def test_every_attribute_has_its_range_and_default(site: Path) -> None:
    page = Page(site / "attributes.html")
    for name, field in Video2VideoRequest.model_fields.items():
        _, kind, span, default, meaning = page.row(name)
        assert kind
        assert meaning == field.description
        for rule in field.metadata:
            if isinstance(rule, Ge):
                assert re.match(rf"{rule.ge}\b", span), (name, span)
            if isinstance(rule, Le):
                assert span.endswith(f"to {rule.le}"), (name, span)
        if field.is_required():
            assert default == "required"
        elif field.default in (None, False) or name == "extra_parameters":
            assert "must be given by" not in span  # what a refusal says of a probe is no range
            assert default in {"none", "false"}
        else:
            assert default == str(field.default if not isinstance(field.default, tuple) else field.default[0])


def test_where_each_attribute_acts_is_known(site: Path) -> None:
    page = Page(site / "attributes.html")
    origins = {row[0].strip(): row for row in page.rows if len(row) == 5 and ".py" in row[4]}
    assert set(origins) == set(Video2VideoRequest.model_fields) - {"extra_parameters"}
    for row in origins.values():
        for place in row[4].split(", "):
            assert (ROOT / "airflow_provider_modelslab" / place.strip()).is_file()
    assert "animatediff" in origins["motion_module"][3]
    assert origins["instant_response"][2].strip() == "true"  # what the operators send


def marked_parts() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "dags_examples").glob("*.py")):
        found = re.findall(r"# \[START (\w+)\]\n(.*?)# \[END \1\]", path.read_text(), re.DOTALL)
        assert found, f"{path.name} has no part that is marked for the pages"
        for name, part in found:
            yield f"{path.name}: {name}", part


@pytest.mark.parametrize(("name", "part"), [pytest.param(*pair, id=pair[0]) for pair in marked_parts()])
def test_every_example_is_explained(pages: dict[Path, Page], name: str, part: str) -> None:
    wanted = " ".join(part.split())
    assert [path for path, page in pages.items() if wanted in " ".join(page.text.split())], name


def exceptions() -> set[str]:
    """Every public failure of the package."""
    for room in ("api", "batch", "storage", "client", "operators", "hooks"):
        package = importlib.import_module(f"airflow_provider_modelslab.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)

    def below(cls: type[ModelsLabError]) -> Iterator[type[ModelsLabError]]:
        yield cls
        for child in cls.__subclasses__():
            yield from below(child)

    return {
        cls.__name__
        for cls in below(ModelsLabError)
        if cls.__module__.startswith(airflow_provider_modelslab.__name__) and not cls.__name__.startswith("_")
    }


def test_every_exception_has_its_meaning(site: Path) -> None:
    page = Page(site / "failures.html")
    names = exceptions()
    assert {"JobLostError", "BatchFailedError"} <= names
    for name in names:
        _, meaning, *_ = page.row(name)
        assert len(meaning.split()) > 4


def test_every_connection_field_is_there(site: Path) -> None:
    page = Page(site / "connection.html")
    (kind,) = json.loads(json.dumps(get_provider_info()))["connection-types"]
    for name, field in kind["conn-fields"].items():
        assert page.row(name)[1] == field["label"]
    for name, label in kind["ui-field-behaviour"]["relabeling"].items():
        assert page.row(name)[1] == label


def test_every_flag_of_the_endpoint_is_there(site: Path) -> None:
    text = Page(site / "endpoint.html").text
    flags = [
        flag for action in build_parser()._actions for flag in action.option_strings if flag not in {"-h", "--help"}
    ]
    assert "--state-dir" in flags
    assert [flag for flag in flags if flag not in text] == []


PLANNED = {"seconds": 5.85, "cpu_s": 4.1, "peak_mib": 97.0, "requests": 10, "clips": 10_000}
LARGE = {"mib_per_s": 388.4, "rss_mib": 39.0}
SMALL = {"results_per_s": 41.5, "cpu_ms_per_result": 12.5, "rss_mib": 35.0}
CAMPAIGN = {"seed": 7, "faults": 2500, "kills": 900, "least_hit_phase": {"name": "start", "hits": 31}}
LOOKED = {"on_schedule": 0.9987, "looks_per_s": 240.3, "open_files": 107}


@pytest.mark.parametrize(
    ("name", "figures", "row"),
    [
        pytest.param("batch_plan", {"plan": PLANNED}, "named | 10,000 | 5.85 | 4.1 | 97 | 10 |", id="a plan"),
        pytest.param("faults-7", CAMPAIGN, "| 7 | 2,500 | 900 | 31 |", id="one campaign of several"),
        pytest.param("landing", {"ours": LARGE, "many": {"ours": SMALL}}, "verified | 388 | 39 |", id="a large result"),
        pytest.param("landing", {"ours": LARGE, "many": {"ours": SMALL}}, "verified | 41.5 | 12.5 | 35 |", id="many"),
        pytest.param("waiting", [{"jobs": 5000, "batch": LOOKED}], "all of them | 0.999 | 240 | -", id="one for all"),
    ],
)
@pytest.mark.parametrize("recorded", [{"command": "python -m benchmarks.this --as it was"}, {}], ids=["told", "untold"])
def test_results_are_laid_out_with_their_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, figures: Any, row: str, recorded: dict[str, str]
) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    shown = importlib.import_module("generated.figures")
    kept = tmp_path / f"{name}.json"
    kept.write_text(json.dumps([recorded | figures[0]] if isinstance(figures, list) else recorded | figures))
    section = shown._section(kept)
    assert row in section
    benchmark = name.partition("-")[0]
    assert f"$ {recorded.get('command', f'python -m benchmarks.{benchmark} ')}" in section
    assert ("the file does not say which wrote it" in section) == (not recorded)


def test_every_kept_result_is_shown_with_its_command(site: Path) -> None:
    page = Page(site / "performance.html")
    results = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    assert results
    for path in results:
        assert f"benchmarks/results/{path.name}" in page.text
        data = json.loads(path.read_text())
        head = data if isinstance(data, dict) else data[0]
        assert head.get("command", "the file does not say which wrote it") in page.text
    ours = json.loads((ROOT / "benchmarks/results/batch.json").read_text())["ours"]
    assert f"{ours['cpu_s_per_clip']:.3g}" in page.row("ModelsLabVideo2VideoBatchOperator")


FENCE = re.compile(r"( *)(`{3,}|~{3,}|:{3,})(.*)")


@pytest.mark.parametrize("path", [*DOCS.rglob("*.md"), *ROOT.glob("*.md")], ids=lambda path: path.name)
def test_every_fence_is_closed_and_says_what_it_holds(path: Path) -> None:
    opened: tuple[int, str] | None = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = FENCE.fullmatch(line)
        if fence is None:
            continue
        _, marks, info = fence.groups()
        if opened is None:
            assert info.strip(), f"line {number} opens a block of nothing"
            opened = number, marks
        elif marks.startswith(opened[1]):
            assert not info.strip(), f"line {number} opens a block within the one of line {opened[0]}"
            opened = None
    assert opened is None, f"the block of line {opened} is open"


def test_installation_says_where_results_land(site: Path) -> None:
    page = Page(site / "installation.html")
    assert page.row("s3://bucket/dir/")[1] == "s3://bucket/dir/<dag>/<task>/<run>.mp4"
    assert len([row for row in page.rows if row[0].strip() == "keep the ledger"]) == 1
    assert "inputs/" in page.row("upload local clips")[1]


def test_the_fields_of_a_batch_s_manifest_are_named(site: Path) -> None:
    clip = ClipPlan(0, "s3://bucket/in.mp4", {}, S3Uri("bucket", "out.mp4"), Fingerprint("a", "b"), "mp4")
    failed = Outcome.failed(ValueError("why"))
    said = next(row[1] for row in Page(site / "howto/batch.html").rows if row[0].strip().endswith("<run>.jsonl"))
    assert set(records.result_line(clip, failed)) <= set(re.findall(r"\w+", said))


def test_links_within_the_site_lead_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.exists() or (parts.fragment and known and unquote(parts.fragment) not in known.anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []


def test_no_page_is_empty(pages: dict[Path, Page]) -> None:
    texts = {path.name: page.text for path, page in pages.items() if path.stem not in {"genindex", "search"}}
    assert [name for name, text in texts.items() if len(text.split()) < 20] == []


def test_pages_show_no_mark_and_no_markup(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert "generate:" not in path.read_text()
        assert not re.search(r"\{py:\w+\}|:(?:class|exc|meth|func|data|mod):`", page.text), path.name


def test_what_is_included_from_the_readme_is_still_there() -> None:
    readme = (ROOT / "README.md").read_text()
    used = {
        found.strip('"').replace("\\n", "\n")
        for path in DOCS.rglob("*.md")
        for block in re.findall(r"\{include\} \S*README\.md\n(.*?)```", path.read_text(), re.DOTALL)
        for found in re.findall(r"^:(?:start-after|end-before): (.+)$", block, re.MULTILINE)
    }
    assert "## What happens when things fail" in used
    for text in used:
        where = rf"^{re.escape(text.strip())}$" if text.startswith("#") else re.escape(text)
        assert len(re.findall(where, readme, re.MULTILINE)) == 1, f"README.md needs {text!r}, which a page includes"


@pytest.mark.parametrize(
    ("page", "complaints"),
    [
        pytest.param("<!-- generate: nothing -->", ["generate: nothing"], id="a mark that nothing answers"),
        pytest.param(
            "[](nowhere.md) {py:class}`airflow_provider_modelslab.api.errors.NoSuchError`",
            ["nowhere.md", "NoSuchError"],
            id="links to what is not there",
        ),
    ],
)
def test_a_page_that_cannot_be_right_fails_the_build(tmp_path: Path, page: str, complaints: list[str]) -> None:
    source = tmp_path / "docs"
    shutil.copytree(DOCS / "_ext", source / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "_static").mkdir()
    (source / "_static" / "site.css").touch()
    (source / "conf.py").write_text((DOCS / "conf.py").read_text())
    (source / "index.md").write_text(f"# A page\n\n{page}\n")
    built = build(source, tmp_path / "html")
    assert built.returncode != 0
    assert [text for text in complaints if text not in built.stderr] == []
