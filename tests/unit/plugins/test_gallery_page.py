"""The gallery's own files and its registration: nothing from elsewhere, nothing that data could turn into markup."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module, resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_modelslab import get_provider_info
from airflow_provider_modelslab.plugins.gallery.plugin import GALLERY_PREFIX, ModelsLabGalleryPlugin
from airflow_provider_modelslab.plugins.task_results import is_ours

_FOLDER = resources.files("airflow_provider_modelslab.plugins.gallery").joinpath("static")
FILES = {file.name: file.read_text() for file in _FOLDER.iterdir()}
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|srcdoc")
ELSEWHERE = re.compile(r"(?<!xmlns=\")(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", re.IGNORECASE)


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = FILES[name].replace("http://www.w3.org/2000/svg", "")
    assert not ELSEWHERE.search(text)
    assert "@import" not in text


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.endswith(".js")))
def test_data_never_becomes_markup(name: str) -> None:
    assert not MARKUP.search(FILES[name])


def test_the_page_has_no_script_or_style_of_its_own() -> None:
    page = FILES["index.html"]
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)


def test_all_modules_are_there() -> None:
    for name, text in FILES.items():
        if name.endswith(".js"):
            assert set(re.findall(r'from "\./([^"]+)"', text)) <= set(FILES)


def test_the_views_fill_in_what_airflow_knows() -> None:
    views = {view["destination"]: view for view in ModelsLabGalleryPlugin.external_views}
    assert set(views) == {"nav", "task_instance"}
    href = urlsplit(views["task_instance"]["href"])
    assert not href.path.startswith("/")  # relative to Airflow's base URL
    assert f"/{href.path}".startswith(GALLERY_PREFIX)
    assert parse_qs(href.query) == {
        "dag_id": ["{DAG_ID}"], "run_id": ["{RUN_ID}"], "task_id": ["{TASK_ID}"], "map_index": ["{MAP_INDEX}"],
    }  # fmt: skip


def test_the_tab_is_on_the_tasks_of_this_provider_alone() -> None:
    """On Airflow 3.4, whose ``operator_name`` is that of a decorator where a task has one."""
    (tab,) = (view for view in ModelsLabGalleryPlugin.external_views if view["destination"] == "task_instance")
    shown = set(tab["applies_to"]["task_instance.operator_name"])
    info: dict[str, Any] = get_provider_info()
    modules = [name for group in info["operators"] + info["sensors"] for name in group["python-modules"]]
    found = {
        name
        for module in map(import_module, modules)
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and is_ours(name) and name[0] != "_"
    }
    assert shown >= {name for name in found if name.endswith(("Operator", "Sensor"))}
    assert shown >= {f"@task.{decorator['name']}" for decorator in info["task-decorators"]}


@pytest.mark.slow
def test_the_tab_can_be_left_out() -> None:
    """Below Airflow 3.4 it is on the tasks of all others too."""
    code = (
        "from airflow_provider_modelslab.plugins.gallery.plugin import ModelsLabGalleryPlugin as plugin; "
        "print(*(view['destination'] for view in plugin.external_views))"
    )
    for said, shown in {"True": ["nav", "task_instance"], "False": ["nav"]}.items():
        env = os.environ | {"AIRFLOW__MODELSLAB__VIDEO_TAB": said}
        run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert run.stdout.split() == shown


def test_the_provider_names_the_plugin() -> None:
    plugins = get_provider_info()["plugins"]
    assert isinstance(plugins, list)
    assert f"{ModelsLabGalleryPlugin.__module__}.{ModelsLabGalleryPlugin.__name__}" in {
        plugin["plugin-class"] for plugin in plugins
    }


@pytest.mark.slow
def test_every_process_loads_the_plugin_so_it_loads_nothing_else() -> None:
    code = (
        "import sys, airflow.plugins_manager; "
        "from airflow.providers.common.compat.sdk import AirflowPlugin; before = set(sys.modules); "
        "import airflow_provider_modelslab.plugins.gallery.plugin; print(*sorted(set(sys.modules) - before))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    found = printed.splitlines()[-1].split()  # Airflow 3.1 logs to it before
    assert [name for name in found if not name.startswith("airflow_provider_modelslab")] == []
    assert "airflow_provider_modelslab.plugins.gallery.app" not in found
