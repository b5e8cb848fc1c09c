"""What Airflow learns of the provider before it loads any of its parts."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow
import jsonschema  # type: ignore[import-untyped]
import pytest
from airflow.providers_manager import ProvidersManager
from packaging.utils import canonicalize_name

import airflow_provider_modelslab
from airflow_provider_modelslab import get_provider_info
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.storage.profile import S3Profile

DIST = "airflow-provider-modelslab"
PARTS = ("hooks", "operators", "sensors", "triggers")


@pytest.fixture(scope="module")
def info() -> dict[str, Any]:
    return get_provider_info()


def test_the_installed_airflow_takes_the_metadata(info: dict[str, Any]) -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(info)
    jsonschema.Draft7Validator.check_schema(schema)


def test_the_package_name_is_the_distribution(info: dict[str, Any]) -> None:
    # Airflow refuses the provider, and with it every command, when they differ.
    assert info["package-name"] == canonicalize_name(importlib.metadata.metadata(DIST)["Name"]) == DIST
    assert importlib.metadata.version(DIST) == airflow_provider_modelslab.__version__


def test_the_entry_point_leads_to_the_metadata(info: dict[str, Any]) -> None:
    [entry] = importlib.metadata.distribution(DIST).entry_points.select(group="apache_airflow_provider")
    assert entry.load()() == info


def modules(info: dict[str, Any]) -> Iterator[str]:
    for part in PARTS:
        for entry in info[part]:
            yield from entry["python-modules"]


def test_every_listed_module_and_class_is_there(info: dict[str, Any]) -> None:
    for name in modules(info):
        assert importlib.import_module(name).__all__
    [connection] = info["connection-types"]
    module, _, name = connection["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is ModelsLabHook
    assert connection["connection-type"] == ModelsLabHook.conn_type
    assert connection["hook-name"] == ModelsLabHook.hook_name


def test_every_module_with_something_for_users_is_listed(info: dict[str, Any]) -> None:
    root = Path(airflow_provider_modelslab.__file__).parent
    names = {
        f"airflow_provider_modelslab.{part}.{path.stem}"
        for part in PARTS
        for path in (root / part).glob("*.py")
        if path.stem != "__init__"
    }
    # The others hold what these have in common.
    kinds = ("Hook", "Operator", "Sensor", "Trigger")
    for_users = {name for name in names if any(c.endswith(kinds) for c in importlib.import_module(name).__all__)}
    assert for_users == set(modules(info))


def test_airflow_shows_the_connection_form(info: dict[str, Any]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        manager = ProvidersManager()
        hook = manager.hooks["modelslab"]
        fields = manager.connection_form_widgets
        behaviour = manager.field_behaviours["modelslab"]
    assert hook is not None
    assert (hook.hook_class_name, hook.package_name) == (f"{ModelsLabHook.__module__}.ModelsLabHook", DIST)
    assert hook.connection_id_attribute_name == "modelslab_conn_id"
    assert hook.connection_testable
    shown = {name.removeprefix("extra__modelslab__") for name in fields if name.startswith("extra__modelslab__")}
    assert shown == set(info["connection-types"][0]["conn-fields"]) == set(S3Profile.__dataclass_fields__)
    assert not any(fields[f"extra__modelslab__{name}"].is_sensitive for name in shown)
    assert behaviour["relabeling"] == {"password": "API key", "host": "Base URL"}
    # Other providers may warn of themselves.
    assert [str(entry.message) for entry in caught if "modelslab" in str(entry.message).lower()] == []


def test_both_forms_of_the_connection_form_say_the_same(info: dict[str, Any]) -> None:
    metadata = info["connection-types"][0]["ui-field-behaviour"]
    in_code = ModelsLabHook.get_ui_field_behaviour()
    assert in_code["hidden_fields"] == metadata["hidden-fields"]
    assert in_code["relabeling"] == metadata["relabeling"]
    assert in_code["placeholders"]["host"] == metadata["placeholders"]["host"]
    assert set(json.loads(in_code["placeholders"]["extra"])) <= set(S3Profile.__dataclass_fields__)


def test_the_defaults_in_the_form_are_the_profiles(info: dict[str, Any]) -> None:
    fields = info["connection-types"][0]["conn-fields"]
    told = {name: field["schema"]["default"] for name, field in fields.items() if "default" in field["schema"]}
    assert told == {"aws_conn_id": S3Profile().aws_conn_id}


def test_the_import_loads_nothing_heavy() -> None:
    program = (
        "import sys; before = set(sys.modules); import airflow_provider_modelslab as p; p.get_provider_info();"
        "print(*sorted(set(sys.modules) - before - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["airflow_provider_modelslab"]
