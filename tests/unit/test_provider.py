"""What Airflow learns of the provider before it loads any of its parts."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import subprocess
import sys
import types
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
from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.jobs.budgets import _find, prices_of
from airflow_provider_modelslab.operators.paid_job import PaidJobOperator
from airflow_provider_modelslab.operators.whole_clip import WholeClipOperator
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from tests.support.airflow_versions import AIRFLOW
from tests.support.connections import set_connection

DIST = "airflow-provider-modelslab"
PARTS = ("hooks", "operators", "sensors", "triggers")
READ = {*S3Profile.__dataclass_fields__, "prices", "budgets", "catalog", "webhook_url", "webhook_token"}
"""What is read of a connection's extra."""


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
    # The others hold what these have in common, or a base class.
    kinds = ("Hook", "Operator", "Sensor", "Trigger")
    for_users = {name for name in names if any(c.endswith(kinds) for c in importlib.import_module(name).__all__)}
    assert for_users - {PaidJobOperator.__module__, WholeClipOperator.__module__} == set(modules(info))


def is_durable(operator: type) -> bool:
    """As Airflow's registry sees it: the class whose ``execute`` runs says so itself, a base class does not do."""
    [owner, *_] = [cls for cls in operator.__mro__ if "execute" in vars(cls)]
    return bool(vars(owner).get(f"_{owner.__name__}__supports_durable_execution", False))


def test_what_goes_on_after_a_retry_says_so_to_the_registry(info: dict[str, Any]) -> None:
    names = [name for entry in info["operators"] for name in entry["python-modules"]]
    operators = {getattr(module, name) for module in map(importlib.import_module, names) for name in module.__all__}
    assert {cls.__name__ for cls in operators if is_durable(cls)} == {
        "LocalVideo2VideoBatchOperator",
        "ModelsLabVideo2VideoBatchOperator",
        "ModelsLabVideo2VideoOperator",
    }


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Airflow has retry policies since 3.3")
def test_the_retry_policy_is_listed(info: dict[str, Any]) -> None:
    [entry] = info["retry-policies"]
    [module] = map(importlib.import_module, entry["python-modules"])
    assert module.__all__ == ["ModelsLabRetryPolicy"]
    schema = json.loads((Path(airflow.__file__).parent / "provider.yaml.schema.json").read_text())["properties"]
    if "retry-policies" in schema:  # since Airflow 3.4
        jsonschema.Draft7Validator(schema["retry-policies"]).validate(info["retry-policies"])


@pytest.mark.skipif(AIRFLOW < (3, 2), reason="Airflow 3.1 builds its forms in the API server alone")
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
    assert shown == set(info["connection-types"][0]["conn-fields"]) == READ
    secret = {name for name in shown if fields[f"extra__modelslab__{name}"].is_sensitive}
    assert secret == {name for name in READ if "token" in name}
    assert behaviour["relabeling"] == {"password": "API key", "host": "Base URL"}
    # Other providers may warn of themselves.
    assert [str(entry.message) for entry in caught if "modelslab" in str(entry.message).lower()] == []


def test_the_form_is_as_airflow_describes_forms(info: dict[str, Any]) -> None:
    """The schema of provider.yaml, which Airflow ships beside the one it validates with, describes forms."""
    file = Path(airflow.__file__).parent / "provider.yaml.schema.json"
    if not file.exists():
        pytest.skip("this Airflow does not ship the schema of provider.yaml")
    schema = json.loads(file.read_text())["properties"]["connection-types"]
    if "conn-fields" not in schema["items"]["properties"]:
        pytest.skip("this Airflow takes the form from the hook alone")
    jsonschema.Draft7Validator(schema).validate(info["connection-types"])


def test_every_field_says_what_it_is_for(info: dict[str, Any]) -> None:
    fields = info["connection-types"][0]["conn-fields"]
    for name, field in fields.items():
        assert field["label"][0].isupper(), name
        assert field["description"].endswith("."), name
        assert field["schema"]["type"] == ["string", "null"], name  # what is left empty is stored as null
        jsonschema.Draft7Validator.check_schema(field["schema"])
    assert len({field["label"] for field in fields.values()}) == len(fields)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "bucket",
            ["clips", "a.b-c", "my_bucket", "Old.Bucket", "a" * 255, None],
            ["No Bucket", "ab", "a" * 256, "s3://clips"],
        ),
        ("endpoint_url", ["https://s3.example.com", "http://minio:9000/", None], ["s3.example.com", "https://a?b=c"]),
        ("public_url", ["https://cdn.example.com/clips"], ["ftp://host", "https://user:pw@host"]),
        ("region", ["eu-central-1", "auto", "home"], []),
    ],
)
def test_what_the_form_allows_the_profile_takes(
    info: dict[str, Any], name: str, good: list[str | None], bad: list[str]
) -> None:
    schema = info["connection-types"][0]["conn-fields"][name]["schema"]
    for value in good:
        jsonschema.Draft7Validator(schema).validate(value)
        assert getattr(S3Profile.from_extra({name: value}), name) == (value.rstrip("/") if value else None)
    for value in bad:
        assert not jsonschema.Draft7Validator(schema).is_valid(value)
        with pytest.raises(StorageConfigurationError):
            S3Profile.from_extra({name: value})


def test_prices_and_budgets_are_as_the_form_proposes_them(
    info: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the form stores them, which is text."""
    fields = info["connection-types"][0]["conn-fields"]
    for text in fields["prices"]["schema"]["examples"]:
        set_connection(monkeypatch, "modelslab_default", "modelslab", extra={"prices": text})
        prices = prices_of(ModelsLabHook())
        assert prices is not None
        assert prices.currency == "EUR"
    for text in fields["budgets"]["schema"]["examples"]:
        set_connection(monkeypatch, "modelslab_default", "modelslab", extra={"budgets": text})
        ((name, given),) = json.loads(text).items()
        rule, _ = _find(ModelsLabHook(), name)
        assert (rule.name, rule.per) == (name, given["per"])
    set_connection(monkeypatch, "modelslab_default", "modelslab", extra={"prices": None, "budgets": ""})
    assert prices_of(ModelsLabHook()) is None


def test_the_hook_says_the_same_in_its_own_words(info: dict[str, Any]) -> None:
    metadata = info["connection-types"][0]["ui-field-behaviour"]
    in_code = ModelsLabHook.get_ui_field_behaviour()
    assert {name.replace("_", "-"): value for name, value in in_code.items()} == metadata


def test_the_hook_has_the_same_fields(info: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 3.1 asks the hook; its API server puts stand-ins in the place of WTForms, as is done here."""
    wtforms = types.ModuleType("wtforms")
    for kind in ("StringField", "PasswordField"):
        setattr(wtforms, kind, functools.partial(_field, kind))
    monkeypatch.setitem(sys.modules, "wtforms", wtforms)
    fields = info["connection-types"][0]["conn-fields"]
    assert ModelsLabHook.get_connection_form_widgets() == {
        name: {
            "kind": "PasswordField" if field["schema"].get("format") == "password" else "StringField",
            "label": field["label"],
            "description": field["description"],
            "default": field["schema"].get("default"),
        }
        for name, field in fields.items()
    }


def _field(kind: str, label: str, *, description: str, default: str | None) -> dict[str, Any]:
    return {"kind": kind, "label": label, "description": description, "default": default}


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
    assert done.stdout.split() == ["airflow_provider_modelslab", "airflow_provider_modelslab.connection_form"]
