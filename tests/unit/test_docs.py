"""The pages of ``docs/`` and the README: complete, up to date with the code, without dead links."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge, Le

import airflow_provider_modelslab
from airflow_provider_modelslab import get_provider_info
from airflow_provider_modelslab.api.errors import ErrorCode, ModelsLabError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.batch.planning.plan import ClipPlan
from airflow_provider_modelslab.batch.results import report
from airflow_provider_modelslab.batch.results.outcomes import Outcome
from airflow_provider_modelslab.endpoint.arguments import build_parser
from airflow_provider_modelslab.ledger.model import Fingerprint
from airflow_provider_modelslab.storage.uri import S3Uri
from tools.pages import expand, figures, outdated, pages
from tools.pages.errors import public
from tools.pages.examples import example_dags, parts

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MARKDOWN = [*sorted(ROOT.glob("*.md")), *pages()]
FENCE = re.compile(r"( *)(`{3,}|~{3,}|:{3,})(.*)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def rows(page: str) -> dict[str, list[str]]:
    """The rows of all tables of a page, by their first cell without backticks."""
    lines = (DOCS / page).read_text().splitlines()
    found = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("|"))
    return {cells[0].strip("`"): cells for cells in found}


def test_the_readme_is_one_screen() -> None:
    text = (ROOT / "README.md").read_text()
    assert 500 <= len(text.split()) <= 800
    assert "make demo" in text
    assert "make test" in text


@pytest.mark.parametrize("page", ["README.md", "docs/howto/one-clip.md"])
def test_what_a_user_gets_is_said_where_users_look_first(page: str) -> None:
    text = " ".join((ROOT / page).read_text().split())
    limits = Video2VideoRequest.vendor_limits
    said = (
        f"at most {limits['num_frames']} frames",
        f"{limits['width']}",
        "evenly",
        "stretched to `width` and `height`",
    )
    assert [words for words in (*said, "24 hours", "publishes no price for this endpoint") if words not in text] == []
    assert re.search(r"without sound|no sound", text)


def test_the_quick_start_names_the_flag_for_private_addresses() -> None:
    for page in ("docs/tutorial.md", "docs/howto/endpoint.md"):
        assert "--allow-private-addresses" in (ROOT / page).read_text()


def test_no_generated_part_is_out_of_date() -> None:
    stale = [name_of(path) for path, _ in outdated()]
    assert stale == [], "run `make pages`"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<!-- generate: nothing -->\n<!-- end generate -->", id="unknown name"),
        pytest.param("<!-- generate: attributes -->\n", id="no end"),
        pytest.param("<!-- generate: example modelslab_batch nothing -->\n<!-- end generate -->", id="unknown part"),
    ],
)
def test_a_mark_that_cannot_be_filled_is_an_error(text: str) -> None:
    with pytest.raises(LookupError):
        expand(text)


def test_every_attribute_has_its_range_and_default() -> None:
    table = rows("reference/attributes.md")
    text = (DOCS / "reference" / "attributes.md").read_text().partition("## Origin")[0]
    for name, field in Video2VideoRequest.model_fields.items():
        assert name in table
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        _, kind, span, default, meaning = [cell.strip() for cell in line.strip("|").split("|")]
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
            assert "must not be in extra" not in span  # the refusal of a wrong value is no range
            assert default.strip("`") in {"none", "false"}
        else:
            value = field.default if not isinstance(field.default, tuple) else field.default[0]
            assert default == f"`{value}`"


def test_the_families_that_support_an_attribute_are_named() -> None:
    origins = rows("reference/attributes.md")  # the second table's rows replace those of the first
    assert set(Video2VideoRequest.model_fields) <= set(origins)
    assert "animatediff" in origins["motion_module"][3]
    assert origins["instant_response"][2] == "`true`"


@pytest.mark.parametrize("path", example_dags(), ids=lambda path: path.stem)
def test_every_marked_part_of_an_example_is_on_a_page(path: Path) -> None:
    shown = "\n".join(page.read_text() for page in pages())
    missing = [name for name in parts(path) if f"<!-- generate: example {path.stem} {name} -->" not in shown]
    assert missing == []


ROOMS = ("api", "batch", "storage", "client", "operators", "hooks")


def exceptions() -> set[str]:
    """Every public failure of the rooms that users call; those of the API server's pages never leave them."""
    rooms = tuple(f"{airflow_provider_modelslab.__name__}.{room}." for room in ROOMS)
    for room in ROOMS:
        package = importlib.import_module(f"airflow_provider_modelslab.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)

    def below(cls: type[ModelsLabError]) -> Iterator[type[ModelsLabError]]:
        for child in cls.__subclasses__():
            yield child
            yield from below(child)

    return {
        cls.__name__
        for cls in below(ModelsLabError)
        if cls.__module__.startswith(rooms) and not cls.__name__.startswith("_")
    }


def test_every_exception_has_its_meaning() -> None:
    assert exceptions() == {cls.__name__ for cls in public()}
    table = rows("reference/errors.md")
    text = (DOCS / "reference" / "errors.md").read_text().partition("## Outcomes")[0]
    for cls in public():
        assert cls.code.value in table
        line = next(line for line in text.splitlines() if line.startswith(f"| `{cls.code.value}` |"))
        assert f"`{cls.__name__}`" in line
        assert len(line.split("|")[3].split()) > 4


def test_every_error_code_says_what_to_do() -> None:
    _, _, text = (DOCS / "troubleshooting.md").read_text().partition("## By error code")
    found = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert [code for code, _, _ in found] == sorted(ErrorCode)
    assert [code for code, _, cost in found if not cost.startswith(("free", "pays"))] == []


def test_every_connection_field_is_there() -> None:
    table = rows("reference/connection.md")
    (kind,) = json.loads(json.dumps(get_provider_info()))["connection-types"]
    labels = {name: field["label"] for name, field in kind["conn-fields"].items()}
    for name, label in (labels | kind["ui-field-behaviour"]["relabeling"]).items():
        assert table[name][1] == label


def test_every_flag_of_the_endpoint_is_there() -> None:
    text = (DOCS / "howto" / "endpoint.md").read_text()
    flags = [
        flag for action in build_parser()._actions for flag in action.option_strings if flag not in {"-h", "--help"}
    ]
    assert "--state-dir" in flags
    assert [flag for flag in flags if flag not in text] == []


def test_the_fields_of_a_results_manifest_are_named() -> None:
    clip = ClipPlan(0, "s3://bucket/in.mp4", {}, S3Uri("bucket", "out.mp4"), Fingerprint("a", "b"), "mp4")
    failed = Outcome.failed(ValueError("why"))
    said = rows("reference/storage.md")["<destination>/_modelslab/batches/<dag>/<task>/<run>.jsonl"][1]
    assert set(report.result_line(clip, failed)) <= set(re.findall(r"\w+", said))


def test_the_rooms_of_the_package_are_on_the_page_of_the_architecture() -> None:
    package = Path(airflow_provider_modelslab.__file__).parent
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    text = (DOCS / "explanation" / "architecture.md").read_text()
    assert [room for room in sorted(rooms) if f"`{room}`" not in text] == []


PLANNED = {"seconds": 5.85, "cpu_s": 4.1, "peak_mib": 97.0, "requests": 10, "clips": 10_000}
LARGE = {"mib_per_s": 388.4, "rss_mib": 39.0}
SMALL = {"results_per_s": 41.5, "cpu_ms_per_result": 12.5, "rss_mib": 35.0}
CAMPAIGN = {"seed": 7, "faults": 2500, "kills": 900, "least_hit_phase": {"name": "start", "hits": 31}}
LOOKED = {"on_schedule": 0.9987, "looks_per_s": 240.3, "open_files": 107}


@pytest.mark.parametrize(
    ("name", "data", "row"),
    [
        pytest.param("batch_plan", {"plan": PLANNED}, "named | 10,000 | 5.85 | 4.1 | 97 | 10 |", id="a plan"),
        pytest.param("faults-7", CAMPAIGN, "| 7 | 2,500 | 900 | 31 |", id="one campaign of several"),
        pytest.param("landing", {"ours": LARGE, "many": {"ours": SMALL}}, "verified | 388 | 39 |", id="a large result"),
        pytest.param("landing", {"ours": LARGE, "many": {"ours": SMALL}}, "verified | 41.5 | 12.5 | 35 |", id="many"),
        pytest.param("waiting", [{"jobs": 5000, "batch": LOOKED}], "all of them | 0.999 | 240 | -", id="one for all"),
    ],
)
@pytest.mark.parametrize(
    "recorded", [{"command": "python -m benchmarks.this --as it was"}, {}], ids=["command", "no command"]
)
def test_results_are_laid_out_with_their_command(
    tmp_path: Path, name: str, data: Any, row: str, recorded: dict[str, str]
) -> None:
    kept = tmp_path / f"{name}.json"
    kept.write_text(json.dumps([recorded | data[0]] if isinstance(data, list) else recorded | data))
    section = figures._section(kept)
    assert row in section
    benchmark = name.partition("-")[0]
    assert f"Command: `{recorded.get('command', f'python -m benchmarks.{benchmark} ')}" in section
    assert ("does not name the command" in section) == (not recorded)


def test_every_kept_result_is_on_the_page() -> None:
    text = (DOCS / "reference" / "performance.md").read_text()
    results = figures.results()
    assert results
    assert [path.name for path in results if f"benchmarks/results/{path.name}" not in text] == []
    ours = json.loads((ROOT / "benchmarks/results/batch.json").read_text())["ours"]
    assert f"{ours['cpu_s_per_clip']:.3g}" in rows("reference/performance.md")["ModelsLabVideo2VideoBatchOperator"]


@pytest.mark.parametrize("path", figures.results(), ids=name_of)
def test_every_kept_result_has_a_command(path: Path) -> None:
    assert figures.command(path, json.loads(path.read_text())).startswith("python -m ")


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_every_fence_is_closed_and_says_what_it_holds(path: Path) -> None:
    opened: tuple[int, str] | None = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = FENCE.fullmatch(line)
        if fence is None:
            continue
        _, marks, info = fence.groups()
        if opened is None:
            assert info.strip(), f"line {number} opens a block without a language"
            opened = number, marks
        elif marks.startswith(opened[1]):
            assert not info.strip(), f"line {number} opens a block within the one of line {opened[0]}"
            opened = None
    assert opened is None, f"the block of line {opened} is open"


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_links_lead_somewhere_and_have_a_text(path: Path) -> None:
    text = path.read_text()
    assert "[](" not in text, "GitHub does not show a link without a text"
    dead = []
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        page = (path.parent / target).resolve() if target else path
        if not page.exists() or (anchor and page.suffix == ".md" and anchor not in anchors(page)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_pages_read_the_same_on_github(path: Path) -> None:
    assert re.findall(r"\{(?:py:\w+|literalinclude|figure)\}", path.read_text()) == []


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_files_of_the_repository_that_a_page_names_exist(path: Path) -> None:
    named = re.findall(r"`((?:tests|tools|benchmarks|docs|dags_examples)/[\w/.*-]*\w)`", path.read_text())
    assert [name for name in named if not (any(ROOT.glob(name)) or any(ROOT.glob(f"{name}.py")))] == []


def test_every_image_is_on_a_page() -> None:
    shown = "\n".join(path.read_text() for path in MARKDOWN)
    assert [path.name for path in (DOCS / "images").iterdir() if path.name not in shown] == []


def test_every_class_on_a_page_exists() -> None:
    used = set(re.findall(r"`((?:ModelsLab|Local)\w+)\(?", "\n".join(path.read_text() for path in pages())))
    package = Path(airflow_provider_modelslab.__file__).parent
    defined = set(
        re.findall(r"^class (\w+)", "\n".join(path.read_text() for path in package.rglob("*.py")), re.MULTILINE)
    )
    assert "ModelsLabVideo2VideoOperator" in used
    assert used - defined == set()
