"""The connection's fields and the settings, from what the provider tells Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_modelslab import get_provider_info
from tools.pages.markdown import code, from_rst, table

__all__ = ["fields", "settings"]

_STANDARD = ("host", "login", "password", "port", "schema")


def fields() -> str:
    """One table for the standard fields, one for the fields that are kept in the extra."""
    info: Any = get_provider_info()
    (kind,) = info["connection-types"]
    behaviour = kind.get("ui-field-behaviour", {})
    hidden, labels = behaviour.get("hidden-fields", []), behaviour.get("relabeling", {})
    placeholders = behaviour.get("placeholders", {})
    standard = table(
        ["field", "in the form", "example"],
        (
            [code(name), labels.get(name, name), code(placeholders[name]) if name in placeholders else ""]
            for name in _STANDARD
            if name not in hidden
        ),
    )
    extra = table(
        ["extra", "in the form", "default", "meaning"],
        (_row(name, field) for name, field in kind.get("conn-fields", {}).items()),
    )
    return f"{standard}\n\n{extra}"


def settings() -> str:
    """The provider's options in Airflow's configuration."""
    info: Any = get_provider_info()
    sections = [section["options"] for section in info.get("config", {}).values()]
    return table(
        ["option", "type", "default", "meaning"],
        (
            [code(name), option["type"], code(option["default"]) if option["default"] else "", option["description"]]
            for options in sections
            for name, option in options.items()
        ),
    )


def _row(name: str, field: Mapping[str, Any]) -> list[str]:
    default = field.get("schema", {}).get("default")
    return [
        code(name),
        str(field["label"]),
        "" if default is None else code(default),
        from_rst(str(field.get("description") or "")),
    ]
